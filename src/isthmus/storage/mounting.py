"""The mounts of shares on this host, beneath the layout's run directory. Everything here blocks.

``SHARE/data`` is what gateways bind: the root of the file system (XFS, ext4), or the subvolume ``data`` (btrfs).
``SHARE/top`` is the whole of a btrfs with its snapshots, for the driver alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from isthmus.host import loop, mounts
from isthmus.model.errors import Invalid, KernelRefused
from isthmus.model.layout import Layout
from isthmus.model.names import ShareId, parse_uuid
from isthmus.model.share import Filesystem

_STOPPED = {"ro", "emergency_ro", "shutdown"}
"""Super block options that say "no more writes" of what was mounted for writing: by btrfs and older ext4; the others by
ext4 since Linux 6.15."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """A share's mounts. ``stopped``: its file system takes no more writes after an error."""

    device: str
    data: bool = False
    top: bool = False
    stopped: bool = False


class Mounts:
    """Mounts and unmounts the shares of one layout."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def data(self, share: ShareId) -> Path:
        """Where a share's data is mounted."""
        return Path(self._layout.share_data(share))

    def top(self, share: ShareId) -> Path:
        """Where the whole of a btrfs is mounted."""
        return self._layout.share_dir(share) / "top"

    def survey(self) -> Mapping[ShareId, Mounted]:
        """The shares that have mounts, by the kernel's table."""
        found: dict[ShareId, Mounted] = {}
        for entry in mounts.mounts():
            target = Path(entry.target)
            if target.parent.parent != self._layout.shares or target.name not in ("data", "top"):
                continue
            try:
                share = ShareId(parse_uuid(target.parent.name, "share"))
            except Invalid:
                continue
            stopped = bool(entry.super_options & _STOPPED) or (entry.fstype == "xfs" and _is_shut_down(target))
            now = found.get(share, Mounted(entry.source))
            found[share] = replace(
                now,
                data=now.data or target.name == "data",
                top=now.top or target.name == "top",
                stopped=now.stopped or stopped,
            )
        return found

    def directories(self) -> frozenset[str]:
        """The shares that have mount points, mounted or not."""
        try:
            return frozenset(path.name for path in self._layout.shares.iterdir())
        except FileNotFoundError:
            return frozenset()

    def of(self, share: ShareId) -> Mounted | None:
        """The share's mounts; None if it has none."""
        return self.survey().get(share)

    def mount(
        self,
        share: ShareId,
        image: Path,
        filesystem: Filesystem,
        options: Mapping[str, str | None],
        target: Path,
    ) -> None:
        """The image's file system is mounted at ``target``, through the device that it has or a fresh one. Nothing
        that runs on the host can be executed from it, nor be a device or set an id."""
        for directory in (self._layout.shares, self._layout.share_dir(share), target):
            directory.mkdir(mode=0o700, exist_ok=True, parents=directory == self._layout.shares)
        with loop.pinned(image) as device:
            if device is not None:
                mounts.mount_filesystem(filesystem, device, str(target), options, noexec=True)
                return
        fd = os.open(image, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with loop.attach(fd) as device:
                mounts.mount_filesystem(filesystem, device, str(target), options, noexec=True)
        finally:
            os.close(fd)

    def unmount(self, share: ShareId, image: Path) -> None:
        """The share is mounted nowhere. Raises ``KernelRefused`` with EBUSY while somebody has files of it open, or has
        it in a mount namespace of his own."""
        for target in (self.data(share), self.top(share)):
            mounts.unmount(str(target))
            self._remove(target)
        self._remove(self._layout.share_dir(share))
        # A sandbox that is just being made has a copy of every mount for some milliseconds.
        if not loop.is_cleared(image, within=0.25):
            raise KernelRefused(f"unmount share {share}: a gateway's namespace still holds it", errno.EBUSY)

    @staticmethod
    def _remove(directory: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            directory.rmdir()


def _is_shut_down(target: Path) -> bool:
    """A shut-down XFS looks healthy in the kernel's table, but answers every call with EIO, before it takes a lock."""
    try:
        target.stat()
    except OSError as error:
        return error.errno == errno.EIO
    return False
