"""How a share lies inside its btrfs. Everything here but ``receive`` blocks; paths are below the mount of the whole.

data             what the tenant sees; its root bears the share's generation, out of the tenant's sight
data.new         the next data (a revert in the making) or the last one (a revert that is to be tidied up)
snapshots/ID     read-only
copies/SHARE     the state that a clone is being made of, read-only

A guest that forges file handles reaches all of its share's file system, beside its data too. So the directories around
it are immutable but for the instants in which they are changed here, and nothing here follows a symbolic link.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isthmus.host import btrfs, files
from isthmus.host.command import Command
from isthmus.model.errors import HostFailure, Invalid, NotFound
from isthmus.model.names import MIB, ShareId, SnapshotId, parse_uuid

_GENERATION = "trusted.isthmus.generation"
_COPY_DEADLINE = 24 * 3600.0

_gates: dict[Path, threading.Lock] = {}


class Subvolumes:
    """The subvolumes below one mount."""

    def __init__(self, top: Path) -> None:
        self.data = top / "data"
        self._next = top / "data.new"
        self._snapshots = top / "snapshots"
        self._copies = top / "copies"
        self._top = top

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """The directories may be changed meanwhile, by whoever reaches them. One at a time: the first of two that
        overlap would shut the other out."""
        around = (self._top, self._snapshots, self._copies)
        with _gates.setdefault(self._top, threading.Lock()):
            for directory in around:
                files.set_immutable(directory, immutable=False)
            try:
                yield
            finally:
                for directory in around:
                    files.set_immutable(directory, immutable=True)

    def settle(self) -> None:
        """A fresh file system has its empty data; what interrupted operations left is gone.

        Raises ``HostFailure`` if the data of a file system that is not fresh is missing.
        """
        with self._changing():
            if not btrfs.is_subvolume(self.data):
                if self._snapshots.exists():  # the last thing to be made: there was data once
                    raise HostFailure(f"cannot use {self.data}: the subvolume is gone", code="share-damaged")
                btrfs.create_subvolume(self.data)
                self.data.chmod(0o755)
            self._copies.mkdir(mode=0o700, exist_ok=True)
            self._snapshots.mkdir(mode=0o700, exist_ok=True)
            btrfs.delete_subvolume(self._next)
            for copy in self._copies.iterdir():
                btrfs.delete_subvolume(copy)

    def generation(self) -> int:
        """How many reverts the data has seen."""
        try:
            return int(os.getxattr(self.data, _GENERATION, follow_symlinks=False))
        except OSError as error:
            if error.errno == errno.ENODATA:
                return 0
            raise

    def stamp(self, generation: int) -> None:
        """The data, which has been replaced, bears the generation."""
        os.setxattr(self.data, _GENERATION, b"%d" % generation)
        files.sync_filesystem(self.data)

    def snapshots(self) -> frozenset[SnapshotId]:
        """The snapshots that are there."""
        return frozenset(id_ for path in self._snapshots.iterdir() if (id_ := _snapshot_id(path.name)) is not None)

    def take(self, snapshot: SnapshotId) -> None:
        """The snapshot is there; one that is there already stays as it is."""
        with self._changing():
            path = self._path(snapshot)
            if not btrfs.is_subvolume(path):
                btrfs.snapshot(self.data, path, read_only=True)

    def drop(self, snapshot: SnapshotId) -> None:
        """The snapshot is gone."""
        with self._changing():
            btrfs.delete_subvolume(self._path(snapshot))

    def revert(self, snapshot: SnapshotId, generation: int) -> None:
        """The data is the snapshot's and bears the generation. It was the old data or is the new, at every instant."""
        with self._changing():
            if self.generation() >= generation:
                return
            source = self._path(snapshot)
            if not btrfs.is_subvolume(source):
                raise NotFound("snapshot", snapshot)
            btrfs.delete_subvolume(self._next)
            btrfs.snapshot(source, self._next, read_only=False)
            os.setxattr(self._next, _GENERATION, b"%d" % generation)
            files.exchange(self._next, self.data)
            files.sync_filesystem(self.data)
            btrfs.delete_subvolume(self._next)

    def hold(self, copy: ShareId, snapshot: SnapshotId | None) -> tuple[Path, int]:
        """A read-only subvolume to copy from (the snapshot, or the present data, which ``let_go`` removes), and a
        descriptor of it: as long as that is open, it stays mounted."""
        with self._changing():
            if snapshot is not None:
                source = self._path(snapshot)
                if not btrfs.is_subvolume(source):
                    raise NotFound("snapshot", snapshot)
            else:
                source = self._copies / parse_uuid(copy, "share")
                btrfs.delete_subvolume(source)
                btrfs.snapshot(self.data, source, read_only=True)
            return source, os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def let_go(self, copy: ShareId) -> None:
        """What ``hold`` made is gone."""
        with self._changing():
            btrfs.delete_subvolume(self._copies / parse_uuid(copy, "share"))

    def adopt(self, name: str) -> None:
        """A copy that arrived under ``name`` is this share's data, of generation 0."""
        with self._changing():
            arrived = self._copies / name
            btrfs.delete_subvolume(self._next)
            btrfs.snapshot(arrived, self._next, read_only=False)
            try:
                os.removexattr(self._next, _GENERATION)
            except OSError as error:
                if error.errno != errno.ENODATA:
                    raise
            files.exchange(self._next, self.data)
            btrfs.delete_subvolume(self._next)
            btrfs.delete_subvolume(arrived)
            files.sync_filesystem(self.data)

    async def receive(self, source: Path) -> None:
        """A copy of a read-only subvolume of another file system arrives, by its name, for ``adopt``. No guest has this
        one yet, so its directories stay open until then."""
        await asyncio.to_thread(files.set_immutable, self._copies, immutable=False)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        send = Command.of("btrfs", "-q", "send", "-f", f"/dev/fd/{writer}", str(source), deadline=_COPY_DEADLINE)
        # -e: it ends at the stream's own end mark, for this process keeps the pipe open until both have ended
        receive = Command.of(
            "btrfs", "-q", "receive", "-e", "-f", f"/dev/fd/{reader}", str(self._copies), deadline=_COPY_DEADLINE
        )
        both = {asyncio.create_task(send.run(pass_fds=(writer,))), asyncio.create_task(receive.run(pass_fds=(reader,)))}
        try:
            ended, _ = await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in both:
                task.cancel()  # which ends the program: one is of no use without the other
            await asyncio.gather(*both, return_exceptions=True)
            os.close(reader)
            os.close(writer)
        for task in ended:
            task.result()

    def is_full(self) -> bool:
        """Whether the file system, into which a copy was to arrive, has no room for 16 MiB more."""
        fd = os.open(self._copies, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, 16 * MIB)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return True
        finally:
            os.close(fd)
        return False

    def _path(self, snapshot: SnapshotId) -> Path:
        return self._snapshots / parse_uuid(snapshot, "snapshot")


def _snapshot_id(name: str) -> SnapshotId | None:
    try:
        return SnapshotId(parse_uuid(name, "snapshot"))
    except Invalid:
        return None
