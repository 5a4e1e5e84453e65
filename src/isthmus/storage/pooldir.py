"""A local pool's directory: what of a share lies on the host's disk beside its file system.

    PATH/shares/SHARE/image     the file system, a sparse file
    PATH/shares/SHARE/share.json   what the image does not tell without a mount (``Record``)
    PATH/shares/SHARE/pending   a change of the file system is under way (``Pending``)
    PATH/shares/SHARE.new/      a share in the making       } what an interrupted
    PATH/shares/SHARE.gone/     a share that is being removed } operation leaves

PATH/shares is made when the pool is first looked at: a pool that was in use and has none is a mount point without its
disk. Everything is root's alone. Everything here blocks.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isthmus.host import files
from isthmus.model.errors import Exhausted, HostFailure, Invalid, KernelRefused, NotFound
from isthmus.model.names import MIB, ShareId, SnapshotId, parse_uuid
from isthmus.model.share import Filesystem, Pool

MARGIN = 128 * MIB
"""Bytes beyond the pool's reserve that must be free for a new promise: more than any fresh file system occupies."""

NEW, GONE = ".new", ".gone"
_PRIVATE = 0o700


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a share without mounting it. ``size`` in bytes. ``generation`` and ``snapshots`` mirror what the
    file system itself says; whoever mounts it compares."""

    filesystem: Filesystem
    checksums: bool
    size: int
    generation: int = 0
    snapshots: frozenset[SnapshotId] = frozenset()
    version: int = 1


@dataclass(frozen=True, slots=True)
class Pending:
    """A change that was begun: the record may not be the file system's truth. ``size``: what it is resized to."""

    size: int | None = None


