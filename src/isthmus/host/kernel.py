"""System calls that Python 3.11 does not wrap.

The sandbox's launcher stands on this module, so it imports little: each import is paid by every unit's start.

Numbers are those of the kernel's generic table, which x86_64 and aarch64 share for calls of Linux 5.1 and later.
"""

from __future__ import annotations

import ctypes
import errno
import os

from isthmus.model.errors import KernelRefused

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
_libc.unshare.argtypes = (ctypes.c_int,)


def syscall(doing: str, number: int, *arguments: int | bytes | None) -> int:
    """What the call returns. Raises ``KernelRefused`` ("cannot DOING: ...") if it fails."""
    values = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments]
    return _checked(doing, _libc.syscall(ctypes.c_long(number), *values))


def unshare(doing: str, flags: int) -> None:
    """This thread leaves the namespaces in ``flags`` for fresh ones."""
    _checked(doing, _libc.unshare(flags))


def setns(doing: str, fd: int, flags: int) -> None:
    """This thread joins the namespace of ``fd``; of a process (a pidfd) those in ``flags``."""
    _checked(doing, _libc.setns(fd, flags))


def umount(doing: str, target: str, flags: int) -> None:
    """The topmost mount at ``target`` is gone."""
    _checked(doing, _libc.umount2(os.fsencode(target), flags))


def open_process(pid: int, started: int | None = None) -> int:
    """A pidfd. Raises ``KernelRefused`` with ESRCH if there is no such process, or if it is not the one that began at
    ``started`` (clock ticks since boot): numbers are used again."""
    try:
        fd = os.pidfd_open(pid)
    except OSError as error:
        raise KernelRefused(f"find process {pid}", error.errno or errno.ESRCH) from error
    if started is not None and start_time(pid) != started:
        os.close(fd)
        raise KernelRefused(f"find process {pid} that began at tick {started}", errno.ESRCH)
    return fd


def start_time(pid: int) -> int | None:
    """When a process began, in clock ticks since boot (field 22 of /proc/PID/stat, see proc(5)); None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib costs 5 ms of a unit's start
            stat = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat[stat.rindex(b")") + 2 :].split()[19])


def _checked(doing: str, result: int) -> int:
    if result < 0:
        raise KernelRefused(doing, ctypes.get_errno())
    return result
