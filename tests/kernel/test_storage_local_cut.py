"""The ``local`` driver killed at every step of every change: the next call finishes it, a sweep tidies up, and nothing
is lost or left.

A forked process makes the change and is killed (SIGKILL) when it is about to do its n-th act upon the system, as
Python's audit events tell, for n = 0, 1, 2 ... until it comes through alive.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from isthmus.model.errors import NotFound
from isthmus.model.layout import Layout
from isthmus.model.names import MIB, SnapshotId
from isthmus.model.share import Filesystem, Origin, ShareSpec
from isthmus.storage.local import LocalDriver
from tests.local_pool import Drivers, clear, local_pool
from tests.storage_contract import POOL, look, read, share_id, snapshot_id, write

ACTS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.setxattr", "os.removexattr"}
ACTS |= {"fcntl.ioctl", "subprocess.Popen"}

Check = Callable[[LocalDriver], Coroutine[None, None, None]]


@dataclass(frozen=True)
class Change:
    """``act`` upon what ``prepare`` made. ``before`` and ``after`` check that the share is as before the act, or as
    after it: when a cut was swept up, one of them must hold."""

    prepare: Check
    act: Check
    before: Check
    after: Check


@pytest.fixture
def driver(tmp_path: Path, layout: Layout) -> Iterator[Drivers]:
    with local_pool(tmp_path / "pool", layout) as drivers:
        yield drivers


def survives(driver: LocalDriver, change: Change, acts: int, places: tuple[str, ...]) -> bool:
    """Whether the change is done in a process that dies at its act of this number. Acts are calls of ``ACTS`` and files
    opened for writing below ``places``."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
        return not os.WIFSIGNALED(status)
    left = acts

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in ACTS or (writes and str(arguments[0]).startswith(places)):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(watch)
        asyncio.run(change.act(driver))
    except BaseException:  # noqa: BLE001 - a forked process must not run the tests of its parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def create(filesystem: Filesystem) -> Change:
    wanted = ShareSpec(share_id(), POOL, 320 * MIB, filesystem)

    async def prepare(driver: LocalDriver) -> None:
        pass

    async def act(driver: LocalDriver) -> None:
        await driver.create(wanted)

    async def before(driver: LocalDriver) -> None:
        assert not (await driver.observe()).shares

    async def after(driver: LocalDriver) -> None:
        assert (await look(driver, wanted.id)).size == wanted.size
        assert await read(driver, wanted.id) == {}

    return Change(prepare, act, before, after)


def mount(filesystem: Filesystem) -> Change:
    wanted = ShareSpec(share_id(), POOL, 320 * MIB, filesystem)

    async def prepare(driver: LocalDriver) -> None:
        await driver.create(wanted)

    async def act(driver: LocalDriver) -> None:
        await driver.source(wanted.id)

    async def after(driver: LocalDriver) -> None:
        assert await read(driver, wanted.id) == {}

    return Change(prepare, act, after, after)


def delete(filesystem: Filesystem) -> Change:
    wanted = ShareSpec(share_id(), POOL, 320 * MIB, filesystem)

    async def prepare(driver: LocalDriver) -> None:
        await driver.create(wanted)
        await write(driver, wanted.id, a="kept")

    async def act(driver: LocalDriver) -> None:
        await driver.delete(wanted.id)

    async def before(driver: LocalDriver) -> None:
        assert await read(driver, wanted.id) == {"a": "kept"}

    async def after(driver: LocalDriver) -> None:
        assert not (await driver.observe()).shares

    return Change(prepare, act, before, after)


def resize(filesystem: Filesystem, size: int) -> Change:
    wanted = ShareSpec(share_id(), POOL, 320 * MIB, filesystem)

    async def prepare(driver: LocalDriver) -> None:
        await driver.create(wanted)
        await write(driver, wanted.id, a="kept")

    async def act(driver: LocalDriver) -> None:
        await driver.resize(wanted.id, size)

    async def has(driver: LocalDriver, expected: int) -> None:
        assert await read(driver, wanted.id) == {"a": "kept"}
        assert (await look(driver, wanted.id)).size == expected
        room = os.statvfs((await driver.source(wanted.id)).path)
        assert expected - 80 * MIB < room.f_blocks * room.f_frsize <= expected

    return Change(prepare, act, lambda driver: has(driver, wanted.size), lambda driver: has(driver, size))


