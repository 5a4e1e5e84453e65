"""Network namespaces with names below /run/netns, as ``ip netns`` makes and lists them. Everything here blocks."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from isthmus.host import detached, elsewhere, kernel, mounts
from isthmus.model.errors import KernelRefused

NETNS = Path("/run/netns")

_PREPARING = threading.Lock()
_Result = TypeVar("_Result")


def names() -> frozenset[str]:
    """All names there, also of those that are half-made."""
    try:
        return frozenset(os.listdir(NETNS))  # noqa: PTH208 - names are wanted, not paths
    except FileNotFoundError:
        return frozenset()


def exists(name: str) -> bool:
    """Whether a namespace bears the name; a file left by an interrupted ``create`` does not count."""
    try:
        return (NETNS / name).stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    except FileNotFoundError:
        return False


def create(name: str) -> None:
    """The namespace exists, with its loopback as the kernel makes it: down."""
    if exists(name):
        return
    _prepare()
    path = NETNS / name
    path.touch(mode=0o444)
    doing = f"make network namespace {name}"

    def fresh() -> int:
        kernel.unshare(doing, kernel.CLONE_NEWNET)
        return mounts.clone("/proc/thread-self/ns/net")

    fd = elsewhere.apart(doing, fresh)
    try:
        mounts.attach(fd, str(path))
    finally:
        os.close(fd)


def _prepare() -> None:
    """The directory is a shared mount of its own. ``ip netns`` makes it one when it is first used, and would hide what
    was mounted there before: such a name could never be removed."""
    with _PREPARING:
        NETNS.mkdir(mode=0o755, parents=True, exist_ok=True)
        if any(entry.target == str(NETNS) for entry in mounts.mounts()):
            return
        fd = mounts.clone(str(NETNS))
        try:
            mounts.attach(fd, str(NETNS))
        finally:
            os.close(fd)
        detached.make_shared(str(NETNS))


def remove(name: str) -> None:
    """The name is gone. The namespace itself lives on for as long as a process or a descriptor holds it."""
    path = NETNS / name
    mounts.unmount(str(path), lazy=True)
    path.unlink(missing_ok=True)


def inside(name: str, work: Callable[[], _Result]) -> _Result:
    """The result of ``work``, done by a thread in the namespace. Sockets and taps that it opens stay there.

    Raises ``KernelRefused``: with ENOENT if there is no such namespace, with EINVAL if it is half-made.
    """
    doing = f"enter network namespace {name}"
    try:
        fd = os.open(NETNS / name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelRefused(doing, error.errno or errno.ENOENT) from error
    try:
        return elsewhere.visit(doing, fd, kernel.CLONE_NEWNET, work)
    finally:
        os.close(fd)


def write_sysctls(settings: dict[str, str]) -> None:
    """Settings of the namespace that the calling thread is in, by path below /proc/sys/net. Those that the kernel was
    built without (IPv6) are left out; those that are so already are not written, as some writes reset others."""
    for path, value in settings.items():
        file = Path("/proc/sys/net") / path
        try:
            if file.read_text().strip() != value:
                file.write_text(value)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise KernelRefused(f"set net/{path} to {value}", error.errno or errno.EIO) from error
