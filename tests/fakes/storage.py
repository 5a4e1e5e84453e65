"""A storage driver without file systems: shares are directories of a temporary one, sizes are bookkeeping. Held to
``tests/storage_contract.py`` like the real ones."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from isthmus.model.errors import Conflict, Exhausted, HostFailure, Invalid, KernelRefused, NotFound, Refused
from isthmus.model.names import GIB, MIB, PoolName, ShareId, SnapshotId, parse_uuid
from isthmus.model.share import Filesystem, Pool, PoolSeen, Power, ShareSeen, ShareSpec
from isthmus.storage.driver import PathSource

_NAME = PoolName("disk")


@dataclass
class FakePool:
    """What lasts when a driver is made anew. Tests may write to it: ``busy`` shares cannot be unmounted, ``broken`` is
    why the pool cannot be used, ``debris`` is what ``sweep`` finds."""

    root: Path
    name: PoolName = _NAME
    total: int = 100 * GIB
    free: int = 100 * GIB
    shares: dict[ShareId, ShareSeen] = field(default_factory=dict)
    busy: dict[ShareId, int] = field(default_factory=dict)
    debris: set[str] = field(default_factory=set)
    broken: str = ""


class FakeDriver:
    """All powers on btrfs, the basic ones on XFS and ext4."""

    powers: Mapping[Filesystem, frozenset[Power]] = {
        Filesystem.BTRFS: frozenset(Power),
        Filesystem.XFS: frozenset(),
        Filesystem.EXT4: frozenset(),
    }
    minimum: Mapping[Filesystem, int] = {
        Filesystem.BTRFS: 256 * MIB,
        Filesystem.XFS: 300 * MIB,
        Filesystem.EXT4: 16 * MIB,
    }

    def __init__(self, pool: FakePool) -> None:
        self.pool = pool

    def redefine(self, pool: Pool) -> None:
        """Its limits are of no interest here."""

    async def observe(self) -> PoolSeen:
        if self.pool.broken:
            raise HostFailure(f"cannot use pool {self.pool.name}: {self.pool.broken}")
        shares = {
            share: replace(seen, used=_held(self._data(share).parent)) for share, seen in self.pool.shares.items()
        }
        return PoolSeen(self.pool.name, self.pool.total, self.pool.free, shares, tuple(sorted(self.pool.debris)))

    async def create(self, share: ShareSpec) -> None:
        if self._is_made(share):
            return
        self._data(share.id).mkdir(parents=True)
        self.pool.shares[share.id] = ShareSeen(share.id, share.size, share.filesystem, share.checksums)

    async def delete(self, share: ShareId) -> None:
        await self.release(share)
        if self.pool.shares.pop(share, None) is not None:
            shutil.rmtree(self._data(share).parent)

    async def resize(self, share: ShareId, size: int) -> None:
        seen = self._get(share)
        if size < seen.size and (
            Power.SHRINK not in self.powers[seen.filesystem]
            or size < max(self.minimum[seen.filesystem], _held(self._data(share).parent))
        ):
            raise Refused(f"cannot shrink share {share} to {size // MIB} MiB")
        self.pool.shares[share] = replace(seen, size=size)

    async def source(self, share: ShareId) -> PathSource:
        self.pool.shares[share] = replace(self._get(share), mounted=True, wounded=False)
        return PathSource(str(self._data(share)))

    async def release(self, share: ShareId) -> None:
        self._data(share)
        if number := self.pool.busy.get(share):
            raise KernelRefused(f"unmount share {share}", number)
        if share in self.pool.shares:
            self.pool.shares[share] = replace(self.pool.shares[share], mounted=False)

    async def sweep(self) -> None:
        self.pool.debris.clear()

    async def snapshot(self, share: ShareId, snapshot: SnapshotId) -> None:
        seen = self._able(share, Power.SNAPSHOT, "take a snapshot")
        if snapshot not in _snapshots(seen):
            shutil.copytree(self._data(share), self._snapshot(share, snapshot))
            seen = replace(seen, snapshots=_snapshots(seen) | {snapshot}, mounted=True)
        self.pool.shares[share] = seen

    async def delete_snapshot(self, share: ShareId, snapshot: SnapshotId) -> None:
        path = self._snapshot(share, snapshot)
        seen = self.pool.shares.get(share)
        if seen is not None and snapshot in _snapshots(seen):
            shutil.rmtree(path)
            self.pool.shares[share] = replace(seen, snapshots=_snapshots(seen) - {snapshot})

    async def revert(self, share: ShareId, snapshot: SnapshotId, generation: int) -> None:
        seen = self._able(share, Power.REVERT, "go back to a snapshot")
        if seen.generation >= generation:
            return
        if snapshot not in _snapshots(seen):
            raise NotFound("snapshot", snapshot)
        await self.release(share)
        shutil.rmtree(self._data(share))
        shutil.copytree(self._snapshot(share, snapshot), self._data(share))
        self.pool.shares[share] = replace(self._get(share), generation=generation)

    async def clone(self, share: ShareSpec) -> None:
        if share.origin is None:
            raise Invalid(f"cannot clone share {share.id}: it has no origin", field="origin")
        if self._is_made(share):
            return
        origin, snapshot = share.origin.share, share.origin.snapshot
        seen = self._able(origin, Power.CLONE, "clone it")
        if snapshot is not None and snapshot not in _snapshots(seen):
            raise NotFound("snapshot", snapshot)
        source = self._data(origin) if snapshot is None else self._snapshot(origin, snapshot)
        if _held(source) > share.size:
            raise Exhausted(f"cannot clone share {origin}: it does not fit into {share.size // MIB} MiB")
        shutil.copytree(source, self._data(share.id))
        self.pool.shares[share.id] = ShareSeen(share.id, share.size, share.filesystem, share.checksums)

    @asynccontextmanager
    async def reading(self, share: ShareId, snapshot: SnapshotId | None, *, by: ShareId) -> AsyncIterator[PathSource]:
        seen = self._get(share)
        if snapshot is not None and snapshot not in _snapshots(seen):
            raise NotFound("snapshot", snapshot)
        with tempfile.TemporaryDirectory(prefix=by) as held:
            copied = Path(held) / "held"
            shutil.copytree(self._data(share) if snapshot is None else self._snapshot(share, snapshot), copied)
            yield PathSource(str(copied))

    @asynccontextmanager
    async def writing(self, share: ShareId, generation: int) -> AsyncIterator[PathSource]:
        self._get(share)
        yield PathSource(str(self._data(share)))
        self.pool.shares[share] = replace(self._get(share), generation=generation)

    def _data(self, share: ShareId) -> Path:
        return self.pool.root / parse_uuid(share, "share") / "data"

    def _snapshot(self, share: ShareId, snapshot: SnapshotId) -> Path:
        return self._data(share).parent / parse_uuid(snapshot, "snapshot")

    def _get(self, share: ShareId) -> ShareSeen:
        self._data(share)
        if share not in self.pool.shares:
            raise NotFound("share", share)
        return self.pool.shares[share]

    def _able(self, share: ShareId, power: Power, doing: str) -> ShareSeen:
        seen = self._get(share)
        if power not in self.powers[seen.filesystem]:
            raise Refused(f"cannot {doing} of share {share}: {seen.filesystem} has no {power}")
        return seen

    def _is_made(self, share: ShareSpec) -> bool:
        """Whether it is there; checks what ``create`` and ``clone`` check."""
        self._data(share.id)
        seen = self.pool.shares.get(share.id)
        if seen is not None:
            if seen.filesystem != share.filesystem:
                raise Conflict(f"cannot create share {share.id}: it exists as {seen.filesystem}")
            return True
        least = self.minimum[share.filesystem]
        if share.size < least:
            raise Invalid(f"cannot create share {share.id}: smaller than {least // MIB} MiB", field="size")
        if self.pool.free < GIB:
            raise Exhausted(f"cannot create share {share.id}: pool {self.pool.name} is full")
        return False


def _snapshots(seen: ShareSeen) -> frozenset[SnapshotId]:
    return seen.snapshots or frozenset()


def _held(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
