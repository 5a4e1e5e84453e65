"""Writing an initramfs: a cpio archive of the "newc" kind.

Its format is in Linux's Documentation/driver-api/early-userspace/buffer-format.rst. Everything belongs to root and has
the same time, so the same content gives the same bytes.
"""

from __future__ import annotations

import stat
from pathlib import PurePosixPath
from typing import BinaryIO


class Archive:
    """An archive that grows. Parent directories are made as they are needed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inode = 0
        self._directories: set[str] = set()

    def directory(self, name: str) -> None:
        """An empty directory, unless it is there."""
        if name not in self._directories:
            self._parents(name)
            self._directories.add(name)
            self._entry(name, stat.S_IFDIR | 0o755)

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """A plain file."""
        self._parents(name)
        self._entry(name, stat.S_IFREG | mode, content)

    def symlink(self, name: str, target: str) -> None:
        """A symbolic link."""
        self._parents(name)
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def close(self) -> None:
        """The archive ends here; the file stays open."""
        self._entry("TRAILER!!!", 0)

    def _parents(self, name: str) -> None:
        parent = str(PurePosixPath(name).parent)
        if parent != ".":
            self.directory(parent)

    def _entry(self, name: str, mode: int, content: bytes = b"") -> None:
        self._inode += 1
        links, time, size = 1, 0, len(content)
        fields = (self._inode, mode, 0, 0, links, time, size, 0, 0, 0, 0, len(name.encode()) + 1, 0)
        self._padded(b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0")
        self._padded(content)

    def _padded(self, data: bytes) -> None:
        self._file.write(data + b"\0" * (-len(data) % 4))
