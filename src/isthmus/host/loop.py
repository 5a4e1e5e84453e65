"""Loop devices: a file as a block device. Structures and numbers are those of <linux/loop.h>.

A device that is attached here clears itself when its last user goes (LO_FLAGS_AUTOCLEAR): neither a crash nor a
forgotten call leaves one behind. Everything here blocks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isthmus.model.errors import Exhausted, HostFailure, KernelRefused

BLOCK_SIZE = 4096
"""Of every device here, in bytes: direct I/O then fits the largest sectors that disks have."""

_CONTROL = "/dev/loop-control"
_CLEAR, _SET_CAPACITY, _CONFIGURE, _GET_FREE = 0x4C01, 0x4C07, 0x4C0A, 0x4C82
_AUTOCLEAR, _DIRECT_IO = 4, 16
# struct loop_config: fd, block_size, struct loop_info64 (five u64, four u32 of which the last is lo_flags, two names,
# a key, two u64), eight reserved u64
_CONFIG = struct.Struct("=II 5Q 3I I 64s 64s 32s 2Q 8Q")


@contextmanager
def attach(image_fd: int) -> Iterator[str]:
    """The path of a device that is the open file, by direct I/O where the file system of the file can. It lives as long
    as this context or somebody else (a mount) uses it.

    Raises ``Exhausted`` if no loop device is free, ``HostFailure`` if the kernel has none.
    """
    config = _CONFIG.pack(
        image_fd, BLOCK_SIZE, *[0] * 8, _AUTOCLEAR | _DIRECT_IO, b"", b"", b"", *[0] * 10
    )  # an empty lo_file_name: the kernel tells the true path in sysfs
    while True:
        path = f"/dev/loop{_free_number()}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise KernelRefused(f"open {path}", error.errno or errno.EIO) from error
        try:
            fcntl.ioctl(fd, _CONFIGURE, config)
        except OSError as error:
            os.close(fd)
            if error.errno == errno.EBUSY:  # another process was given the same free number and came first
                continue
            raise KernelRefused(f"attach a file to {path}", error.errno or errno.EIO) from error
        try:
            yield path
        finally:
            os.close(fd)
        return


def devices() -> Iterator[tuple[str, Path]]:
    """Every device in use: its path, and the file that it is. A file that was removed has " (deleted)" at its end."""
    for entry in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        try:
            found = entry.read_bytes()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):  # it went while we looked
                continue
            raise KernelRefused(f"read {entry}", error.errno or errno.EIO) from error
        yield f"/dev/{entry.parent.parent.name}", Path(os.fsdecode(found.rstrip(b"\n")))


def device_of(image: Path) -> str | None:
    """The path of the device that is this file now; None if there is none."""
    wanted = Path(os.path.realpath(image))
    return next((device for device, file in devices() if file == wanted), None)


@contextmanager
def pinned(image: Path) -> Iterator[str | None]:
    """As ``device_of``; meanwhile the device stays this file's, though its last other user may go."""
    device = device_of(image)
    if device is None:
        yield None
        return
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelRefused(f"open {device}", error.errno or errno.EIO) from error
    try:
        # Before it was open it may have cleared itself, and become another file's.
        yield device if device_of(image) == device else None
    finally:
        os.close(fd)


def is_cleared(image: Path, *, within: float) -> bool:
    """Whether no device is this file, now or ``within`` some seconds. The kernel does not tell when one clears itself,
    so it is looked at every few milliseconds."""
    end = time.monotonic() + within
    while device_of(image) is not None:
        if time.monotonic() >= end:
            return False
        time.sleep(0.005)
    return True


def detach(device: str) -> None:
    """The device is nobody's file any more, at the latest when its last user goes. One that is free is success."""
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelRefused(f"open {device}", error.errno or errno.EIO) from error
    try:
        fcntl.ioctl(fd, _CLEAR, 0)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise KernelRefused(f"detach {device}", error.errno or errno.EIO) from error
    finally:
        os.close(fd)


def set_capacity(device: str) -> None:
    """The device has the size that its file has now."""
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise KernelRefused(f"open {device}", error.errno or errno.EIO) from error
    try:
        fcntl.ioctl(fd, _SET_CAPACITY, 0)
    except OSError as error:
        raise KernelRefused(f"set the capacity of {device}", error.errno or errno.EIO) from error
    finally:
        os.close(fd)


def _free_number() -> int:
    try:
        control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            raise HostFailure(
                f"cannot open {_CONTROL}: the kernel has no loop devices: modprobe loop", code="loop-missing"
            ) from error
        raise KernelRefused(f"open {_CONTROL}", error.errno or errno.EIO) from error
    try:
        return int(fcntl.ioctl(control, _GET_FREE))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.ENODEV):
            raise Exhausted("cannot find a free loop device: all are in use", code="loop-exhausted") from error
        raise KernelRefused("find a free loop device", error.errno or errno.EIO) from error
    finally:
        os.close(control)
