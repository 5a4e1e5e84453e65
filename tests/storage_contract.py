"""What every storage driver keeps, and the in-memory fake too: subclass ``StorageContract`` and the contract of each
power that the file system has, and give the fixtures ``driver``, ``again`` and ``filesystem``.

``again`` makes another driver of the same pool, as an agent does that was started anew: it remembers nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from isthmus.model.errors import Conflict, Exhausted, Invalid, NotFound, Refused
from isthmus.model.names import GIB, MIB, PoolName, ShareId, SnapshotId, new_id
from isthmus.model.share import Filesystem, Origin, Power, ShareSeen, ShareSpec
from isthmus.storage.driver import Clones, Copies, Reverts, Snapshots, StorageDriver

POOL = PoolName("disk")


def share_id() -> ShareId:
    return ShareId(new_id())


def snapshot_id() -> SnapshotId:
    return SnapshotId(new_id())


def spec(filesystem: Filesystem, size: int = 512 * MIB, origin: Origin | None = None) -> ShareSpec:
    """A share that nobody has made yet."""
    return ShareSpec(share_id(), POOL, size, filesystem, origin=origin)


async def made(driver: StorageDriver, filesystem: Filesystem, size: int = 512 * MIB) -> ShareId:
    """A new share."""
    wanted = spec(filesystem, size)
    await driver.create(wanted)
    return wanted.id


async def look(driver: StorageDriver, share: ShareId) -> ShareSeen:
    """The share as observed, in a pool where nothing is half-done."""
    seen = await driver.observe()
    assert seen.debris == ()
    return seen.shares[share]


async def write(driver: StorageDriver, share: ShareId, **files: str) -> None:
    """Files as a gateway writes them, on the disk."""
    directory = Path((await driver.source(share)).path)
    for name, text in files.items():
        with (directory / name).open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


async def read(driver: StorageDriver, share: ShareId) -> dict[str, str]:
    """All files of a share."""
    return texts(Path((await driver.source(share)).path))


def texts(directory: Path) -> dict[str, str]:
    """The files in a directory."""
    return {path.name: path.read_text() for path in list(directory.iterdir())}


class StorageContract:
    """The powers that every driver has."""

    def test_powers_are_those_whose_contracts_are_tested(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        tested = {power for kind in type(self).__mro__ if (power := vars(kind).get("power")) is not None}
        assert driver.powers[filesystem] - {Power.CHECKSUMS} == tested
        for power, protocol in ((Power.SNAPSHOT, Snapshots), (Power.REVERT, Reverts), (Power.CLONE, Clones)):
            assert power not in driver.powers[filesystem] or isinstance(driver, protocol)

    async def test_a_new_pool_is_empty_and_has_room(self, driver: StorageDriver) -> None:
        seen = await driver.observe()
        assert seen.name == POOL
        assert 0 < seen.free <= seen.total
        assert not seen.shares
        assert seen.debris == ()

    async def test_a_new_share_is_empty_and_observed_as_asked(
        self, driver: StorageDriver, filesystem: Filesystem
    ) -> None:
        share = await made(driver, filesystem)
        seen = await look(driver, share)
        assert (seen.size, seen.filesystem, seen.generation) == (512 * MIB, filesystem, 0)
        assert (seen.mounted, seen.wounded, seen.snapshots) == (False, False, frozenset())
        assert await read(driver, share) == {}
        assert (await look(driver, share)).mounted

    async def test_creating_again_changes_nothing(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        wanted = spec(filesystem)
        await driver.create(wanted)
        await write(driver, wanted.id, a="kept")
        await driver.create(wanted)
        assert await read(driver, wanted.id) == {"a": "kept"}

    async def test_creating_as_another_file_system_is_a_conflict(
        self, driver: StorageDriver, filesystem: Filesystem
    ) -> None:
        wanted = spec(filesystem)
        await driver.create(wanted)
        other = next(name for name in Filesystem if name != filesystem)
        with pytest.raises(Conflict, match=wanted.id):
            await driver.create(ShareSpec(wanted.id, POOL, wanted.size, other))
        assert (await look(driver, wanted.id)).filesystem == filesystem

    async def test_a_share_below_the_minimum_is_not_begun(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        smallest = driver.minimum[filesystem]
        with pytest.raises(Invalid, match=f"{smallest // MIB} MiB") as caught:
            await driver.create(spec(filesystem, smallest - MIB))
        assert caught.value.field == "size"
        seen = await driver.observe()
        assert not seen.shares
        assert seen.debris == ()

    async def test_the_smallest_share_is_of_use(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        share = await made(driver, filesystem, driver.minimum[filesystem])
        await write(driver, share, a="x" * MIB)
        assert await read(driver, share) == {"a": "x" * MIB}

    @pytest.mark.parametrize("name", ["", "..", "../other", "a/b", "x\0y", "ABC", "{" + new_id() + "}"])
    async def test_an_id_that_is_no_uuid_is_refused(
        self, driver: StorageDriver, filesystem: Filesystem, name: str
    ) -> None:
        share = ShareId(name)
        with pytest.raises(Invalid):
            await driver.create(ShareSpec(share, POOL, 512 * MIB, filesystem))
        with pytest.raises(Invalid):
            await driver.source(share)
        with pytest.raises(Invalid):
            await driver.delete(share)

    async def test_data_is_there_after_unmounting_and_by_a_fresh_driver(
        self, driver: StorageDriver, again: Callable[[], StorageDriver], filesystem: Filesystem
    ) -> None:
        share = await made(driver, filesystem)
        await write(driver, share, a="kept")
        await driver.release(share)
        await driver.release(share)
        assert not (await look(driver, share)).mounted
        assert await read(again(), share) == {"a": "kept"}
        assert (await look(again(), share)).mounted

    async def test_a_source_is_the_same_place_every_time(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        share = await made(driver, filesystem)
        assert await driver.source(share) == await driver.source(share)

    async def test_what_is_not_there_is_not_found(self, driver: StorageDriver) -> None:
        share = share_id()
        with pytest.raises(NotFound, match=share):
            await driver.source(share)
        with pytest.raises(NotFound, match=share):
            await driver.resize(share, 600 * MIB)
        await driver.release(share)
        await driver.delete(share)

    @pytest.mark.parametrize("mounted", [True, False])
    async def test_a_share_grows(self, driver: StorageDriver, filesystem: Filesystem, mounted: bool) -> None:
        share = await made(driver, filesystem)
        await write(driver, share, a="kept")
        if not mounted:
            await driver.release(share)
        await driver.resize(share, 768 * MIB)
        await driver.resize(share, 768 * MIB)
        assert (await look(driver, share)).size == 768 * MIB
        assert await read(driver, share) == {"a": "kept"}

    async def test_deleting_leaves_nothing_and_other_shares_alone(
        self, driver: StorageDriver, filesystem: Filesystem
    ) -> None:
        one, other = await made(driver, filesystem), await made(driver, filesystem)
        await write(driver, one, a="1")
        await write(driver, other, a="2")
        await driver.delete(one)
        await driver.delete(one)
        seen = await driver.observe()
        assert set(seen.shares) == {other}
        assert seen.debris == ()
        assert await read(driver, other) == {"a": "2"}

    async def test_an_id_may_come_again_after_its_end(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        wanted = spec(filesystem)
        await driver.create(wanted)
        await write(driver, wanted.id, a="old")
        await driver.delete(wanted.id)
        await driver.create(wanted)
        assert await read(driver, wanted.id) == {}

    async def test_sweeping_a_tidy_pool_changes_nothing(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        share = await made(driver, filesystem)
        await write(driver, share, a="kept")
        await driver.sweep()
        assert await read(driver, share) == {"a": "kept"}

    async def test_what_a_file_system_cannot_do_is_refused(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        lacking = set(Power) - driver.powers[filesystem]
        share = await made(driver, filesystem)
        await write(driver, share, a="kept")
        if Power.SHRINK in lacking:
            with pytest.raises(Refused, match="shrink"):
                await driver.resize(share, 448 * MIB)
        if Power.SNAPSHOT in lacking and isinstance(driver, Snapshots):
            with pytest.raises(Refused, match="snapshot"):
                await driver.snapshot(share, snapshot_id())
        if Power.REVERT in lacking and isinstance(driver, Reverts):
            with pytest.raises(Refused, match="snapshot"):
                await driver.revert(share, snapshot_id(), 1)
        if Power.CLONE in lacking and isinstance(driver, Clones):
            with pytest.raises(Refused, match="clone"):
                await driver.clone(spec(filesystem, origin=Origin(share)))
        assert (await look(driver, share)).size == 512 * MIB
        assert await read(driver, share) == {"a": "kept"}


class CopyContract:
    """For drivers that show the files of shares on this host: ``Copies``."""

    async def test_what_is_read_is_what_was_there_at_once(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        assert isinstance(driver, Copies)
        share, reader = await made(driver, filesystem), share_id()
        await write(driver, share, a="then")
        async with driver.reading(share, None, by=reader) as source:
            assert texts(Path(source.path)) == {"a": "then"}
            await write(driver, share, b="now")
            if Power.SNAPSHOT in driver.powers[filesystem]:
                assert texts(Path(source.path)) == {"a": "then"}
        assert await read(driver, share) == {"a": "then", "b": "now"}
        await driver.release(share)
        assert not (await look(driver, share)).mounted

    async def test_what_is_written_counts_when_it_went_well(
        self, driver: StorageDriver, again: Callable[[], StorageDriver], filesystem: Filesystem
    ) -> None:
        assert isinstance(driver, Copies)
        share = await made(driver, filesystem)
        with contextlib.suppress(ValueError):
            async with driver.writing(share, 1) as target:
                (Path(target.path) / "a").write_text("half")
                raise ValueError
        assert (await look(driver, share)).generation == 0
        async with driver.writing(share, 1) as target:
            assert texts(Path(target.path)) == {"a": "half"}
            (Path(target.path) / "a").write_text("whole")
        await driver.release(share)
        assert (await look(again(), share)).generation == 1
        assert await read(again(), share) == {"a": "whole"}

    async def test_a_snapshot_is_read_as_it_was(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        assert isinstance(driver, Copies)
        share, snapshot = await made(driver, filesystem), snapshot_id()
        if isinstance(driver, Snapshots) and Power.SNAPSHOT in driver.powers[filesystem]:
            await write(driver, share, a="then")
            await driver.snapshot(share, snapshot)
            await write(driver, share, a="now")
            async with driver.reading(share, snapshot, by=share_id()) as source:
                assert texts(Path(source.path)) == {"a": "then"}
        with pytest.raises(NotFound):
            async with driver.reading(share, snapshot_id(), by=share_id()):
                pass
        with pytest.raises(NotFound):
            async with driver.reading(share_id(), None, by=share_id()):
                pass


class SizeContract:
    """For drivers whose shares are file systems: the size is hard, and a guest's ``df`` tells it."""

    async def test_a_share_is_full_at_its_size(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        share = await made(driver, filesystem, max(driver.minimum[filesystem], 128 * MIB))
        room = os.statvfs((await driver.source(share)).path)
        size = (await look(driver, share)).size
        assert room.f_blocks * room.f_frsize <= size
        with pytest.raises(OSError, match="No space left"):
            await write(driver, share, big="x" * (room.f_bavail * room.f_frsize + MIB))
        await write(driver, share, big="")
        assert not (await look(driver, share)).wounded

    async def test_the_smallest_share_grows(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        share = await made(driver, filesystem, driver.minimum[filesystem])
        await driver.resize(share, GIB)
        room = os.statvfs((await driver.source(share)).path)
        assert GIB - 80 * MIB < room.f_blocks * room.f_frsize <= GIB

    async def test_a_guest_sees_each_size(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        share = await made(driver, filesystem)
        sizes = [640 * MIB, 768 * MIB, *([400 * MIB] if Power.SHRINK in driver.powers[filesystem] else [])]
        now = os.statvfs((await driver.source(share)).path)
        overhead = 512 * MIB - now.f_blocks * now.f_frsize
        for size in sizes:
            await driver.resize(share, size)
            now = os.statvfs((await driver.source(share)).path)
            assert abs(size - overhead - now.f_blocks * now.f_frsize) <= 16 * MIB


class ShrinkContract:
    """For file systems with ``Power.SHRINK``."""

    power: ClassVar[Power | None] = Power.SHRINK

    @pytest.mark.parametrize("mounted", [True, False])
    async def test_a_share_shrinks(self, driver: StorageDriver, filesystem: Filesystem, mounted: bool) -> None:
        share = await made(driver, filesystem)
        await write(driver, share, a="kept")
        if not mounted:
            await driver.release(share)
        await driver.resize(share, 256 * MIB)
        assert (await look(driver, share)).size == 256 * MIB
        assert await read(driver, share) == {"a": "kept"}

    async def test_a_share_does_not_shrink_below_what_it_holds(
        self, driver: StorageDriver, filesystem: Filesystem
    ) -> None:
        share = await made(driver, filesystem)
        await write(driver, share, a="x" * 280 * MIB)
        with pytest.raises(Refused, match=share):
            await driver.resize(share, 256 * MIB)
        with pytest.raises(Refused, match=share):
            await driver.resize(share, driver.minimum[filesystem] - MIB)
        assert (await look(driver, share)).size == 512 * MIB
        assert len((await read(driver, share))["a"]) == 280 * MIB


class SnapshotContract:
    """For file systems with ``Power.SNAPSHOT``."""

    power: ClassVar[Power | None] = Power.SNAPSHOT

    async def test_a_snapshot_is_taken_once_and_seen_mounted_or_not(
        self, driver: StorageDriver, again: Callable[[], StorageDriver], filesystem: Filesystem
    ) -> None:
        assert isinstance(driver, Snapshots)
        share, first, second = await made(driver, filesystem), snapshot_id(), snapshot_id()
        await driver.snapshot(share, first)
        await driver.snapshot(share, first)
        await driver.snapshot(share, second)
        assert (await look(driver, share)).snapshots == frozenset({first, second})
        await driver.release(share)
        assert (await look(again(), share)).snapshots == frozenset({first, second})
        await driver.delete_snapshot(share, first)
        await driver.delete_snapshot(share, first)
        assert (await look(again(), share)).snapshots == frozenset({second})

    async def test_snapshots_do_not_touch_the_data(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        assert isinstance(driver, Snapshots)
        share, snapshot = await made(driver, filesystem), snapshot_id()
        await write(driver, share, a="kept")
        await driver.snapshot(share, snapshot)
        assert await read(driver, share) == {"a": "kept"}
        await driver.delete_snapshot(share, snapshot)
        assert await read(driver, share) == {"a": "kept"}

    async def test_snapshots_of_nothing(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        assert isinstance(driver, Snapshots)
        with pytest.raises(NotFound):
            await driver.snapshot(share_id(), snapshot_id())
        with pytest.raises(Invalid):
            await driver.snapshot(await made(driver, filesystem), SnapshotId("../data"))
        await driver.delete_snapshot(share_id(), snapshot_id())

    async def test_a_share_is_deleted_with_its_snapshots(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        assert isinstance(driver, Snapshots)
        wanted = spec(filesystem)
        await driver.create(wanted)
        await driver.snapshot(wanted.id, snapshot_id())
        await driver.delete(wanted.id)
        await driver.create(wanted)
        assert (await look(driver, wanted.id)).snapshots == frozenset()


class RevertContract:
    """For file systems with ``Power.REVERT``."""

    power: ClassVar[Power | None] = Power.REVERT

    async def test_data_goes_back_and_snapshots_stay(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        assert isinstance(driver, Snapshots)
        assert isinstance(driver, Reverts)
        share, first, second = await made(driver, filesystem), snapshot_id(), snapshot_id()
        await write(driver, share, a="1", gone="with the revert to second")
        await driver.snapshot(share, first)
        await write(driver, share, a="2", b="2")
        await driver.snapshot(share, second)
        await write(driver, share, a="3", c="3")
        await driver.release(share)
        await driver.revert(share, first, 1)
        seen = await look(driver, share)
        assert (seen.generation, seen.snapshots, seen.mounted) == (1, frozenset({first, second}), False)
        assert await read(driver, share) == {"a": "1", "gone": "with the revert to second"}
        await driver.release(share)
        await driver.revert(share, second, 2)
        assert (await look(driver, share)).generation == 2
        assert (await read(driver, share))["b"] == "2"

    async def test_a_generation_is_reverted_to_once(
        self, driver: StorageDriver, again: Callable[[], StorageDriver], filesystem: Filesystem
    ) -> None:
        assert isinstance(driver, Snapshots)
        assert isinstance(driver, Reverts)
        share, snapshot = await made(driver, filesystem), snapshot_id()
        await write(driver, share, a="old")
        await driver.snapshot(share, snapshot)
        await driver.release(share)
        await driver.revert(share, snapshot, 3)
        await write(driver, share, a="new")
        await driver.release(share)
        other = again()
        assert isinstance(other, Reverts)
        await other.revert(share, snapshot, 3)
        await other.revert(share, snapshot, 2)
        assert (await look(driver, share)).generation == 3
        assert await read(driver, share) == {"a": "new"}

    async def test_reverting_to_an_old_snapshot_does_not_bring_its_generation_back(
        self, driver: StorageDriver, filesystem: Filesystem
    ) -> None:
        assert isinstance(driver, Snapshots)
        assert isinstance(driver, Reverts)
        share, first, second = await made(driver, filesystem), snapshot_id(), snapshot_id()
        await driver.snapshot(share, first)
        await driver.release(share)
        await driver.revert(share, first, 1)
        await driver.snapshot(share, second)
        await driver.release(share)
        await driver.revert(share, second, 2)
        await driver.revert(share, first, 3)
        assert (await look(driver, share)).generation == 3

    async def test_a_snapshot_that_is_not_there(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        assert isinstance(driver, Reverts)
        share, snapshot = await made(driver, filesystem), snapshot_id()
        await write(driver, share, a="kept")
        await driver.release(share)
        with pytest.raises(NotFound, match=snapshot):
            await driver.revert(share, snapshot, 1)
        assert (await look(driver, share)).generation == 0
        assert await read(driver, share) == {"a": "kept"}


class CloneContract:
    """For file systems with ``Power.CLONE``."""

    power: ClassVar[Power | None] = Power.CLONE

    @pytest.mark.parametrize("size", [512 * MIB, 768 * MIB, 256 * MIB])
    async def test_a_clone_of_a_snapshot(self, driver: StorageDriver, filesystem: Filesystem, size: int) -> None:
        assert isinstance(driver, Snapshots)
        assert isinstance(driver, Clones)
        origin, snapshot = await made(driver, filesystem), snapshot_id()
        await write(driver, origin, a="then")
        await driver.snapshot(origin, snapshot)
        await write(driver, origin, a="now", b="now")
        wanted = spec(filesystem, size, Origin(origin, snapshot))
        await driver.clone(wanted)
        await driver.clone(wanted)
        seen = await look(driver, wanted.id)
        assert (seen.size, seen.generation, seen.snapshots) == (size, 0, frozenset())
        assert await read(driver, wanted.id) == {"a": "then"}
        assert await read(driver, origin) == {"a": "now", "b": "now"}

    async def test_a_clone_of_the_present_state_goes_its_own_way(
        self, driver: StorageDriver, filesystem: Filesystem
    ) -> None:
        assert isinstance(driver, Clones)
        origin = await made(driver, filesystem)
        await write(driver, origin, a="both")
        wanted = spec(filesystem, origin=Origin(origin))
        await driver.clone(wanted)
        await write(driver, wanted.id, a="clone")
        await write(driver, origin, b="origin")
        assert await read(driver, wanted.id) == {"a": "clone"}
        assert await read(driver, origin) == {"a": "both", "b": "origin"}
        await driver.delete(origin)
        assert await read(driver, wanted.id) == {"a": "clone"}

    async def test_a_clone_begins_at_generation_zero(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        assert isinstance(driver, Snapshots)
        assert isinstance(driver, Reverts)
        assert isinstance(driver, Clones)
        origin, snapshot = await made(driver, filesystem), snapshot_id()
        await driver.snapshot(origin, snapshot)
        await driver.release(origin)
        await driver.revert(origin, snapshot, 5)
        wanted = spec(filesystem, origin=Origin(origin))
        await driver.clone(wanted)
        await driver.source(wanted.id)
        await driver.release(wanted.id)
        assert (await look(driver, wanted.id)).generation == 0

    async def test_what_does_not_fit_leaves_nothing(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        assert isinstance(driver, Clones)
        origin = await made(driver, filesystem)
        await write(driver, origin, a="x" * 300 * MIB)
        wanted = spec(filesystem, 256 * MIB, Origin(origin))
        with pytest.raises(Exhausted, match=origin):
            await driver.clone(wanted)
        seen = await driver.observe()
        assert set(seen.shares) == {origin}
        assert seen.debris == ()

    async def test_an_origin_that_is_not_there(self, driver: StorageDriver, filesystem: Filesystem) -> None:
        assert isinstance(driver, Clones)
        origin = await made(driver, filesystem)
        with pytest.raises(NotFound):
            await driver.clone(spec(filesystem, origin=Origin(share_id())))
        with pytest.raises(NotFound):
            await driver.clone(spec(filesystem, origin=Origin(origin, snapshot_id())))
        with pytest.raises(Invalid):
            await driver.clone(spec(filesystem))
        assert set((await driver.observe()).shares) == {origin}
