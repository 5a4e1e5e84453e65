"""The ``local`` driver: each share is a file system of its own in a sparse image below a directory of this host.

One file system per share because a file handle is no boundary inside one. See docs/adr/0003 for the default format, and
``pooldir``, ``mounting``, ``subvolumes`` and ``formats`` for what lies where.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from isthmus.host import files
from isthmus.model.errors import (
    CommandFailed,
    Conflict,
    Exhausted,
    HostFailure,
    Invalid,
    IsthmusError,
    NotFound,
    Refused,
)
from isthmus.model.layout import Layout
from isthmus.model.names import MIB, ShareId, SnapshotId, parse_uuid
from isthmus.model.share import Filesystem, Origin, Pool, PoolSeen, Power, ShareSeen, ShareSpec
from isthmus.storage.driver import PathSource
from isthmus.storage.exclusive import Exclusive
from isthmus.storage.formats import Format, Shrinks, installed
from isthmus.storage.mounting import Mounted, Mounts
from isthmus.storage.pooldir import Pending, PoolDirectory, Record, share_of
from isthmus.storage.subvolumes import Subvolumes
from isthmus.storage.volumes import Volumes

_Result = TypeVar("_Result")


class LocalDriver:
    """Shares on the disks of this host. All powers by file system: ``powers``.

    What was begun goes on to its end even if the caller stops waiting for it; the next call for the share waits.
    """

    def __init__(self, pool: Pool, layout: Layout) -> None:
        self._directory = PoolDirectory(pool)
        self._mounts = Mounts(layout)
        self._formats = installed()
        self._volumes = Volumes(self._directory, self._mounts, self._formats)
        self._shares = Exclusive()

    @property
    def powers(self) -> Mapping[Filesystem, frozenset[Power]]:
        return {name: form.powers for name, form in self._formats.items()}

    @property
    def minimum(self) -> Mapping[Filesystem, int]:
        return {name: form.minimum for name, form in self._formats.items()}

    def redefine(self, pool: Pool) -> None:
        self._directory.pool = pool

    async def observe(self) -> PoolSeen:
        before = self._shares.at_work()
        seen = await asyncio.to_thread(self._observe)
        working = before | self._shares.at_work()  # what is in the making is no debris
        return replace(seen, debris=tuple(name for name in seen.debris if share_of(name)[0] not in working))

    async def create(self, share: ShareSpec) -> None:
        await self._shares.alone("create", share.id, lambda: self._create(share))

    async def delete(self, share: ShareId) -> None:
        async def work() -> None:
            await asyncio.to_thread(self._volumes.unmount, share)
            await asyncio.to_thread(self._directory.discard, share)

        await self._shares.alone("delete", share, work)

    async def resize(self, share: ShareId, size: int) -> None:
        await self._shares.alone("resize", share, lambda: self._resize(share, size))

    async def source(self, share: ShareId) -> PathSource:
        async def work() -> PathSource:
            await self._volumes.open(share, await asyncio.to_thread(self._directory.get, share))
            return PathSource(str(self._mounts.data(share)))

        return await self._shares.alone("mount", share, work)

    async def release(self, share: ShareId) -> None:
        await self._shares.alone("unmount", share, lambda: asyncio.to_thread(self._volumes.unmount, share))

    async def sweep(self) -> None:
        names = await asyncio.to_thread(lambda: self._observe().debris)
        errors: list[IsthmusError] = []
        for share in sorted({share for name in names if (share := share_of(name)[0])} - self._shares.at_work()):
            try:
                await self._shares.alone("sweep", share, partial(self._sweep, share))
            except IsthmusError as error:  # one share's trouble is not the others': the first is told at the end
                errors.append(error)
        if errors:
            raise errors[0]

    async def snapshot(self, share: ShareId, snapshot: SnapshotId) -> None:
        async def work() -> None:
            record = await self._record(share, Power.SNAPSHOT, "take a snapshot")
            if snapshot in record.snapshots:
                return
            await self._volumes.change(share, record, lambda inside: inside.take(snapshot))

        parse_uuid(snapshot, "snapshot")
        await self._shares.alone("take a snapshot of", share, work)

    async def delete_snapshot(self, share: ShareId, snapshot: SnapshotId) -> None:
        async def work() -> None:
            record = await asyncio.to_thread(self._directory.find, share)
            if record is not None and snapshot in record.snapshots:
                await self._volumes.change(share, record, lambda inside: inside.drop(snapshot))

        parse_uuid(snapshot, "snapshot")
        await self._shares.alone("delete a snapshot of", share, work)

    async def revert(self, share: ShareId, snapshot: SnapshotId, generation: int) -> None:
        async def work() -> None:
            record = await self._record(share, Power.REVERT, "go back to a snapshot")
            if record.generation >= generation:
                return
            await asyncio.to_thread(self._volumes.unmount, share)
            try:
                await self._volumes.change(
                    share, record, lambda inside: inside.revert(snapshot, generation), data=False
                )
            finally:
                await asyncio.to_thread(self._volumes.unmount, share)

        parse_uuid(snapshot, "snapshot")
        await self._shares.alone("revert", share, work)

    async def clone(self, share: ShareSpec) -> None:
        if share.origin is None:
            raise Invalid(f"cannot clone share {share.id}: it has no origin", field="origin")
        origin = share.origin
        await self._shares.alone("clone", share.id, lambda: self._clone(share, origin))

    @asynccontextmanager
    async def reading(self, share: ShareId, snapshot: SnapshotId | None, *, by: ShareId) -> AsyncIterator[PathSource]:
        async with self._shares.lock(share):
            record = await self._volumes.open(share, await asyncio.to_thread(self._directory.get, share))
            form, inside = self._volumes.form(record.filesystem), Subvolumes(self._mounts.top(share))
            if snapshot is not None and snapshot not in record.snapshots:
                raise NotFound("snapshot", snapshot)
            if form.subvolumes:
                source, pin = await asyncio.to_thread(inside.hold, by, snapshot)
            else:
                source = self._mounts.data(share)
                pin = await asyncio.to_thread(os.open, source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield PathSource(str(source))
        finally:
            os.close(pin)  # as long as it was open, nobody could unmount the share
            if form.subvolumes:
                async with self._shares.lock(share):
                    await asyncio.to_thread(inside.let_go, by)

    @asynccontextmanager
    async def writing(self, share: ShareId, generation: int) -> AsyncIterator[PathSource]:
        async with self._shares.lock(share):
            record = await self._volumes.open(share, await asyncio.to_thread(self._directory.get, share))
            data = self._mounts.data(share)
            yield PathSource(str(data))
            await asyncio.to_thread(files.sync_filesystem, data)
            if self._volumes.form(record.filesystem).subvolumes:
                await self._volumes.change(share, record, lambda inside: inside.stamp(generation))
            else:
                await asyncio.to_thread(self._directory.put, share, replace(record, generation=generation))

    # -- what the calls do, each alone with its share ------------------------------------------------------------------

    async def _create(self, share: ShareSpec) -> None:
        if await asyncio.to_thread(self._is_made, share):
            return
        form = self._volumes.form(share.filesystem)
        self._check_size(share, form)
        await asyncio.to_thread(self._directory.require_room, f"create share {share.id}")
        await self._volumes.tidy(share.id)
        try:
            image = await asyncio.to_thread(self._directory.prepare, share.id, share.size)
            await form.make(image)
            await asyncio.to_thread(self._directory.commit, share.id, _fresh_record(share))
        except (IsthmusError, OSError):
            await self._volumes.tidy(share.id)
            raise

    async def _clone(self, share: ShareSpec, origin: Origin) -> None:
        if await asyncio.to_thread(self._is_made, share):
            return
        form = self._volumes.form(share.filesystem)
        source = await self._record(origin.share, Power.CLONE, "clone it")
        if source.filesystem != share.filesystem:
            raise Refused(f"cannot clone share {origin.share} to {share.filesystem}: it is {source.filesystem}")
        self._check_size(share, form)
        data = min(share.size, await asyncio.to_thread(self._directory.occupied, origin.share))
        await asyncio.to_thread(self._directory.require_room, f"clone share {origin.share}", data)
        await self._volumes.tidy(share.id)
        try:
            image = await asyncio.to_thread(self._directory.prepare, share.id, share.size)
            await form.make(image)
            await self._fill(share, image, form, origin)
            await asyncio.to_thread(self._mounts.unmount, share.id, image)
            await asyncio.to_thread(self._directory.commit, share.id, _fresh_record(share))
        except (IsthmusError, OSError):
            await self._volumes.tidy(share.id)
            raise

    async def _fill(self, share: ShareSpec, image: Path, form: Format, origin: Origin) -> None:
        """The fresh file system holds what the origin held. The origin may be used, and mounted anew, meanwhile."""
        top = self._mounts.top(share.id)
        options = form.options(checksums=share.checksums)
        await asyncio.to_thread(self._mounts.mount, share.id, image, form.filesystem, options, top)
        inside = Subvolumes(top)
        await asyncio.to_thread(inside.settle)
        async with self.reading(origin.share, origin.snapshot, by=share.id) as held:
            source = Path(held.path)
            try:
                await inside.receive(source)
                await asyncio.to_thread(inside.adopt, source.name)
            except CommandFailed as error:
                await asyncio.to_thread(self._directory.require_room, f"clone share {origin.share}")
                if await asyncio.to_thread(inside.is_full):
                    raise Exhausted(
                        f"cannot clone share {origin.share}: what it holds does not fit into {share.size // MIB} MiB",
                        code="clone-too-small",
                    ) from error
                raise

    async def _resize(self, share: ShareId, size: int) -> None:
        record = await asyncio.to_thread(self._directory.get, share)
        pending = await asyncio.to_thread(self._directory.pending, share)
        if pending is not None and pending.size is not None:
            record = await self._volumes.fit(share, record, pending.size)
        if record.size == size:
            return
        form = self._volumes.form(record.filesystem)
        if size < form.least_resize or size % MIB:
            raise Refused(
                f"cannot resize share {share} to {size} bytes: "
                f"{form.filesystem} is resized to whole MiB, and at least {form.least_resize // MIB} MiB",
                code="size-unsupported",
            )
        if size < record.size and not isinstance(form, Shrinks):
            raise Refused(f"cannot shrink share {share}: {form.filesystem} only grows", code="shrink-unsupported")
        if size > record.size:
            await asyncio.to_thread(self._directory.require_room, f"grow share {share}")
        record = await self._volumes.open(share, record)
        await asyncio.to_thread(self._directory.begin, share, Pending(size))
        await self._volumes.fit(share, record, size)

    async def _sweep(self, share: ShareId) -> None:
        await self._volumes.tidy(share)
        record = await asyncio.to_thread(self._directory.find, share)
        if record is None:
            return
        pending = await asyncio.to_thread(self._directory.pending, share)
        if pending is not None and pending.size is not None:
            await self._volumes.fit(share, record, pending.size)
        elif pending is not None:
            await self._volumes.change(share, record, Subvolumes.settle)
        elif not await asyncio.to_thread(self._volumes.is_mounted, share):
            await asyncio.to_thread(self._volumes.unmount, share)

    # -- what blocks ---------------------------------------------------------------------------------------------------

    def _observe(self) -> PoolSeen:
        room = self._directory.check()
        mounted, directories = self._mounts.survey(), self._mounts.directories()
        shares: dict[ShareId, ShareSeen] = {}
        debris: list[str] = []
        for name in self._directory.names():
            share, suffix = share_of(name)
            if share is None:
                continue
            if suffix:
                debris.append(name)
                continue
            now = mounted.get(share)
            try:
                record = self._directory.find(share)
                if record is None:
                    continue
                shares[share] = _seen(share, record, self._directory.occupied(share), now)
                if self._directory.pending(share) is not None:
                    debris.append(f"{share}.pending")
            except (HostFailure, FileNotFoundError):  # damaged, or just removed: it is not there to be used
                continue
            if share in directories and (now is None or not now.data):
                debris.append(f"{share}.mounts")
        return PoolSeen(
            self._directory.pool.name,
            total=room.f_blocks * room.f_frsize,
            free=room.f_bavail * room.f_frsize,
            shares=shares,
            debris=tuple(sorted(debris)),
        )

    def _is_made(self, share: ShareSpec) -> bool:
        """Whether the share is there already. Raises ``Conflict`` if it is another."""
        record = self._directory.find(share.id)
        if record is None:
            return False
        if record.filesystem != share.filesystem:
            raise Conflict(f"cannot create share {share.id} as {share.filesystem}: it exists as {record.filesystem}")
        return True

    # -- rules ---------------------------------------------------------------------------------------------------------

    async def _record(self, share: ShareId, power: Power, doing: str) -> Record:
        """The share's record. Raises ``NotFound``, and ``Refused`` if its file system lacks the power."""
        record = await asyncio.to_thread(self._directory.get, share)
        if power not in self._volumes.form(record.filesystem).powers:
            raise Refused(f"cannot {doing} of share {share}: {record.filesystem} has no {power}")
        return record

    def _check_size(self, share: ShareSpec, form: Format) -> None:
        if share.size < form.minimum or share.size % MIB:
            raise Invalid(
                f"cannot create share {share.id} of {share.size} bytes: "
                f"{form.filesystem} takes whole MiB, and at least {form.minimum // MIB} MiB",
                field="size",
            )


def _fresh_record(share: ShareSpec) -> Record:
    return Record(share.filesystem, share.checksums, share.size)


def _seen(share: ShareId, record: Record, used: int, now: Mounted | None) -> ShareSeen:
    return ShareSeen(
        share,
        record.size,
        record.filesystem,
        checksums=record.checksums,
        generation=record.generation,
        used=used,
        mounted=now is not None and now.data,
        wounded=now is not None and now.stopped,
        snapshots=record.snapshots,
    )
