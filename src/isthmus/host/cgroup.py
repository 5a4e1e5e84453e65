"""Units in control groups: what belongs to a unit, how much it may take, and its end (cgroups(7), cgroup-v2.rst).

A unit's processes are tracked in the version 2 hierarchy, wherever it is mounted, as PREFIX/UNIT. Limits are kept by
its controllers, or by those of version 1 on hosts that still have them there. Everything here blocks.
"""

from __future__ import annotations

import errno
import select
import time
from collections.abc import Iterator
from pathlib import Path

from isthmus.host import mounts
from isthmus.host.unit import Limits
from isthmus.model.errors import DeadlineExpired, HostFailure, KernelRefused

_CONTROLLERS = ("memory", "pids")


class Cgroups:
    """The groups of the units below one prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        unified: Path | None = None
        self._old: dict[str, Path] = {}
        for entry in mounts.mounts():
            if entry.fstype == "cgroup2" and unified is None:
                unified = Path(entry.target)
            if entry.fstype == "cgroup":
                self._old |= {name: Path(entry.target) for name in _CONTROLLERS if name in entry.super_options}
        if unified is None:
            raise HostFailure(
                "cannot keep units: no cgroup2 file system is mounted: mount one on /sys/fs/cgroup", code="no-cgroup2"
            )
        self._unified = unified

    def units(self) -> frozenset[str]:
        """All units that have a group."""
        try:
            return frozenset(entry.name for entry in (self._unified / self._prefix).iterdir() if entry.is_dir())
        except FileNotFoundError:
            return frozenset()

    def processes(self, unit: str) -> tuple[int, ...]:
        """The pids of the unit's processes, in the pid namespace of this process."""
        try:
            text = (self._group(unit) / "cgroup.procs").read_text()
        except OSError as error:  # ENODEV: it was removed while it was read
            if error.errno in (errno.ENOENT, errno.ENODEV):
                return ()
            raise KernelRefused(f"list the processes of unit {unit}", error.errno or errno.EIO) from error
        return tuple(int(line) for line in text.split())

    def make(self, unit: str, limits: Limits) -> tuple[str, ...]:
        """The unit's groups are there and limited. Returns the files to which a process that joins writes ``0``."""
        try:
            group = self._group(unit)
            group.mkdir(parents=True, exist_ok=True)
            managed = self._delegate()
            groups = [group]
            for controller in _CONTROLLERS:
                place = group if controller in managed else self._old_group(controller, unit)
                if place is None:
                    continue
                place.mkdir(parents=True, exist_ok=True)
                _limit(place, controller, limits, old=controller not in managed)
                groups.append(place)
        except OSError as error:
            raise KernelRefused(f"make the cgroup of unit {unit}", error.errno or errno.EIO) from error
        return tuple(str(place / "cgroup.procs") for place in dict.fromkeys(groups))

    def kill(self, unit: str) -> None:
        """Every process of the unit was sent SIGKILL, those that it is forking too."""
        try:
            (self._group(unit) / "cgroup.kill").write_text("1")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise KernelRefused(f"kill unit {unit}", error.errno or errno.EIO) from error

    def wait_empty(self, unit: str, seconds: float) -> None:
        """The unit has no process. Raises ``DeadlineExpired``; the kernel wakes us, nothing is polled by the clock."""
        end = time.monotonic() + seconds
        try:
            with (self._group(unit) / "cgroup.events").open() as events:
                poll = select.poll()
                poll.register(events, select.POLLPRI)
                while "populated 1" in events.read():
                    if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                        raise DeadlineExpired(f"end the processes of unit {unit}", seconds)
                    events.seek(0)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise KernelRefused(f"watch unit {unit}", error.errno or errno.EIO) from error

    def remove(self, unit: str) -> None:
        """The unit's groups are gone, and the prefix's own when they were the last. It has no process."""
        for group in self._groups(unit):
            for place in (group, group.parent):
                try:
                    place.rmdir()
                except OSError as error:
                    if error.errno == errno.ENOENT:
                        continue
                    if place is not group and error.errno in (errno.EBUSY, errno.ENOTEMPTY):
                        continue  # other units live there
                    raise KernelRefused(f"remove the cgroup {place}", error.errno or errno.EIO) from error

    def _group(self, unit: str) -> Path:
        return self._unified / self._prefix / unit

    def _old_group(self, controller: str, unit: str) -> Path | None:
        root = self._old.get(controller)
        return None if root is None else root / self._prefix / unit

    def _groups(self, unit: str) -> Iterator[Path]:
        yield self._group(unit)
        for controller in _CONTROLLERS:
            if (old := self._old_group(controller, unit)) is not None:
                yield old

    def _delegate(self) -> frozenset[str]:
        """The controllers that limit units in the version 2 hierarchy, switched on down to them."""
        root = self._unified
        wanted = [name for name in (root / "cgroup.controllers").read_text().split() if name in _CONTROLLERS]
        for place in (root, root / self._prefix):
            file = place / "cgroup.subtree_control"
            enabled = file.read_text().split()
            for name in wanted:
                if name not in enabled:
                    file.write_text(f"+{name}")
        return frozenset(wanted)


def _limit(place: Path, controller: str, limits: Limits, *, old: bool) -> None:
    if controller == "pids":
        (place / "pids.max").write_text(str(limits.pids))
    elif old:
        (place / "memory.limit_in_bytes").write_text(str(limits.memory))
    else:
        (place / "memory.max").write_text(str(limits.memory))
