"""What the database keeps, as frozen dataclasses: one class per table, one field per column.

``revision`` is that of the row's last change. ``wanted`` is the revision at which the intent behind the row last
changed: a report says something by its silence only if it was made with a document at least that new in hand.
``created_at`` and ``seen_at`` are UTC. A row whose status would be ``gone`` does not exist.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from isthmus.model.attachment import Access, Mode
from isthmus.model.guest import GuestState
from isthmus.model.names import (
    AttachmentId,
    GuestId,
    HostName,
    PoolName,
    ProjectId,
    ShareId,
    SnapshotId,
    TypeName,
)
from isthmus.model.share import Filesystem, Power
from isthmus.model.status import AttachmentStatus, ShareStatus, SnapshotStatus

EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)


@dataclass(frozen=True, slots=True)
class HostRow:
    """``desired`` is the revision of the host's document, ``applied`` that of the document behind its last report."""

    name: HostName
    desired: int = 0
    applied: int = 0
    seen_at: datetime.datetime | None = None
    revision: int = 0
    created_at: datetime.datetime = EPOCH


@dataclass(frozen=True, slots=True)
class PoolRow:
    """``total`` and ``free`` are None until the host has reported. ``error``: why the pool cannot be used."""

    name: PoolName
    host: HostName
    driver: str
    path: str
    overcommit: float = 1.0
    reserve: int = 0
    total: int | None = None
    free: int | None = None
    powers: Mapping[Filesystem, frozenset[Power]] = field(default_factory=dict)
    minimum: Mapping[Filesystem, int] = field(default_factory=dict)
    error: str = ""
    revision: int = 0
    created_at: datetime.datetime = EPOCH


@dataclass(frozen=True, slots=True)
class TypeRow:
    """A kind of share."""

    name: TypeName
    filesystem: Filesystem = Filesystem.BTRFS
    checksums: bool = False
    revision: int = 0
    created_at: datetime.datetime = EPOCH


@dataclass(frozen=True, slots=True)
class ShareRow:
    """``size`` is what should be, ``actual`` what the host last saw (0 before). ``reverts`` counts the reverts asked
    for, ``reverted`` those that are done. ``made``: it has existed on its host."""

    id: ShareId
    project: ProjectId
    pool: PoolName
    type: TypeName
    filesystem: Filesystem
    checksums: bool
    size: int
    status: ShareStatus = ShareStatus.CREATING
    name: str = ""
    reason: str = ""
    code: str = ""
    actual: int = 0
    used: int = 0
    made: bool = False
    origin_share: ShareId | None = None
    origin_snapshot: SnapshotId | None = None
    revert_to: SnapshotId | None = None
    reverts: int = 0
    reverted: int = 0
    wanted: int = 0
    revision: int = 0
    created_at: datetime.datetime = EPOCH


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A snapshot; its project is its share's."""

    id: SnapshotId
    share: ShareId
    project: ProjectId
    status: SnapshotStatus = SnapshotStatus.CREATING
    name: str = ""
    reason: str = ""
    code: str = ""
    made: bool = False
    wanted: int = 0
    revision: int = 0
    created_at: datetime.datetime = EPOCH


@dataclass(frozen=True, slots=True)
class GuestRow:
    """``state`` is None while its hypervisor process does not answer. ``last_slot``: the slot given out last."""

    id: GuestId
    project: ProjectId
    host: HostName
    name: str = ""
    static: bool = False
    state: GuestState | None = None
    plugs: frozenset[str] = frozenset()
    last_slot: int = 0
    revision: int = 0
    created_at: datetime.datetime = EPOCH


@dataclass(frozen=True, slots=True)
class AttachmentRow:
    """A share in a guest's name space; its project is that of both."""

    id: AttachmentId
    share: ShareId
    guest: GuestId
    project: ProjectId
    slot: int
    place: str
    mode: Mode
    mode_reason: str
    access: Access
    status: AttachmentStatus = AttachmentStatus.ATTACHING
    reason: str = ""
    code: str = ""
    wanted: int = 0
    revision: int = 0
    created_at: datetime.datetime = EPOCH


@dataclass(frozen=True, slots=True)
class EventRow:
    """Something that happened. Ids grow in the order of commits. Events outlive their subject."""

    kind: str
    subject: str
    message: str
    project: str = ""
    before: str = ""
    after: str = ""
    id: int = 0
    revision: int = 0
    created_at: datetime.datetime = EPOCH


StatusRow = ShareRow | SnapshotRow | AttachmentRow
KeptRow = HostRow | PoolRow | TypeRow | ShareRow | SnapshotRow | GuestRow | AttachmentRow

KINDS: Mapping[type[Any], str] = {
    HostRow: "host",
    PoolRow: "pool",
    TypeRow: "share type",
    ShareRow: "share",
    SnapshotRow: "snapshot",
    GuestRow: "guest",
    AttachmentRow: "attachment",
}


def key_of(row: KeptRow) -> str:
    """The row's primary key."""
    return row.name if isinstance(row, HostRow | PoolRow | TypeRow) else row.id
