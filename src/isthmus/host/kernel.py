"""System calls that Python 3.11 does not wrap, and visits to the namespaces of others.

Numbers are those of the kernel's generic table, which x86_64 and aarch64 share for calls of Linux 5.1 and later.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from isthmus.model.errors import KernelRefused

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
_libc.unshare.argtypes = (ctypes.c_int,)

_Result = TypeVar("_Result")


def syscall(doing: str, number: int, *arguments: int | bytes | None) -> int:
    """What the call returns. Raises ``KernelRefused`` ("cannot DOING: ...") if it fails."""
    values: list[Any] = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments]
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
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat[stat.rindex(b")") + 2 :].split()[19])


def apart(doing: str, work: Callable[[], _Result]) -> _Result:
    """The result of ``work``, done in a thread made for it, which may leave namespaces without moving anything else of
    this process. Raises whatever ``work`` raises."""
    results: list[_Result] = []
    errors: list[BaseException] = []

    def go() -> None:
        try:
            unshare(doing, CLONE_FS)  # who shares its root and working directory may not change mount namespace
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread, whatever it is
            errors.append(error)

    thread = threading.Thread(target=go, name="isthmus-apart")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def visit(doing: str, fd: int, namespaces: int, work: Callable[[], _Result]) -> _Result:
    """The result of ``work``, done in ``namespaces`` of ``fd`` (a namespace, or a process's pidfd); this process stays
    where it is. Raises ``KernelRefused`` if it cannot go there, and whatever ``work`` raises."""

    def there() -> _Result:
        setns(doing, fd, namespaces)
        return work()

    return apart(doing, there)


def _checked(doing: str, result: int) -> int:
    if result < 0:
        raise KernelRefused(doing, ctypes.get_errno())
    return result
