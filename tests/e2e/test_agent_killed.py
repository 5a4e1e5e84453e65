"""The agent is killed at every step of attach and detach: the next start finishes the work, others' I/O goes on."""

from __future__ import annotations

import asyncio
import secrets
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from isthmus.host import mounts, netns
from isthmus.host.cgroup import Cgroups
from isthmus.model.names import GuestId, ShareId
from lab.guest import Guest
from lab.image import GuestImage
from lab.site import Site
from tests.e2e.conftest import new_guest_id

CUT = str(Path(__file__).with_name("cut.py"))
STEPS = 12
"""More than attaching and detaching take; cuts beyond the last step let the whole run pass."""


@dataclass
class Scene:
    """A host with a guest that writes all the time, and another that is attached and detached."""

    site: Site
    writer: Guest
    other: Guest
    share: str

    async def progress(self) -> int:
        """How far the writer has come."""
        return int((await self.writer.run("wc -l < /mnt/log")).strip())


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory, guest_image: GuestImage) -> AsyncIterator[Scene]:
    site = Site(tmp_path_factory.mktemp("killed"), f"istest{secrets.token_hex(3)}", audit=1.0)
    async with site:
        await site.pool()
        kept, share = await site.share(), await site.share()
        async with (
            Guest(new_guest_id(), site.config.qmp, guest_image) as writer,
            Guest(new_guest_id(), site.config.qmp, guest_image) as other,
        ):
            await site.guest(writer.id)
            await site.guest(other.id)
            attachment = await site.attach(kept["id"], writer.id, at="/kept")
            await writer.run("mount-isthmus /kept /mnt && touch /mnt/log")
            loop = "n=0; while [ ! -e /tmp/stop ]; do n=$((n + 1)); echo $n >> /mnt/log || exit 1; usleep 10000; done"
            writing = writer.start(loop)
            yield Scene(site, writer, other, share["id"])
            await writer.run("touch /tmp/stop")
            result = await writing
            assert result.code == 0, f"the writer saw an error: {result.stderr}"
            lines = (await writer.run("cat /mnt/log")).split()
            assert lines == [str(n) for n in range(1, len(lines) + 1)]
            await writer.run("umount /mnt")
            await site.remove(f"attachments/{attachment['id']}")
            await site.take_down()


async def ask(site: Site, method: str, path: str, body: dict[str, str] | None = None) -> None:
    """A request to a service that may die of it; one that is lost was never promised anything."""
    try:
        await site.call(method, path, body)
    except httpx.TransportError:
        return


async def wait_for_end(site: Site) -> bool:
    """Whether the process killed itself, for whatever it had to do."""
    try:
        async with asyncio.timeout(1.5):
            return await site.ended() == -9
    except TimeoutError:
        return False


async def restart(scene: Scene, *program: str) -> None:
    before = await scene.progress()
    await scene.site.kill()
    while await scene.progress() == before:  # noqa: ASYNC110 - the writer is asked, and gets on without the agent
        await asyncio.sleep(0)
    await scene.site.start(*program)


def left_of(site: Site, guest: GuestId, share: ShareId) -> list[str]:
    """What is there of a detached guest and its share."""
    layout = site.layout
    return [
        *(name for name in netns.names() if name == layout.netns(guest)),
        *(unit for unit in Cgroups(layout.prefix).units() if guest in unit),
        *(entry.target for entry in mounts.mounts() if share in entry.target or guest in entry.target),
        *(str(path) for path in layout.gateways.glob(f"*{guest}*")),
    ]


async def attach_and_detach(scene: Scene, program: tuple[str, ...]) -> bool:
    """Both are asked for while the process runs that kills itself; whatever it leaves is finished by the next."""
    site, guest = scene.site, GuestId(scene.other.id)
    ident = str(uuid.uuid4())
    wish = {"id": ident, "share": scene.share, "guest": guest, "at": "/cut"}
    await restart(scene, *program)
    await ask(site, "POST", "attachments", wish)
    killed = await wait_for_end(site)
    if killed:
        await restart(scene)
    await ask(site, "POST", "attachments", wish)
    await site.until(f"attachments/{ident}", "attached")
    word = secrets.token_hex(4)
    await scene.other.run(f"mount-isthmus /cut /mnt && echo {word} > /mnt/f && sync && cat /mnt/f && umount /mnt")
    if not killed:
        await ask(site, "DELETE", f"attachments/{ident}")
        killed = await wait_for_end(site)
        if killed:
            await restart(scene)
    if await site.settled(f"attachments/{ident}") is not None:
        await site.remove(f"attachments/{ident}")
    async with asyncio.timeout(20):
        while left_of(site, guest, ShareId(scene.share)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        while "eth0" in await scene.other.run("ls /sys/class/net"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return killed


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.timeout(300)
async def test_killed_at_every_step(scene: Scene, where: str) -> None:
    killed = [
        await attach_and_detach(scene, (sys.executable, CUT, str(number), where)) for number in range(1, STEPS + 1)
    ]
    assert killed[:8] == [True] * 8, "attach and detach are at least eight steps"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [1, 2, 3, 5, 8, 13, 21, 34, 55])
async def test_killed_in_the_middle_of_a_step(scene: Scene, number: int) -> None:
    assert await attach_and_detach(scene, (sys.executable, CUT, str(number), "inside"))
