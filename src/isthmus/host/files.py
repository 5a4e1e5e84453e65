"""Files and directories that survive a power cut, and calls that Python 3.11 lacks. Everything here blocks."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
from pathlib import Path

from isthmus.model.errors import KernelRefused

_RENAME_EXCHANGE = 2
_GETFLAGS, _SETFLAGS, _IMMUTABLE = 0x80086601, 0x40086602, 0x10

_libc = ctypes.CDLL(None, use_errno=True)
_libc.renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_libc.syncfs.argtypes = (ctypes.c_int,)


def sync_directory(path: Path) -> None:
    """The names in a directory are on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    """A file's bytes and size are on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_whole(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """The file holds ``content``, on the disk. Whatever happens meanwhile, it holds the old content or the new; what
    an interrupted call leaves is ``path`` with the suffix ``.part``, which the next call uses up."""
    part = path.with_name(path.name + ".part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    sync_directory(path.parent)


def sync_filesystem(path: Path) -> None:
    """All that was written to the file system of ``path`` is on its disk. Raises ``KernelRefused`` if some was lost."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) < 0:
            raise KernelRefused(f"sync the file system of {path}", ctypes.get_errno())
    finally:
        os.close(fd)


def exchange(one: Path, other: Path) -> None:
    """The two names have changed places, at one instant."""
    at_cwd = -100
    if _libc.renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), _RENAME_EXCHANGE) < 0:
        raise KernelRefused(f"exchange {one} and {other}", ctypes.get_errno() or errno.EIO)


def set_immutable(directory: Path, *, immutable: bool) -> None:
    """No name in the directory can be made, changed or removed (chattr(1), +i), by nobody who lacks
    CAP_LINUX_IMMUTABLE; or it can again. Absent is success. Numbers are those of <linux/fs.h>."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        flags = bytearray(8)
        fcntl.ioctl(fd, _GETFLAGS, flags)
        before = int.from_bytes(flags[:4], sys.byteorder)
        after = before | _IMMUTABLE if immutable else before & ~_IMMUTABLE
        if after != before:
            fcntl.ioctl(fd, _SETFLAGS, after.to_bytes(4, sys.byteorder) + bytes(4))
    except OSError as error:
        raise KernelRefused(f"protect {directory} against changes", error.errno or errno.EIO) from error
    finally:
        os.close(fd)
