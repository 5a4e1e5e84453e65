"""The file systems of a pool's shares: mounted, changed, resized, from any state that an interruption can leave."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from isthmus.host import files, loop
from isthmus.model.errors import KernelRefused, Refused
from isthmus.model.names import ShareId
from isthmus.model.share import Filesystem
from isthmus.storage.formats import FORMATS, Format, GrowsUnmounted, Shrinks
from isthmus.storage.mounting import Mounted, Mounts
from isthmus.storage.pooldir import NEW, Pending, PoolDirectory, Record
from isthmus.storage.subvolumes import Subvolumes


class Volumes:
    """Acts on one share at a time; that nobody else does is the caller's duty."""

    def __init__(self, directory: PoolDirectory, mounts: Mounts, formats: Mapping[Filesystem, Format]) -> None:
        self._directory = directory
        self._mounts = mounts
        self._formats = formats

    def form(self, filesystem: Filesystem) -> Format:
        """How to handle such a file system. Raises ``Refused`` if this host has not its programs."""
        form = self._formats.get(filesystem)
        if form is None:
            package = FORMATS[filesystem].package
            raise Refused(
                f"cannot use {filesystem} shares on this host: install {package}",
                code="filesystem-missing",
                detail={"package": package},
            )
        return form

    async def open(self, share: ShareId, record: Record, *, data: bool = True) -> Record:
        """The share is mounted and takes writes: its whole if that is apart, and its data if wanted. The record, as
        corrected by what the file system says."""
        form, image = self.form(record.filesystem), self._directory.image(share)
        now = await asyncio.to_thread(self._mounts.of, share)
        if now is not None and now.stopped:
            await asyncio.to_thread(self._mounts.unmount, share, image)
            now = None
        if now is None and await asyncio.to_thread(loop.device_of, image) is None:
            await form.mend(image)
        return await asyncio.to_thread(self._mount, share, record, form, now or Mounted(""), data)

    async def change(
        self, share: ShareId, record: Record, change: Callable[[Subvolumes], None], *, data: bool = True
    ) -> None:
        """Subvolumes are changed, and the record says what came of it, whether it went well or not."""
        record = await self.open(share, record, data=data)
        inside = Subvolumes(self._mounts.top(share))

        def work() -> None:
            ours = self._begin(share)
            try:
                change(inside)
            finally:
                self._reconcile(share, record, inside, ends=ours)

        await asyncio.to_thread(work)

    async def fit(self, share: ShareId, record: Record, size: int) -> Record:
        """The share has the size that its pending change says. From any point at which that was interrupted."""
        record = await self.open(share, record)
        form, data, image = self.form(record.filesystem), self._mounts.data(share), self._directory.image(share)
        if isinstance(form, Shrinks) and size < record.size:
            try:
                await form.shrink(data, size)
            except Refused as error:
                await asyncio.to_thread(self._directory.end, share)
                raise Refused(f"cannot resize share {share}: {error.message}", code=error.code) from error
        if isinstance(form, GrowsUnmounted) and not form.grows_mounted():
            await asyncio.to_thread(self._mounts.unmount, share, image)
            await asyncio.to_thread(self._set_image, image, size)
            await form.grow_image(image)
            await self.open(share, record)
        else:
            device = await asyncio.to_thread(self._set_device, image, size)
            if size > record.size:
                await form.grow(data, device, size)
        record = replace(record, size=size)
        await asyncio.to_thread(self._note, share, record, data)
        return record

    def unmount(self, share: ShareId) -> None:
        """Blocks. As ``Mounts.unmount``."""
        self._mounts.unmount(share, self._directory.image(share))

    def is_mounted(self, share: ShareId) -> bool:
        """Blocks. Whether the share's data is mounted."""
        now = self._mounts.of(share)
        return now is not None and now.data

    async def tidy(self, share: ShareId) -> None:
        """What an interrupted ``create``, ``clone`` or ``delete`` left is gone; the share itself is not touched."""
        await asyncio.to_thread(self._tidy_now, share)

    def _tidy_now(self, share: ShareId) -> None:
        if not self._directory.path(share).exists():
            self._mounts.unmount(share, self._directory.path(share, NEW) / "image")
        if self._directory.path(share, NEW).exists():
            for origin, mounted in self._mounts.survey().items():
                if mounted.top and origin != share and self._directory.path(origin).exists():
                    Subvolumes(self._mounts.top(origin)).let_go(share)
        self._directory.tidy(share)

    def _mount(self, share: ShareId, record: Record, form: Format, now: Mounted, data: bool) -> Record:
        image, options = self._directory.image(share), form.options(checksums=record.checksums)
        if form.subvolumes:
            top, pending = self._mounts.top(share), self._directory.pending(share)
            if not now.top or (pending is not None and pending.size is None):
                ours = self._begin(share)
                if not now.top:
                    self._mounts.mount(share, image, form.filesystem, {**options, "subvolid": "5"}, top)
                inside = Subvolumes(top)
                inside.settle()
                record = self._reconcile(share, record, inside, ends=ours)
            options = {**options, "subvol": "data"}
        if data and not now.data:
            self._mounts.mount(share, image, form.filesystem, options, self._mounts.data(share))
        return record

    def _begin(self, share: ShareId) -> bool:
        """A change of subvolumes is pending. False if a resize is, which stays so: it ends with its own end."""
        now = self._directory.pending(share)
        if now is not None and now.size is not None:
            return False
        self._directory.begin(share, Pending())
        return True

    def _reconcile(self, share: ShareId, record: Record, inside: Subvolumes, *, ends: bool) -> Record:
        """The record says what the file system says; the pending change ends if ``ends``."""
        truth = replace(record, generation=inside.generation(), snapshots=inside.snapshots())
        if truth != record:
            self._directory.put(share, truth)
        if ends:
            self._directory.end(share)
        return truth

    def _set_device(self, image: Path, size: int) -> str:
        """The image has the size, on the disk, and so has its device, whose path is returned."""
        self._set_image(image, size)
        device = loop.device_of(image)
        if device is None:
            raise KernelRefused(f"find the loop device of {image}", errno.ENODEV)
        loop.set_capacity(device)
        return device

    def _set_image(self, image: Path, size: int) -> None:
        os.truncate(image, size)
        files.sync_file(image)

    def _note(self, share: ShareId, record: Record, mount: Path) -> None:
        """A resize has reached the disk, and the record says so."""
        files.sync_filesystem(mount)
        self._directory.put(share, record)
        self._directory.end(share)
