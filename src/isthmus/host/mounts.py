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

from isthmus.host import kernel
from isthmus.model.errors import KernelRefused, Refused

_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _OPENAT2, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 437, 442

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV, _ATTR_NOEXEC, _ATTR_IDMAP = 0x1, 0x2, 0x4, 0x8, 0x100000
_MS_PRIVATE = 1 << 18
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 2, 4, 8

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


def make_filesystem(
    fstype: str,
    source: str,
    options: Mapping[str, str | None],
    *,
    nosuid: bool = True,
    nodev: bool = True,
    noexec: bool = False,
    read_only: bool = False,
    purpose: str = "nothing yet",
) -> int:
    """A detached mount of the file system, for ``attach``; closing the descriptor unmounts it. ``purpose`` is only for
    the error's sentence."""
    doing = f"mount {fstype} {source} on {purpose}"
    context = kernel.syscall(doing, _FSOPEN, fstype.encode(), _FSOPEN_CLOEXEC)
    try:
        _configure(doing, context, "source", source)
        for key, value in options.items():
            _configure(doing, context, key, value)
        if read_only:
            _configure(doing, context, "ro", None)
        _told(doing, context, lambda: kernel.syscall(doing, _FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0))
        flags = _attributes(read_only, nosuid, nodev, noexec)
        return _told(doing, context, lambda: kernel.syscall(doing, _FSMOUNT, context, _FSMOUNT_CLOEXEC, flags))
    finally:
        os.close(context)


def clone(
    source: str | int,
    *,
    read_only: bool = False,
    recursive: bool = False,
    idmap_userns: int | None = None,
    nosuid: bool = True,
    nodev: bool = True,
    noexec: bool = False,
) -> int:
    """A detached bind mount of a path or an open directory or file, for ``attach``. It is private: what is mounted
    below the source later never appears in it. ``idmap_userns``: a descriptor from ``userns``.

    Raises ``Refused`` if the file system cannot be id-mapped (FUSE on most kernels, network file systems).
    """
    doing = f"bind {source if isinstance(source, str) else f'descriptor {source}'}"
    everything = _AT_RECURSIVE if recursive else 0
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | everything
    if isinstance(source, str):
        fd = kernel.syscall(doing, _OPEN_TREE, _AT_FDCWD, os.fsencode(source), flags)
    else:
        fd = kernel.syscall(doing, _OPEN_TREE, source, b"", flags | _AT_EMPTY_PATH)
    try:
        _set_attributes(doing, fd, everything, _attributes(read_only, nosuid, nodev, noexec), 0)
        if idmap_userns is not None:
            _map_ids(doing, fd, everything, idmap_userns)
    except BaseException:
        os.close(fd)
        raise
    return fd


def attach(mount_fd: int, target: str) -> None:
    """The detached mount is at ``target``, which exists, on top of what may be there; a symbolic link there is not
    followed. The descriptor stays the caller's to close."""
    kernel.syscall(
        f"mount on {target}", _MOVE_MOUNT, mount_fd, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH
    )


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
    for line in text.splitlines():
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
        kernel.visit(doing, fd, kernel.CLONE_NEWNS, work)
    finally:
        os.close(fd)


def _attributes(read_only: bool, nosuid: bool, nodev: bool, noexec: bool) -> int:
    wanted = ((read_only, _ATTR_RDONLY), (nosuid, _ATTR_NOSUID), (nodev, _ATTR_NODEV), (noexec, _ATTR_NOEXEC))
    return sum(flag for on, flag in wanted if on)


def _set_attributes(doing: str, fd: int, recursive: int, attributes: int, userns_fd: int) -> None:
    wish = struct.pack("QQQQ", attributes, 0, _MS_PRIVATE, userns_fd)
    kernel.syscall(doing, _MOUNT_SETATTR, fd, b"", _AT_EMPTY_PATH | recursive, wish, len(wish))


def _map_ids(doing: str, fd: int, recursive: int, userns_fd: int) -> None:
    try:
        _set_attributes(doing, fd, recursive, _ATTR_IDMAP, userns_fd)
    except KernelRefused as error:
        if error.errno != errno.EINVAL:
            raise
        raise Refused(
            f"cannot {doing} with mapped ids: its file system does not support id-mapped mounts on this kernel",
            code="idmap-unsupported",
        ) from error


def _configure(doing: str, context: int, key: str, value: str | None) -> None:
    command = _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING
    text = None if value is None else os.fsencode(value)
    what = f"{doing}: option {key}"
    _told(what, context, lambda: kernel.syscall(what, _FSCONFIG, context, command, key.encode(), text, 0))


def _told(doing: str, context: int, call: Callable[[], int]) -> int:
    """The call's result; its failure is told with what the file system wrote to the context's log."""
    try:
        return call()
    except KernelRefused as error:
        said = _messages(context)
        if not said:
            raise
        raise KernelRefused(f"{doing} ({said})", error.errno) from error


def _messages(context: int) -> str:
    """The log of a file system context: one message a read, each with a class letter and a space (fsopen(2))."""
    lines = []
    while True:
        try:
            lines.append(os.read(context, 8192).decode(errors="replace")[2:].strip())
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                continue
            return "; ".join(lines)  # ENODATA: that was all


def _id_lines(ranges: Iterable[IdRange]) -> str:
    return "".join(f"{r.disk} {r.seen} {r.count}\n" for r in ranges)


def _unescape(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes((int(found[1], 8),)), field))
