"""Subvolumes of btrfs, by ioctl: typed failures, and no program to start. Everything here blocks.

Numbers and structures are those of <linux/btrfs.h>, as encoded on x86 and ARM.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isthmus.model.errors import KernelRefused

_SUBVOL_CREATE, _SNAP_DESTROY, _RESIZE, _SNAP_CREATE_V2 = 0x5000940E, 0x5000940F, 0x50009403, 0x50009417
_RDONLY = 2
_ARGS = struct.Struct("=q 4088s")  # struct btrfs_ioctl_vol_args: fd, name
_ARGS_V2 = struct.Struct("=q Q Q 4Q 4040s")  # ..._v2: fd, transid, flags, unused, name

ROOT_INODE = 256
"""The inode number of the root directory of every subvolume."""


def is_subvolume(path: Path) -> bool:
    """Whether a subvolume is there (not a plain directory, not nothing)."""
    try:
        return path.lstat().st_ino == ROOT_INODE
    except FileNotFoundError:
        return False


def create_subvolume(path: Path) -> None:
    """An empty subvolume is at ``path``. Raises ``KernelRefused`` with EEXIST if something is."""
    _call(f"create subvolume {path}", path.parent, _SUBVOL_CREATE, _ARGS.pack(0, os.fsencode(path.name)))


def snapshot(source: Path, path: Path, *, read_only: bool) -> None:
    """``path`` is a subvolume that shares all data with ``source`` as written up to now, synced or not. It is on the
    disk when this returns. Raises ``KernelRefused`` with EEXIST if something is at ``path``."""
    doing = f"snapshot {source} as {path}"
    with _opened(doing, source) as fd:
        flags = _RDONLY if read_only else 0
        _call(doing, path.parent, _SNAP_CREATE_V2, _ARGS_V2.pack(fd, 0, flags, 0, 0, 0, 0, os.fsencode(path.name)))


def delete_subvolume(path: Path) -> None:
    """Nothing is at ``path``; its room is given back by and by. Absent is success."""
    try:
        _call(f"delete subvolume {path}", path.parent, _SNAP_DESTROY, _ARGS.pack(0, os.fsencode(path.name)))
    except KernelRefused as error:
        if error.errno != errno.ENOENT:
            raise


def resize(mount: Path, size: int) -> None:
    """The file system on its one device has ``size`` bytes, online; the same size is success. Shrinking moves what
    lies beyond. Raises ``KernelRefused`` with ENOSPC if that does not fit (it keeps its size), EFBIG if the device is
    smaller."""
    _call(f"resize {mount} to {size} bytes", mount, _RESIZE, _ARGS.pack(0, b"1:%d" % size))


def _call(doing: str, directory: Path, number: int, arguments: bytes) -> None:
    with _opened(doing, directory) as fd:
        try:
            fcntl.ioctl(fd, number, bytearray(arguments))  # a buffer over 1024 bytes must be a mutable one
        except OSError as error:
            raise KernelRefused(doing, error.errno or errno.EIO) from error


@contextmanager
def _opened(doing: str, directory: Path) -> Iterator[int]:
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise KernelRefused(doing, error.errno or errno.EIO) from error
    try:
        yield fd
    finally:
        os.close(fd)
