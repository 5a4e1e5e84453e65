"""What a pool's driver does. Every method is idempotent: already so is success, and an interrupted call is finished or
cleaned by the next one. Methods of different shares may run side by side; those of one share never do (the agent's
duty)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from isthmus.model.names import ShareId, SnapshotId
from isthmus.model.share import Filesystem, Pool, PoolSeen, Power, ShareSpec


@dataclass(frozen=True, slots=True)
class PathSource:
    """A directory on this host that gateways may bind: the root of a file system which is the share's alone."""

    path: str


Source = PathSource


@runtime_checkable
class StorageDriver(Protocol):
    """The powers that every driver has."""

    @property
    def powers(self) -> Mapping[Filesystem, frozenset[Power]]:
        """What a share of each file system that this host can make is able to do."""
        ...

    @property
    def minimum(self) -> Mapping[Filesystem, int]:
        """The smallest share of each file system, in bytes."""
        ...

    def redefine(self, pool: Pool) -> None:
        """From now on the pool's limits are these; it is the same pool, at the same place."""
        ...

    async def observe(self) -> PoolSeen:
        """What is there. Never mounts, never waits for a share's I/O. Raises ``HostFailure`` for an unusable pool."""
        ...

    async def create(self, share: ShareSpec) -> None:
        """An empty share of exactly ``share.size`` bytes. Raises ``Exhausted`` if the back end has no room,
        ``Conflict`` if a share of this id exists with another file system."""
        ...

    async def delete(self, share: ShareId) -> None:
        """The share, its data and its snapshots are gone; the caller has withdrawn its exports."""
        ...

    async def resize(self, share: ShareId, size: int) -> None:
        """The share has ``size`` bytes, online. Raises ``Refused`` if it cannot shrink, or not that far."""
        ...

    async def source(self, share: ShareId) -> Source:
        """The share is mounted and whole; where it is. Remounts a wounded share that nobody uses."""
        ...

    async def release(self, share: ShareId) -> None:
        """The share is no longer mounted. Raises ``KernelRefused`` (EBUSY) while a gateway uses it."""
        ...

    async def sweep(self) -> None:
        """What interrupted operations left (``PoolSeen.debris``) is gone. The caller runs nothing else meanwhile."""
        ...


@runtime_checkable
class Snapshots(Protocol):
    """Point-in-time images of a share, crash-consistent, read-only, in constant time."""

    async def snapshot(self, share: ShareId, snapshot: SnapshotId) -> None:
        """The snapshot exists and holds all that was written and synced before the call."""
        ...

    async def delete_snapshot(self, share: ShareId, snapshot: SnapshotId) -> None:
        """The snapshot is gone; other snapshots and the data are untouched."""
        ...


@runtime_checkable
class Reverts(Protocol):
    """Going back to a snapshot, in constant time."""

    async def revert(self, share: ShareId, snapshot: SnapshotId, generation: int) -> None:
        """The share's data is the snapshot's, and ``ShareSeen.generation`` is ``generation``; all snapshots stay. Does
        nothing if the share has seen this generation. The caller has withdrawn its exports; the share is not mounted
        for gateways afterwards. Raises ``NotFound`` if there is no such snapshot."""
        ...


@runtime_checkable
class Clones(Protocol):
    """New shares from old data."""

    async def clone(self, share: ShareSpec) -> None:
        """Like ``create``, holding what ``share.origin`` held: a snapshot, or a share's present state (taken at one
        instant). The origin goes on being used. Raises ``Exhausted`` if it does not fit into ``share.size``."""
        ...


@runtime_checkable
class Copies(Protocol):
    """The files of a share on this host, to be copied between pools of any kind."""

    def reading(
        self, share: ShareId, snapshot: SnapshotId | None, *, by: ShareId
    ) -> AbstractAsyncContextManager[PathSource]:
        """The files as they are in the snapshot; without one, as they are at this instant where the share's file system
        can keep one, else as they are while they are read. The share ``by`` is made of them, and reads them once at a
        time. The share goes on being used; the caller sees to it that it is not deleted, reverted or unmounted
        meanwhile. Raises ``NotFound``."""
        ...

    def writing(self, share: ShareId, generation: int) -> AbstractAsyncContextManager[PathSource]:
        """The files, for whoever replaces them; the share is nobody else's meanwhile. When this is left without an
        error, they are on the disk and ``ShareSeen.generation`` is ``generation``."""
        ...
