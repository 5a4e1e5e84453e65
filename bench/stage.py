"""Where a part is played: ``isthmus up`` with a pool, perhaps a booted guest, and nothing left afterwards."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.machine import is_mounted
from isthmus.host import netns
from isthmus.host.cgroup import Cgroups
from isthmus.model.attachment import Mode
from isthmus.model.config import parse_config
from isthmus.model.names import GuestId, ShareId, new_id
from lab.guest import Guest
from lab.site import Json, Site

AUDIT = parse_config("").audit
"""Seconds between two full looks at the host, as the product has it by default."""
PAYLOAD = "one byte is what is asked for\n"
SETTLES = 20.0
"""Seconds within which what was taken down is gone."""


class LeftBehind(Exception):
    """The host is not as it was."""


@dataclass(frozen=True)
class Run:
    """How to measure. ``quick``: a few rounds, to see that all works. ``say``: progress for whoever waits."""

    quick: bool
    say: Callable[[str], None]

    def rounds(self, many: int, few: int) -> int:
        """How often to measure something."""
        return few if self.quick else many


@dataclass(frozen=True)
class Stage:
    """A host of one's own."""

    site: Site
    cgroups: Cgroups

    async def seeded(self, guest: str, **more: Any) -> Json:
        """A share with a file ``f``, attached nowhere and not mounted. ``guest`` has it for a moment."""
        share = await self.site.share(10 << 30, **more)
        attachment = await self.attach(share["id"], guest, "/seed", running=False)
        await asyncio.to_thread(self.on_host(share["id"], "f").write_text, PAYLOAD)
        await self.detach(attachment)
        return share

    async def snapshot(self, share: str) -> Json:
        """A snapshot of a share, available."""
        made = await self.site.call("POST", "snapshots", {"share": share})
        return await self.site.until(f"snapshots/{made['id']}", "available")

    async def attach(self, share: str, guest: str, at: str, *, running: bool = True) -> Json:
        """An attachment that is ready; ``running``: in a guest that runs."""
        return await self.site.attach(share, guest, at=at, status="attached" if running else "waiting")

    async def detach(self, attachment: Json) -> None:
        """Gone, and the host has unmounted the share."""
        await self.site.remove(f"attachments/{attachment['id']}")
        await self.unmounted(attachment["share"])

    async def unmounted(self, share: str) -> None:
        """The host has unmounted the share."""
        await until(lambda: not is_mounted(self.site.layout, share), f"share {share} is unmounted")

    async def unlinked(self, guest: str) -> None:
        """The guest has neither gateway nor link nor card."""
        name = self.site.layout.netns(GuestId(guest))
        await until(lambda: name not in netns.names(), f"the link of guest {guest} is gone")

    def on_host(self, share: str, name: str) -> Path:
        """A file of a mounted share, as the host sees it."""
        return Path(self.site.layout.share_data(ShareId(share))) / name

    def gateway(self, guest: str) -> tuple[int, ...]:
        """The processes of a guest's gateway."""
        return self.cgroups.processes(self.site.layout.unit(Mode.NFS, GuestId(guest)))

    def gateways(self) -> tuple[int, ...]:
        """The processes of all."""
        return tuple(pid for unit in self.cgroups.units() for pid in self.cgroups.processes(unit))


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    """A stage with a pool. Raises ``LeftBehind`` if something is left when it is taken down."""
    prefix = f"isbench{secrets.token_hex(3)}"
    work = Path(tempfile.mkdtemp(prefix=prefix))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, work)
        site = await stack.enter_async_context(Site(work, prefix, audit=AUDIT))
        stage = Stage(site, Cgroups(prefix))
        stack.push_async_callback(_strike, stage)
        await site.pool(overcommit=100.0)
        yield stage


@asynccontextmanager
async def booted(stage: Stage, *, static: bool = True, memory: int = 256) -> AsyncIterator[Guest]:
    """A registered guest that runs and has loaded NFS; gone from the host and from the API afterwards."""
    async with Guest(new_id(), stage.site.config.qmp, memory=memory) as guest:
        await stage.site.guest(guest.id, static=static)
        await guest.run("until grep -q nfs4 /proc/filesystems; do usleep 20000; done")
        if static:
            await guest.run("until ip -4 route get 169.254.77.2 >/dev/null 2>&1; do usleep 20000; done")
        yield guest


async def until(true: Callable[[], bool], what: str) -> None:
    """Return once it is so. Raises ``TimeoutError`` with what was waited for."""
    end = perf_counter() + SETTLES
    while not true():
        if perf_counter() > end:
            raise TimeoutError(f"not within {SETTLES:.0f} s: {what}")
        await asyncio.sleep(0.002)


async def _strike(stage: Stage) -> None:
    await stage.site.take_down()
    layout = stage.site.layout
    await until(lambda: not any(name.startswith(layout.prefix) for name in netns.names()), "all links are gone")
    await until(lambda: not stage.cgroups.units(), "all gateways are gone")
    doctor = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "isthmus", "--config", str(stage.site.config_file), "doctor"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await doctor.communicate()
    if doctor.returncode:
        raise LeftBehind(f"isthmus doctor ended with {doctor.returncode}:\n{said.decode()}")
