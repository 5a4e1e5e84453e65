"""Pools, shares and snapshots: what should be, and what an agent saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from isthmus.model.names import HostName, PoolName, ProjectId, ShareId, SnapshotId

NOBODYS = ProjectId("")


class Filesystem(StrEnum):
    """The file system inside a share of the ``local`` driver."""

    BTRFS = "btrfs"
    XFS = "xfs"
    EXT4 = "ext4"


class Power(StrEnum):
    """What a share can do beyond being created, grown and deleted; reported by the pool's driver per file system."""

    SHRINK = "shrink"
    SNAPSHOT = "snapshot"
    REVERT = "revert"
    CLONE = "clone"
    CHECKSUMS = "checksums"


@dataclass(frozen=True, slots=True)
class Pool:
    """A storage back end. ``overcommit``: how many times the capacity may be promised; ``reserve``: bytes of the
    back end that no new promise may take; ``made``: it has been in use, so one that is blank now is lost, perhaps
    because its disk is not mounted."""

    name: PoolName
    driver: str
    host: HostName
    path: str
    overcommit: float = 1.0
    reserve: int = 0
    made: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """What a new share starts as a copy of: a snapshot, or the present state of a share."""

    share: ShareId
    snapshot: SnapshotId | None = None


@dataclass(frozen=True, slots=True)
class Revert:
    """The share's data shall be ``snapshot``'s. ``generation`` counts a share's reverts from 1; a share that has
    seen this generation is not reverted again."""

    snapshot: SnapshotId
    generation: int


@dataclass(frozen=True, slots=True)
class Fill:
    """The share's files shall be those of ``share`` in ``pool``, of any file system, as they are in ``snapshot`` or at
    present. ``generation`` as in ``Revert``, which counts fills too."""

    share: ShareId
    pool: PoolName
    generation: int
    snapshot: SnapshotId | None = None


@dataclass(frozen=True, slots=True)
class ShareSpec:
    """A share that should exist. ``size`` in bytes is the hard limit of its file system's device; ``project`` owns it.

    ``made``: it has existed. Such a share that is not there now is lost, perhaps because a disk is not mounted, and is
    never made anew: an empty share in its place would hide the loss.

    ``frozen``: nobody may have it, whatever is attached, because its files are about to be somewhere else. ``adopt``:
    it was made by somebody else and is only to be found: its size and file system are what they are.
    ``serves``: the share, where that has another id than this, its volume.
    """

    id: ShareId
    pool: PoolName
    size: int
    filesystem: Filesystem = Filesystem.BTRFS
    checksums: bool = False
    origin: Origin | None = None
    revert: Revert | None = None
    made: bool = False
    project: ProjectId = NOBODYS
    fill: Fill | None = None
    frozen: bool = False
    adopt: bool = False
    serves: ShareId | None = None


@dataclass(frozen=True, slots=True)
class ShareGone:
    """A share that shall be removed, with all its data and snapshots. Only such an intent ever deletes data."""

    id: ShareId
    pool: PoolName


@dataclass(frozen=True, slots=True)
class SnapshotSpec:
    """A snapshot that should exist. ``made``: it has; if it is lost, it is not taken again of later data."""

    id: SnapshotId
    share: ShareId
    made: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotGone:
    """A snapshot that shall be removed."""

    id: SnapshotId
    share: ShareId


@dataclass(frozen=True, slots=True)
class ShareSeen:
    """A share as its driver finds it.

    ``used``: bytes of the back end that it occupies. ``mounted``: its file system is mounted for gateways.
    ``wounded``: the file system stopped taking writes after an error (a full host disk, say) and wants remounting.
    ``snapshots`` is what the driver can see now; None where that needs a mount and there is none.
    """

    id: ShareId
    size: int
    filesystem: Filesystem
    checksums: bool = False
    generation: int = 0
    used: int = 0
    mounted: bool = False
    wounded: bool = False
    snapshots: frozenset[SnapshotId] | None = frozenset()


@dataclass(frozen=True, slots=True)
class PoolSeen:
    """A pool as its driver finds it. ``total`` and ``free`` are bytes of the back end; ``debris`` names what an
    interrupted operation left behind, which ``sweep`` removes."""

    name: PoolName
    total: int
    free: int
    shares: Mapping[ShareId, ShareSeen] = field(default_factory=dict)
    debris: tuple[str, ...] = ()