def snapshot(*, gone: bool) -> Change:
    wanted, first, second = ShareSpec(share_id(), POOL, 320 * MIB), snapshot_id(), snapshot_id()

    async def prepare(driver: LocalDriver) -> None:
        await driver.create(wanted)
        await write(driver, wanted.id, a="kept")
        await driver.snapshot(wanted.id, first)

    async def act(driver: LocalDriver) -> None:
        if gone:
            await driver.delete_snapshot(wanted.id, first)
        else:
            await driver.snapshot(wanted.id, second)

    async def has(driver: LocalDriver, expected: frozenset[SnapshotId]) -> None:
        assert (await look(driver, wanted.id)).snapshots == expected
        assert await read(driver, wanted.id) == {"a": "kept"}
        inside = Path((await driver.source(wanted.id)).path).parent / "top/snapshots"
        assert {path.name: (path / "a").read_text() for path in inside.iterdir()} == dict.fromkeys(expected, "kept")

    there = frozenset[SnapshotId]() if gone else frozenset({first, second})
    return Change(prepare, act, lambda driver: has(driver, frozenset({first})), lambda driver: has(driver, there))


def revert() -> Change:
    wanted, kept = ShareSpec(share_id(), POOL, 320 * MIB), snapshot_id()

    async def prepare(driver: LocalDriver) -> None:
        await driver.create(wanted)
        await write(driver, wanted.id, a="then")
        await driver.snapshot(wanted.id, kept)
        await write(driver, wanted.id, a="now")

    async def act(driver: LocalDriver) -> None:
        await driver.revert(wanted.id, kept, 1)

    async def has(driver: LocalDriver, generation: int, text: str) -> None:
        seen = await look(driver, wanted.id)
        assert (seen.generation, seen.snapshots) == (generation, frozenset({kept}))
        assert await read(driver, wanted.id) == {"a": text}

    return Change(prepare, act, lambda driver: has(driver, 0, "now"), lambda driver: has(driver, 1, "then"))


def clone(*, of_snapshot: bool) -> Change:
    origin, kept = ShareSpec(share_id(), POOL, 320 * MIB), snapshot_id()
    wanted = replace(origin, id=share_id(), origin=Origin(origin.id, kept if of_snapshot else None))

    async def prepare(driver: LocalDriver) -> None:
        await driver.create(origin)
        await write(driver, origin.id, a="then")
        await driver.snapshot(origin.id, kept)

    async def act(driver: LocalDriver) -> None:
        await driver.clone(wanted)

    async def before(driver: LocalDriver) -> None:
        assert set((await driver.observe()).shares) == {origin.id}
        assert await read(driver, origin.id) == {"a": "then"}
        assert list((Path((await driver.source(origin.id)).path).parent / "top/copies").iterdir()) == []

    async def after(driver: LocalDriver) -> None:
        assert await read(driver, wanted.id) == {"a": "then"}
        assert (await look(driver, wanted.id)).snapshots == frozenset()
        assert list((Path((await driver.source(origin.id)).path).parent / "top/copies").iterdir()) == []

    return Change(prepare, act, before, after)


CHANGES: dict[str, Callable[[], Change]] = {
    "create-btrfs": lambda: create(Filesystem.BTRFS),
    "create-xfs": lambda: create(Filesystem.XFS),
    "create-ext4": lambda: create(Filesystem.EXT4),
    "mount-btrfs": lambda: mount(Filesystem.BTRFS),
    "mount-xfs": lambda: mount(Filesystem.XFS),
    "delete": lambda: delete(Filesystem.BTRFS),
    "grow-btrfs": lambda: resize(Filesystem.BTRFS, 448 * MIB),
    "grow-xfs": lambda: resize(Filesystem.XFS, 448 * MIB),
    "grow-ext4": lambda: resize(Filesystem.EXT4, 448 * MIB),
    "shrink-btrfs": lambda: resize(Filesystem.BTRFS, 256 * MIB),
    "snapshot": lambda: snapshot(gone=False),
    "delete-snapshot": lambda: snapshot(gone=True),
    "revert": revert,
    "clone-snapshot": lambda: clone(of_snapshot=True),
    "clone-share": lambda: clone(of_snapshot=False),
}


@pytest.mark.parametrize("then", ["again", "sweep"])
@pytest.mark.parametrize("name", CHANGES)
def test_killed_at_every_step(name: str, then: str, driver: Drivers, tmp_path: Path, layout: Layout) -> None:
    acts = 0
    alive = False
    while not alive:
        change = CHANGES[name]()
        asyncio.run(change.prepare(driver()))
        alive = survives(driver(), change, acts, (str(tmp_path), str(layout.run)))
        asyncio.run(recover(driver(), change, then))
        asyncio.run(clear(driver()))
        acts += 1
    assert acts > 3


async def recover(driver: LocalDriver, change: Change, then: str) -> None:
    """The next agent, which remembers nothing, meets what the killed one left."""
    if then == "again":
        await change.act(driver)
        await driver.sweep()
        await change.after(driver)
        return
    await driver.sweep()
    assert (await driver.observe()).debris == ()
    try:
        await change.after(driver)
    except (AssertionError, KeyError, NotFound):
        await change.before(driver)
