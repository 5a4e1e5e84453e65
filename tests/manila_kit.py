"""The Shared File Systems API in this process, for callers of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from cryptography.fernet import Fernet

from isthmus.service.manila.app import Manila
from isthmus.service.policy import Policy
from isthmus.service.seal import Seal
from isthmus.service.service import Service
from isthmus.store import Store
from isthmus.wire.manila import version
from tests.api_kit import HeaderVoucher, as_caller

GATEWAY = "169.254.77.2"


class Client:
    """Asks as one caller in one version unless told otherwise."""

    def __init__(self, http: httpx.AsyncClient, caller: str = "owner", minor: int = version.MAX) -> None:
        self.http, self.caller, self.minor = http, caller, minor

    async def ask(
        self, method: str, path: str, body: Any = None, *, caller: str = "", minor: int = -1, **headers: str
    ) -> httpx.Response:
        """The answer."""
        sent = {
            **as_caller(caller or self.caller),
            version.HEADER: version.shown(self.minor if minor < 0 else minor),
            **headers,
        }
        return await self.http.request(method, f"/v2{path}", json=body, headers=sent)

    async def get(self, path: str, **more: Any) -> Any:
        """What is there. Fails unless it is."""
        answer = await self.ask("GET", path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def do(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """What came of it. Fails unless it was done."""
        answer = await self.ask(method, path, body, **more)
        assert answer.status_code in (200, 202, 204), answer.text
        return answer.json() if answer.content else None

    async def refused(self, status: int, method: str, path: str, body: Any = None, **more: Any) -> str:
        """Why it was not done. Fails unless it was refused with this status."""
        answer = await self.ask(method, path, body, **more)
        assert answer.status_code == status, (answer.status_code, answer.text)
        (fault,) = answer.json().values()
        assert fault["code"] == status
        return str(fault["message"])

    async def share(self, **wanted: Any) -> Any:
        """A share of 1 GiB, asked for."""
        return (await self.do("POST", "/shares", {"share": {"share_proto": "NFS", "size": 1, **wanted}}))["share"]


@asynccontextmanager
async def manila_over(store: Store) -> AsyncIterator[Client]:
    """Requests to a service over this store."""
    service = Service(store)
    try:
        async with manila_of(service) as client:
            yield client
    finally:
        await service.close()


@asynccontextmanager
async def manila_of(service: Service, policy: Policy | None = None) -> AsyncIterator[Client]:
    """Requests to the service."""
    app = Manila(service, HeaderVoucher(), policy or Policy(), gateway=GATEWAY, seal=Seal(Fernet.generate_key()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://isthmus") as http:
        yield Client(http)
