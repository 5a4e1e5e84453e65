"""Files and directories that survive a power cut, and calls that Python 3.11 lacks. Everything here blocks."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from isthmus.model.errors import KernelRefused

_RENAME_EXCHANGE = 2

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
