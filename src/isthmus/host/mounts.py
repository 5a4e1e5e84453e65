"""Mounts by the kernel's new mount API: file systems, detached clones of what is mounted, mounts inside units.

Everything here blocks: callers on an event loop use a thread. Failures are ``KernelRefused`` with the errno, and with
what the file system itself said where it says something (see fsopen(2), mount_setattr(2), open_tree(2)).
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from isthmus.host import elsewhere, kernel
from isthmus.host.detached import attach, clone, make_filesystem
from isthmus.model.errors import KernelRefused

_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 2, 4, 8
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8

__all__ = [
    "IdRange",
    "MountEntry",
    "attach",
    "attach_in",
    "clone",
    "detach_in",
    "make_filesystem",
    "mount_filesystem",
    "mounts",
    "mounts_of",
    "open_beneath",
    "parse_mountinfo",
    "unmount",
    "userns",
]

_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """A line of mountinfo (see proc(5)). ``root`` is the directory of the file system that is seen at ``target``."""

    id: int
    parent: int
    device: str
    root: str
    target: str
    options: frozenset[str]
    fstype: str
    source: str
    super_options: frozenset[str]


@dataclass(frozen=True, slots=True)
class IdRange:
    """``count`` ids of the disk from ``disk`` on are seen from ``seen`` on through an id-mapped mount."""

    disk: int
    seen: int
    count: int


def mount_filesystem(
    fstype: str,
    source: str,
    target: str,
    options: Mapping[str, str | None],
    *,
    nosuid: bool = True,
    nodev: bool = True,
    noexec: bool = False,
    read_only: bool = False,
) -> None:
    """The file system is mounted at ``target``, on top of what may be there. An option of value None is a flag."""
    fd = make_filesystem(
        fstype, source, options, nosuid=nosuid, nodev=nodev, noexec=noexec, read_only=read_only, purpose=target
    )
    try:
        attach(fd, target)
    finally:
        os.close(fd)


def attach_in(pid: int, mount_fd: int, target: str, *, started: int | None = None) -> None:
    """As ``attach``, at a path of the process's mount namespace; the target and its parents are made if absent.
    ``started`` makes sure of the process (``UnitSeen.started``). Raises ``KernelRefused`` with ESRCH if it is gone."""
    directory = stat.S_ISDIR(os.fstat(mount_fd).st_mode)

    def work() -> None:
        path = Path(target)
        if directory:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        attach(mount_fd, target)

    _inside(pid, started, f"mount on {target} of process {pid}", work)


def detach_in(pid: int, target: str, *, lazy: bool = False, started: int | None = None) -> None:
    """Nothing is mounted at a path of the process's mount namespace, and the empty target is removed. A process that
    is gone, and a target that is not mounted or absent, are success. ``lazy`` as for ``unmount``."""

    def work() -> None:
        unmount(target, lazy=lazy)
        path = Path(target)
        try:
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EROFS):
                raise KernelRefused(f"remove {target} of process {pid}", error.errno or errno.EIO) from error

    try:
        _inside(pid, started, f"unmount {target} of process {pid}", work)
    except KernelRefused as error:
        if error.errno != errno.ESRCH:
            raise


def unmount(target: str, *, lazy: bool = False) -> None:
    """Nothing is mounted at ``target``; not mounted or absent is success. Raises ``KernelRefused`` with EBUSY if
    something there is open. ``lazy``: gone from the name space at once, unmounted when the last user lets go."""
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    while True:  # several mounts may lie on one another
        try:
            kernel.umount(f"unmount {target}", target, flags)
        except KernelRefused as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return
            raise


def mounts() -> tuple[MountEntry, ...]:
    """What is mounted in this process's mount namespace, oldest first."""
    return parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())


def mounts_of(pid: int) -> tuple[MountEntry, ...]:
    """What a process has mounted, by its own paths. Raises ``KernelRefused`` with ESRCH if it is gone."""
    try:
        return parse_mountinfo(Path(f"/proc/{pid}/mountinfo").read_bytes())
    except OSError as error:  # a zombie has no mounts: EINVAL
        gone = error.errno in (errno.ENOENT, errno.ESRCH, errno.EINVAL)
        number = errno.ESRCH if gone else error.errno or errno.EIO
        raise KernelRefused(f"read the mounts of process {pid}", number) from error


def parse_mountinfo(text: bytes) -> tuple[MountEntry, ...]:
    """The lines of a mountinfo file (format: proc(5)); octal escapes are undone."""
    entries = []
    for line in text.split(b"\n")[:-1]:  # a path may hold a carriage return, which is not escaped
        fields = line.split(b" ")
        dash = fields.index(b"-", 6)  # optional fields end at a lone dash
        number, parent, device, root, target, options = (_unescape(field) for field in fields[:6])
        fstype, source, super_options = (_unescape(field) for field in fields[dash + 1 : dash + 4])
        entries.append(
            MountEntry(
                id=int(number),
                parent=int(parent),
                device=device,
                root=root,
                target=target,
                options=frozenset(options.split(",")),
                fstype=fstype,
                source=source,
                super_options=frozenset(super_options.split(",")),
            )
        )
    return tuple(entries)


def open_beneath(root_fd: int, relative: str, flags: int = os.O_PATH | os.O_DIRECTORY, mode: int = 0) -> int:
    """A descriptor (close-on-exec) of ``relative`` below an open directory. No component may be a symbolic link or lead
    out of the directory, whatever is renamed meanwhile: ``KernelRefused`` with ELOOP or EXDEV. EAGAIN: a rename was
    in the way of the proof, try again."""
    how = struct.pack(
        "QQQ", flags | os.O_CLOEXEC, mode, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS
    )
    return kernel.syscall(f"open {relative!a} beneath", _OPENAT2, root_fd, os.fsencode(relative), how, len(how))


def userns(uid_map: Iterable[IdRange], gid_map: Iterable[IdRange]) -> int:
    """A descriptor of a fresh user namespace with these maps, for ``clone``. No process is left in it.

    Ids outside the maps are seen as the overflow id (65534) and cannot be written.
    """
    # A user namespace can only be made by a process of one thread, and forking a threaded Python is not safe: a cat
    # stands in it while it is given its maps. That it echoes says that it has arrived.
    with subprocess.Popen(
        ("unshare", "--user", "cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PATH": "/usr/bin:/bin"}
    ) as process:
        assert process.stdin is not None  # noqa: S101 - asked for above
        assert process.stdout is not None  # noqa: S101
        process.stdin.write(b".")
        process.stdin.flush()
        if not process.stdout.read(1):
            raise KernelRefused("make a user namespace", errno.EPERM)
        try:
            Path(f"/proc/{process.pid}/uid_map").write_text(_id_lines(uid_map))
            Path(f"/proc/{process.pid}/gid_map").write_text(_id_lines(gid_map))
            return os.open(f"/proc/{process.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelRefused("give a user namespace its id maps", error.errno or errno.EIO) from error


def _inside(pid: int, started: int | None, doing: str, work: Callable[[], None]) -> None:
    fd = kernel.open_process(pid, started)
    try:
        elsewhere.visit(doing, fd, kernel.CLONE_NEWNS, work)
    finally:
        os.close(fd)


def _id_lines(ranges: Iterable[IdRange]) -> str:
    return "".join(f"{r.disk} {r.seen} {r.count}\n" for r in ranges)


def _unescape(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes((int(found[1], 8),)), field))
