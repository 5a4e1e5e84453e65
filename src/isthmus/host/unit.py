"""Daemons that outlive the agent: what a unit is, and what supervises it.

A unit runs in a sandbox: mount, pid and network namespaces of its own, a root that holds the programs of the host
(/usr, read-only) and what ``binds`` names, few capabilities, a system call filter, no new privileges, a cgroup with
limits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Bind:
    """A directory or file of the host inside a unit's root. Always nosuid and nodev."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps of a unit's cgroup and of its processes. ``memory`` in bytes."""

    memory: int = 512 << 20
    pids: int = 128
    files: int = 65536


@dataclass(frozen=True, slots=True)
class Unit:
    """A daemon to run. ``netns``: a name below /run/netns, or None for an empty namespace of its own (no network).
    ``capabilities``: all that it keeps, by their names (``CAP_CHOWN``). ``log``: a host path that gets its output.
    ``files``: small files made inside the root, by path, on a file system of the unit's own.

    A unit with ``CAP_DAC_READ_SEARCH`` can open by handle every file of the file systems that hold its log and the
    sources of its binds, whatever they show: give it file systems that hold nothing of others."""

    name: str
    argv: tuple[str, ...]
    log: str
    env: Mapping[str, str] = field(default_factory=dict)
    netns: str | None = None
    binds: tuple[Bind, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    capabilities: frozenset[str] = frozenset()
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class UnitSeen:
    """A unit with a process. ``pid`` is its main process in the host's pid namespace; ``started`` its start time in
    clock ticks since boot (field 22 of /proc/PID/stat), which with the pid names a process for good."""

    name: str
    pid: int
    started: int


@runtime_checkable
class Supervisor(Protocol):
    """Keeps units. Every method is idempotent."""

    async def observe(self) -> Mapping[str, UnitSeen]:
        """All units below the layout's prefix that have a process, found through the kernel, not through memory."""
        ...

    async def start(self, unit: Unit) -> UnitSeen:
        """The unit runs: its program was executed in its sandbox. One of this name that runs already is left as it is.
        Raises ``HostFailure`` with the cause if the sandbox or the program could not be started."""
        ...

    async def stop(self, name: str, *, grace: float = 2.0) -> None:
        """No process of the unit is left: SIGTERM to the main one, after ``grace`` seconds SIGKILL to all. Its cgroup
        is gone."""
        ...

    def exits(self) -> AsyncIterator[str]:
        """Names of units whose main process ended, as it happens, also of those that an earlier agent started."""
        ...
