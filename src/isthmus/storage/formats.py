"""The file systems inside shares: how each is made, mended, mounted and resized.

Sizes are whole MiB. Images are made on files that read as zeros, so nothing is wiped or discarded, and no file system
relies on the device's block size: all are built for blocks of 4 KiB (``loop.BLOCK_SIZE``).
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from isthmus.host import btrfs, capability
from isthmus.host.command import SEARCH_PATH, Command
from isthmus.model.errors import CommandFailed, KernelRefused, Refused
from isthmus.model.names import MIB
from isthmus.model.share import Filesystem, Power

SLOW = 600.0
"""Seconds that a check or a resize of a large file system may take."""


class Format(Protocol):
    """What a share's file system can do. ``subvolumes``: data and snapshots are such, in a whole that is mounted beside
    them. ``minimum``: the smallest in bytes that is of use; ``least_resize``: the smallest that it can be brought to.
    ``programs``: what must be installed, from the Debian ``package``."""

    filesystem: Filesystem
    subvolumes: bool
    powers: frozenset[Power]
    minimum: int
    least_resize: int
    programs: tuple[str, ...]
    package: str

    async def make(self, image: Path) -> None:
        """An empty file system fills the image."""
        ...

    async def mend(self, image: Path) -> None:
        """The file system of an unmounted image can be mounted for writing; all that was synced is still there."""
        ...

    def options(self, *, checksums: bool) -> Mapping[str, str | None]:
        """Mount options. All give room back to the pool when files are deleted."""
        ...

    async def grow(self, mount: Path, device: str, size: int) -> None:
        """The mounted file system fills its device of ``size`` bytes; already so is success."""
        ...


@runtime_checkable
class Shrinks(Protocol):
    """A file system that can become smaller while it is used."""

    async def shrink(self, mount: Path, size: int) -> None:
        """The mounted file system has ``size`` bytes. Raises ``Refused``, having kept its size, if the data does not
        fit."""
        ...


@runtime_checkable
class GrowsUnmounted(Protocol):
    """A file system that cannot always grow while it is used."""

    def grows_mounted(self) -> bool:
        """Whether ``grow`` works for this process."""
        ...

    async def grow_image(self, image: Path) -> None:
        """The unmounted file system fills its image."""
        ...


class Btrfs:
    """Subvolumes and snapshots. Metadata once (the host's disk is what is redundant) and always with checksums."""

    filesystem = Filesystem.BTRFS
    subvolumes = True
    powers = frozenset(Power)
    minimum = 256 * MIB  # mkfs takes less, but the kernel resizes to no less, up or down (btrfs_ioctl_resize)
    least_resize = minimum
    programs: tuple[str, ...] = ("mkfs.btrfs", "btrfs")
    package = "btrfs-progs"

    async def make(self, image: Path) -> None:
        # Nodes of 4 KiB: with the default of 16 KiB the reserve takes 5.5 of the first 8 MiB of metadata, and a share
        # that one large file has filled takes no new file even after that file is gone.
        await Command.of(
            *("mkfs.btrfs", "--quiet", "--metadata", "single", "--nodesize", "4096", "--nodiscard", str(image))
        ).run()

    async def mend(self, image: Path) -> None:
        """Nothing: a mount replays the log of what was synced, and the last committed tree is whole."""

    def options(self, *, checksums: bool) -> Mapping[str, str | None]:
        return {"discard": "async"} if checksums else {"discard": "async", "nodatacow": None}

    async def grow(self, mount: Path, device: str, size: int) -> None:  # noqa: ARG002 - it knows its devices
        await asyncio.to_thread(btrfs.resize, mount, size)

    async def shrink(self, mount: Path, size: int) -> None:
        try:
            await asyncio.to_thread(btrfs.resize, mount, size)
        except KernelRefused as error:
            if error.errno != errno.ENOSPC:
                raise
            raise Refused(
                f"cannot shrink to {size // MIB} MiB: what the share and its snapshots hold does not fit",
                code="shrink-too-far",
            ) from error


class Xfs:
    """Its log is written when it is made, so that a full host disk never stops it: it waits for room instead."""

    filesystem = Filesystem.XFS
    subvolumes = False
    powers: frozenset[Power] = frozenset()
    minimum = 300 * MIB  # what mkfs.xfs 5.19 and later take
    least_resize = minimum
    programs: tuple[str, ...] = ("mkfs.xfs", "xfs_growfs")
    package = "xfsprogs"

    async def make(self, image: Path) -> None:
        # A log of 64 MiB whatever the size: by default it grows to 2 GiB, all of it written to the host's disk at once
        await Command.of("mkfs.xfs", "-q", "-K", "-s", "size=4096", "-l", "size=64m", str(image)).run()

    async def mend(self, image: Path) -> None:
        """Nothing: a mount replays the log."""

    def options(self, *, checksums: bool) -> Mapping[str, str | None]:  # noqa: ARG002 - it has none for data
        return {"discard": None}

    async def grow(self, mount: Path, device: str, size: int) -> None:  # noqa: ARG002 - it looks for itself
        await Command.of("xfs_growfs", "-d", str(mount), deadline=SLOW).run()


class Ext4:
    """The least overhead. It has no ``lost+found`` until a check finds something to put there: an empty share is
    empty."""

    filesystem = Filesystem.EXT4
    subvolumes = False
    powers: frozenset[Power] = frozenset()
    minimum = 16 * MIB  # below, the journal takes most of it
    least_resize = minimum
    programs: tuple[str, ...] = ("mkfs.ext4", "resize2fs", "e2fsck", "debugfs")
    package = "e2fsprogs"

    async def make(self, image: Path) -> None:
        # Prezeroed: inode tables and journal stay holes in the image, and no kernel thread fills them in later
        extended = "nodiscard,assume_storage_prezeroed=1"
        await Command.of("mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-E", extended, str(image)).run()
        await self._remove_lost_and_found(image)

    async def mend(self, image: Path) -> None:
        """After an abort of its journal ext4 mounts, and stops again at its next doubt: a check clears that."""
        if not await asyncio.to_thread(_ext4_is_clean, image):
            await self._check(image)

    def grows_mounted(self) -> bool:
        """The kernel asks for CAP_SYS_RESOURCE (ext4_resize_begin), which root in a container may lack."""
        return capability.has(capability.CAP_SYS_RESOURCE)

    async def grow_image(self, image: Path) -> None:
        await self._check(image, "-f")  # resize2fs insists on it
        await Command.of("resize2fs", str(image), deadline=SLOW).run()

    async def _check(self, image: Path, *options: str) -> None:
        try:
            await Command.of("e2fsck", "-p", *options, str(image), deadline=SLOW).run()
        except CommandFailed as error:
            if error.returncode != 1:  # 1: errors were found and all of them mended (see e2fsck(8))
                raise
        await self._remove_lost_and_found(image)

    async def _remove_lost_and_found(self, image: Path) -> None:
        """Unless something is in it; debugfs ends well even then, and when there is none."""
        await Command.of("debugfs", "-w", "-R", "rmdir /lost+found", str(image)).run()

    def options(self, *, checksums: bool) -> Mapping[str, str | None]:  # noqa: ARG002 - it has none for data
        return {"discard": None}

    async def grow(self, mount: Path, device: str, size: int) -> None:  # noqa: ARG002 - it looks for itself
        await Command.of("resize2fs", device, deadline=SLOW).run()


FORMATS: Mapping[Filesystem, Format] = {
    Filesystem.BTRFS: Btrfs(),
    Filesystem.XFS: Xfs(),
    Filesystem.EXT4: Ext4(),
}


def installed() -> Mapping[Filesystem, Format]:
    """The formats whose programs this host has."""
    return {
        name: form
        for name, form in FORMATS.items()
        if all(shutil.which(program, path=SEARCH_PATH) for program in form.programs)
    }


def _ext4_is_clean(image: Path) -> bool:
    """Unmounted in order and without errors: s_state is 1 and the journal holds nothing, by the superblock 1 KiB into
    the image (s_state at 0x3A, s_feature_incompat at 0x60 with RECOVER as bit 2; Documentation/filesystems/ext4)."""
    fd = os.open(image, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        superblock = os.pread(fd, 1024, 1024)
    finally:
        os.close(fd)
    if len(superblock) < 1024:
        return False
    (state,) = struct.unpack_from("<H", superblock, 0x3A)
    (incompatible,) = struct.unpack_from("<I", superblock, 0x60)
    return bool(state == 1 and not incompatible & 0x4)