class PoolDirectory:
    """The directory of one pool. Shares are named by UUIDs only; no symbolic link in it is followed."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.shares = Path(pool.path) / "shares"

    def check(self) -> os.statvfs_result:
        """The pool's file system, as found. Raises ``HostFailure`` with the mend if the pool cannot be used."""
        found = self._found()
        if found.f_flag & os.ST_RDONLY:
            raise HostFailure(
                f"cannot use pool {self.pool.name}: {self.pool.path} is read-only: "
                "see the kernel's log for why, mend the disk and remount it",
                code="pool-read-only",
            )
        if not self.shares.is_dir():
            if self.pool.made:
                raise HostFailure(
                    f"cannot use pool {self.pool.name}: {self.pool.path} is blank, and once it was not: mount its disk",
                    code="pool-blank",
                )
            self.shares.mkdir(mode=_PRIVATE, exist_ok=True)
        return found

    def require_room(self, doing: str, size: int = 0) -> None:
        """Raise ``Exhausted`` unless the pool can take a new promise, and ``size`` bytes of data at once."""
        found = self.check()
        free, needed = found.f_bavail * found.f_frsize, self.pool.reserve + MARGIN + size
        if free < needed:
            raise Exhausted(
                f"cannot {doing}: pool {self.pool.name} has {free // MIB} MiB free at {self.pool.path}, "
                f"and {needed // MIB} MiB must be",
                code="pool-full",
                detail={"pool": self.pool.name, "free": free, "reserve": self.pool.reserve},
            )

    def names(self) -> Iterator[str]:
        """All that is among the shares."""
        try:
            with os.scandir(self.shares) as entries:
                yield from (entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return

    def path(self, share: ShareId, suffix: str = "") -> Path:
        """A share's directory, there or not. Raises ``Invalid`` for what is no UUID."""
        return self.shares / (parse_uuid(share, "share") + suffix)

    def image(self, share: ShareId) -> Path:
        """A share's file system."""
        return self.path(share) / "image"

    def occupied(self, share: ShareId) -> int:
        """Bytes of the host's disk that the image takes."""
        return self.image(share).lstat().st_blocks * 512  # stat(2): whatever the file system's block is

    def find(self, share: ShareId) -> Record | None:
        """The share's record; None if the pool can be used and has no such share. Raises ``HostFailure`` if the record
        or the pool cannot be read."""
        path = self.path(share) / "share.json"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            self.check()
            if self.path(share).exists():
                raise HostFailure(f"cannot read share {share}: {path} is missing", code="share-damaged") from None
            return None
        with os.fdopen(fd, "rb") as file:
            try:
                return msgspec.json.decode(file.read(), type=Record)
            except msgspec.MsgspecError as error:
                raise HostFailure(f"cannot read share {share}: {path}: {error}", code="share-damaged") from error

    def get(self, share: ShareId) -> Record:
        """The share's record. Raises ``NotFound``."""
        record = self.find(share)
        if record is None:
            raise NotFound("share", share)
        return record

    def put(self, share: ShareId, record: Record) -> None:
        """The record is on the disk."""
        _write(self.path(share), record)

    def pending(self, share: ShareId) -> Pending | None:
        """The change that was begun and not ended; None if there is none."""
        try:
            content = (self.path(share) / "pending").read_bytes()
        except FileNotFoundError:
            return None
        try:
            return msgspec.json.decode(content, type=Pending)
        except msgspec.MsgspecError:
            return Pending()  # cut off by a power cut: that something was begun is all that it needs to say

    def begin(self, share: ShareId, pending: Pending) -> None:
        """A change is begun. A resize is so on the disk; others show in the file system itself after a power cut."""
        path = self.path(share) / "pending"
        content = msgspec.json.encode(pending)
        if pending.size is None:
            path.write_bytes(content)
        else:
            files.write_whole(path, content)

    def end(self, share: ShareId) -> None:
        """The record is the truth."""
        (self.path(share) / "pending").unlink(missing_ok=True)

    def prepare(self, share: ShareId, size: int) -> Path:
        """The image, all hole, of a share that is there once it is committed."""
        new = self.path(share, NEW)
        remove(new)
        new.mkdir(mode=_PRIVATE)
        image = new / "image"
        fd = os.open(image, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, size)
        finally:
            os.close(fd)
        return image

    def commit(self, share: ShareId, record: Record) -> None:
        """What was prepared is the share, on the disk."""
        new = self.path(share, NEW)
        files.sync_file(new / "image")
        _write(new, record)
        new.rename(self.path(share))
        files.sync_directory(self.shares)

    def discard(self, share: ShareId) -> None:
        """Nothing of the share is there: neither itself nor what operations left of it. In a pool that cannot be used
        nothing is known to be gone: ``HostFailure``."""
        self.check()
        self.tidy(share)
        if self.path(share).exists():
            self.path(share).rename(self.path(share, GONE))
            files.sync_directory(self.shares)
            self.tidy(share)

    def tidy(self, share: ShareId) -> None:
        """What interrupted operations left of the share is gone; itself is not touched."""
        for suffix in (NEW, GONE):
            remove(self.path(share, suffix))

    def _found(self) -> os.statvfs_result:
        path = Path(self.pool.path)
        try:
            mode = path.lstat().st_mode
            if not stat.S_ISDIR(mode):
                raise HostFailure(
                    f"cannot use pool {self.pool.name}: {path} is no directory: give the path of one that is no link",
                    code="pool-unusable",
                )
            return os.statvfs(path)
        except FileNotFoundError as error:
            raise HostFailure(
                f"cannot use pool {self.pool.name}: {path} does not exist: mount its disk or make the directory",
                code="pool-missing",
            ) from error
        except OSError as error:
            raise KernelRefused(f"use pool {self.pool.name} at {path}", error.errno or errno.EIO) from error


def share_of(name: str) -> tuple[ShareId | None, str]:
    """What a name among the shares stands for: a share and a suffix; (None, "") for a stranger's."""
    stem, dot, rest = name.partition(".")
    try:
        return ShareId(parse_uuid(stem, "share")), dot + rest
    except Invalid:
        return None, ""


def remove(path: Path) -> None:
    """Nothing is at ``path``, a directory or nothing."""
    if os.path.lexists(path):
        shutil.rmtree(path)


def _write(directory: Path, record: Record) -> None:
    files.write_whole(directory / "share.json", msgspec.json.encode(record))
