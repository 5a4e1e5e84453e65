"""Taps: Ethernet devices whose other end is a descriptor (Linux Documentation/networking/tuntap.rst)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from isthmus.host import netns
from isthmus.model.errors import KernelRefused

_TUNSETIFF, _TUNSETPERSIST = 0x400454CA, 0x400454CB
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_FLAGS = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR


def make_tap(namespace: str, name: str) -> None:
    """A persistent tap of this name is in the namespace. One that is there and in use is left as it is."""

    def work() -> None:
        try:
            fd = _open(name)
        except KernelRefused as error:
            if error.errno == errno.EBUSY:
                return
            raise
        try:
            fcntl.ioctl(fd, _TUNSETPERSIST, 1)
        except OSError as error:
            raise KernelRefused(f"keep tap {name}", error.errno or errno.EIO) from error
        finally:
            os.close(fd)

    netns.inside(namespace, work)


def open_tap(namespace: str, name: str) -> int:
    """The tap's other end, for a hypervisor: frames after a 10-byte virtio-net header. Close-on-exec; it may be
    handed to a process that is in another namespace. Raises ``KernelRefused`` with EBUSY if somebody has it open."""
    return netns.inside(namespace, lambda: _open(name))


def _open(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _FLAGS))
    except OSError as error:
        os.close(fd)
        raise KernelRefused(f"open tap {name}", error.errno or errno.EIO) from error
    return fd
