"""A host of one's own: ``isthmus up`` in a process that can be killed, and its API as plain calls.

async with Site(work, prefix="istest1") as site:
    share = await site.share(size=1 << 30)
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from isthmus.model.config import Config, parse_config
from isthmus.model.layout import Layout
from lab.sweep import sweep

Json = dict[str, Any]


class SiteError(Exception):
    """The API refused: ``status`` and ``code`` as it gave them."""

    def __init__(self, status: int, error: Json) -> None:
        super().__init__(f"{status} {error.get('code')}: {error.get('message')}")
        self.status = status
        self.code = str(error.get("code"))
        self.message = str(error.get("message"))


class Site:
    """Everything below ``work`` and ``prefix``. Leaving ends the process and removes whatever is still there."""

    def __init__(self, work: Path, prefix: str, *, audit: float = 5.0) -> None:
        self.work, self.prefix = work, prefix
        self.config_file = work / f"{prefix}.toml"
        self.log = work / f"{prefix}.log"
        self.run = Path(f"/run/{prefix}")
        work.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(
            f'host = "{prefix}"\n[paths]\nprefix = "{prefix}"\nrun = "{self.run}"\nstate = "{work}/state"\n'
            f"[agent]\naudit = {audit}\n"
        )
        self.config: Config = parse_config(self.config_file.read_text())
        self._pools: dict[str, Path] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(self.layout.api_socket)), base_url="http://isthmus", timeout=70
        )

    @property
    def layout(self) -> Layout:
        """The names on the host."""
        return self.config.layout

    @property
    def pid(self) -> int:
        """Of ``isthmus up``."""
        if self._process is None:
            raise RuntimeError("the site was not started")
        return self._process.pid

    async def __aenter__(self) -> Site:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        await self._client.aclose()
        left = await sweep(self.config, self._pools)
        if left:
            raise RuntimeError(f"the site could not be taken down: {left}")

    async def start(self, *program: str) -> None:
        """``isthmus up``, answering. ``program``: what to run instead of ``isthmus``."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(program or (sys.executable, "-m", "isthmus")),
                *("--config", str(self.config_file), "up"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(20):
            while self._process.returncode is None:
                with contextlib.suppress(httpx.TransportError):
                    await self._client.get("/v1/health")
                    return
                await asyncio.sleep(0.01)
        raise RuntimeError(f"isthmus up ended: {self.log.read_text()[-4000:]}")

    async def ended(self) -> int:
        """Wait until the process has ended; its exit code."""
        if self._process is None:
            raise RuntimeError("the site was not started")
        return await self._process.wait()

    async def stop(self) -> None:
        """Ended as by an operator."""
        await self._end("terminate")

    async def kill(self) -> None:
        """Ended as by a crash."""
        await self._end("kill")

    async def _end(self, how: str) -> None:
        if self._process is not None and self._process.returncode is None:
            getattr(self._process, how)()
            await self._process.wait()

    # The API.

    async def call(self, method: str, path: str, body: Json | None = None, **query: Any) -> Any:
        """One request. Raises ``SiteError``."""
        answer = await self._client.request(method, f"/v1/{path}", json=body, params=query)
        if answer.is_error:
            raise SiteError(answer.status_code, answer.json()["error"])
        return answer.json() if answer.content else None

    async def settled(self, path: str, *, deadline: float = 30.0) -> Json | None:
        """The object once its status is at rest; None once it is gone. Raises ``TimeoutError``."""
        moving = ("creating", "extending", "shrinking", "reverting", "deleting", "attaching", "detaching")
        query: Json = {}
        async with asyncio.timeout(deadline):
            while True:
                try:
                    found = await self.call("GET", path, **query)
                except SiteError as error:
                    if error.status == httpx.codes.NOT_FOUND:
                        return None
                    raise
                if found is not None:
                    if found.get("status") not in moving:
                        return dict(found)
                    query = {"after": found["revision"], "timeout": deadline}

    async def until(self, path: str, status: str, *, deadline: float = 30.0) -> Json:
        """The object once it has this status."""
        query: Json = {}
        async with asyncio.timeout(deadline):
            while True:
                found = await self.call("GET", path, **query)
                if found is not None:
                    if found["status"] == status:
                        return dict(found)
                    query = {"after": found["revision"], "timeout": deadline}

    async def pool(self, name: str = "pool", path: Path | None = None, **more: Any) -> Json:
        """A pool that its host can use."""
        directory = path or self.work / name
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._pools[name] = directory
        await self.call("POST", "pools", {"name": name, "host": self.prefix, "path": str(directory), **more})
        found = await self.call("GET", f"pools/{name}")
        async with asyncio.timeout(10):
            while not found["total"]:
                found = await self.call("GET", f"pools/{name}", after=found["revision"], timeout=10) or found
        return dict(found)

    async def share(self, size: int = 1 << 30, *, pool: str = "pool", wait: bool = True, **more: Any) -> Json:
        """A share, available."""
        made = await self.call("POST", "shares", {"project": "demo", "pool": pool, "size": size, **more})
        return dict(await self.until(f"shares/{made['id']}", "available") if wait else made)

    async def guest(self, guest_id: str | None = None, **more: Any) -> Json:
        """A registered guest."""
        ident = guest_id or str(uuid.uuid4())
        return dict(await self.call("POST", "guests", {"id": ident, "project": "demo", "host": self.prefix, **more}))

    async def attach(self, share: str, guest: str, *, status: str = "attached", **more: Any) -> Json:
        """An attachment that has come as far as ``status``."""
        made = await self.call("POST", "attachments", {"share": share, "guest": guest, **more})
        return await self.until(f"attachments/{made['id']}", status)

    async def remove(self, path: str) -> None:
        """Deleted, and gone."""
        await self.call("DELETE", path)
        found = await self.settled(path)
        if found is not None:
            raise RuntimeError(f"{path} is still there: {found}")

    async def take_down(self) -> None:
        """Everything that the API knows is gone, in the order that it asks for."""
        for noun in ("attachments", "snapshots", "shares"):
            before = None
            while (items := (await self.call("GET", noun))["items"]) and items != before:
                for item in items:
                    with contextlib.suppress(SiteError):
                        await self.call("DELETE", f"{noun}/{item['id']}")
                for item in items:
                    await self.settled(f"{noun}/{item['id']}")
                before = items
        for guest in (await self.call("GET", "guests"))["items"]:
            await self.call("DELETE", f"guests/{guest['id']}")
        for pool in (await self.call("GET", "pools"))["items"]:
            await self.call("DELETE", f"pools/{pool['name']}")
