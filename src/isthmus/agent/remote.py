"""The service behind HTTP, on a unix socket or a loopback port."""

from __future__ import annotations

from types import TracebackType

import httpx
import msgspec

from isthmus.model.desired import Desired, Report
from isthmus.model.errors import IsthmusError, NotFound, Unavailable
from isthmus.model.names import HostName
from isthmus.wire.agent import decode_desired, encode_report

SLACK = 10.0
"""Seconds that an answer may take beyond what was asked to wait."""


class RemoteOrders:
    """``equipment.Orders`` over HTTP. ``service``: ``unix:/path`` or ``http://127.0.0.1:PORT``."""

    def __init__(self, service: str) -> None:
        self._service = service
        path = service.removeprefix("unix:") if service.startswith("unix:") else None
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=path) if path else None,
            base_url="http://isthmus" if path else service,
            timeout=SLACK,
            trust_env=False,
        )

    async def __aenter__(self) -> RemoteOrders:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def desired(self, host: HostName, after: int, timeout: float) -> Desired | None:  # noqa: ASYNC109
        """See ``Orders``."""
        answer = await self._ask(
            "GET",
            f"/v1/hosts/{host}/desired",
            params={"after": str(after), "timeout": f"{timeout:g}"},
            timeout=timeout + SLACK,
        )
        return decode_desired(answer.content) if answer.status_code == httpx.codes.OK else None

    async def report(self, report: Report) -> None:
        """See ``Orders``."""
        await self._ask(
            "POST",
            f"/v1/hosts/{report.host}/report",
            content=encode_report(report),
            headers={"Content-Type": "application/json"},
        )

    async def _ask(self, method: str, path: str, **options: object) -> httpx.Response:
        try:
            answer = await self._client.request(method, path, **options)  # type: ignore[arg-type]
        except httpx.HTTPError as error:
            raise Unavailable(
                f"cannot reach the service at {self._service}: {error or type(error).__name__}",
                code="service-unreachable",
            ) from error
        if answer.is_success:
            return answer
        raise _fault(answer, path)


def _fault(answer: httpx.Response, path: str) -> IsthmusError:
    """The service's error, as far as an agent tells errors apart."""
    try:
        message = msgspec.json.decode(answer.content)["error"]["message"]
    except (msgspec.DecodeError, KeyError, TypeError):
        message = f"cannot use {path}: the service answered {answer.status_code}"
    if answer.status_code == httpx.codes.NOT_FOUND:
        return NotFound("host", path.split("/")[3])
    return Unavailable(str(message), code="service-refused")
