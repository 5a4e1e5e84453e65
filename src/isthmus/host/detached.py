"""Detached mounts, by the kernel's new mount API: made or cloned first, attached to a place afterwards.

Failures are ``KernelRefused`` with the errno, and with what the file system itself said where it says something. See
fsopen(2), open_tree(2), mount_setattr(2), move_mount(2). The sandbox's launcher stands on this module: few imports.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Mapping

from isthmus.host import kernel
from isthmus.model.errors import KernelRefused, Refused

_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 442

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
_MS_SHARED = 1 << 20


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


def make_private(target: str) -> None:
    """No mount at or below ``target`` tells others of what is mounted there, or hears of theirs."""
    wish = struct.pack("QQQQ", 0, 0, _MS_PRIVATE, 0)
    doing = f"make {target} private"
    kernel.syscall(doing, _MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), _AT_RECURSIVE, wish, len(wish))


def make_shared(target: str) -> None:
    """The mount at ``target`` tells its copies in other namespaces of what is mounted beneath it."""
    wish = struct.pack("QQQQ", 0, 0, _MS_SHARED, 0)
    kernel.syscall(f"make {target} shared", _MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), 0, wish, len(wish))


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
