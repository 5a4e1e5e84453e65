"""What the database keeps, as frozen dataclasses: one class per table, one field per column.

``revision`` is that of the row's last change. ``wanted`` is the revision at which the intent behind the row last
changed: a report says something by its silence only if it was made with a document at least that new in hand.
``created_at`` and ``seen_at`` are UTC. A row whose status would be ``gone`` does not exist.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
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
    new_id,
)
from isthmus.model.share import Filesystem, Power
from isthmus.model.status import AttachmentStatus, ShareStatus, SnapshotStatus
from isthmus.store.records import RECORD_KINDS, RecordRow

ZONE = "nova"
"""The availability zone of a host that says none: what OpenStack calls its own."""

EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)


@dataclass(frozen=True, slots=True)
class HostRow:
    """``desired`` is the revision of the host's document, ``applied`` that of the document behind its last report.
    ``zone``: its availability zone. ``disabled``: no new share is put there."""

    name: HostName
    desired: int = 0
    applied: int = 0
    seen_at: datetime.datetime | None = None
    zone: str = ZONE
    disabled: bool = False
    disabled_reason: str = ""
    revision: int = 0
    created_at: datetime.datetime = EPOCH


@dataclass(frozen=True, slots=True)
class PoolRow:
    """``total`` and ``free`` are None until the host has reported. ``error``: why the pool cannot be used. ``backups``:
    the pool that backups of its shares go to, "" if there is none."""

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
    backups: str = ""
    revision: int = 0
    created_at: datetime.datetime = EPOCH


@dataclass(frozen=True, slots=True)
class TypeRow:
    """A kind of share. ``uuid``: what the Shared File Systems API knows it by; ``specs``: its extra specs there.
    ``public``: every project may use it, else those that an ``AllowedRow`` names."""

    name: TypeName
    filesystem: Filesystem = Filesystem.BTRFS
    checksums: bool = False
    uuid: str = field(default_factory=new_id)
    description: str = ""
    public: bool = True
    specs: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0
    created_at: datetime.datetime = EPOCH


@dataclass(frozen=True, slots=True)
class ShareRow:
    """``size`` is what should be, ``actual`` what the host last saw (0 before). ``reverts`` counts the reverts asked
    for, ``reverted`` those that are done. ``made``: it has existed on its host. ``public``: other projects may read of
    it. ``placed``: a pool was found for it; one without was refused by all of them, ``pool`` says by which last.
    ``volume``: its object in the pool where that is not called by the share's id, as after a migration. ``fill_from``:
    the copy (its volume, in ``fill_pool``) of which the last of the ``reverts`` is to be. ``adopt``: it was in the pool
    before it was known here, and has not been found yet. ``from_backup``: the backup that it was restored from last.

    Of the Shared File Systems API: ``user`` asked for it; ``shown``: the status that is shown in place of ``status``
    while something else goes on with it (``awaiting_transfer``), or that the operator set; ``task``: a task state;
    ``deleted_until``: it is in the recycle bin until then.
    """

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
    public: bool = False
    user: str = ""
    description: str = ""
    proto: str = "NFS"
    placed: bool = True
    shown: str = ""
    task: str = ""
    mount_name: str = ""
    group: str | None = None
    network: str | None = None
    member: str | None = None
    deleted_until: datetime.datetime | None = None
    updated_at: datetime.datetime | None = None
    volume: ShareId | None = None
    fill_from: ShareId | None = None
    fill_pool: PoolName | None = None
    adopt: bool = False
    from_backup: str | None = None
    wanted: int = 0
    revision: int = 0
    created_at: datetime.datetime = EPOCH

    @property
    def volume_id(self) -> ShareId:
        """What its object in the pool is called by."""
        return self.volume or self.id


class Purpose(StrEnum):
    """What a copy is for."""

    BACKUP = "backup"
    MIGRATION = "migration"


@dataclass(frozen=True, slots=True)
class CopyRow:
    """A second volume with a share's files, in another pool. ``volume`` is what it is called by there; ``source`` and
    ``source_pool``: the share's volume. ``rounds``: how often the files shall be copied, ``filled``: how often they
    were. ``share`` has no foreign key: a backup outlives its share. A migration ends with the volumes changing places,
    and the row goes with the one that is left. ``type`` is what the share shall be of by then."""

    id: str
    purpose: Purpose
    share: ShareId
    project: ProjectId
    volume: ShareId
    pool: PoolName
    source: ShareId
    source_pool: PoolName
    type: TypeName
    filesystem: Filesystem
    checksums: bool
    size: int
    status: ShareStatus = ShareStatus.CREATING
    reason: str = ""
    code: str = ""
    actual: int = 0
    used: int = 0
    made: bool = False
    rounds: int = 1
    filled: int = 0
    name: str = ""
    description: str = ""
    user: str = ""
    shown: str = ""
    updated_at: datetime.datetime | None = None
    wanted: int = 0
    revision: int = 0
    created_at: datetime.datetime = EPOCH

    @property
    def is_final(self) -> bool:
        """The share has been copied once; what was written since comes over while nobody has it."""
        return self.purpose is Purpose.MIGRATION and self.rounds > 1 and self.status != ShareStatus.DELETING


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A snapshot; its project is its share's. ``size``: the share's in bytes when it was taken."""

    id: SnapshotId
    share: ShareId
    project: ProjectId
    status: SnapshotStatus = SnapshotStatus.CREATING
    name: str = ""
    reason: str = ""
    code: str = ""
    made: bool = False
    user: str = ""
    description: str = ""
    size: int = 0
    shown: str = ""
    group_snapshot: str | None = None
    updated_at: datetime.datetime | None = None
    wanted: int = 0
    revision: int = 0
    created_at: datetime.datetime = EPOCH


@dataclass(frozen=True, slots=True)
class GuestRow:
    """``state`` is None while its hypervisor process does not answer. ``last_slot``: the slot given out last.
    ``addresses``: IP addresses on its own networks, by which access rules may name it."""

    id: GuestId
    project: ProjectId
    host: HostName
    name: str = ""
    static: bool = False
    state: GuestState | None = None
    plugs: frozenset[str] = frozenset()
    last_slot: int = 0
    addresses: frozenset[str] = frozenset()
    revision: int = 0
    created_at: datetime.datetime = EPOCH


@dataclass(frozen=True, slots=True)
class AttachmentRow:
    """A share in a guest's name space; its project is that of both. ``user``: the id of who asked for it. ``sequence``:
    that of its last grant. ``barred``: why it gets no grant any more, "" if it does. ``rule``: the access rule that it
    comes from and goes with, None if it was asked for by itself."""

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
    user: str = ""
    sequence: int = 0
    barred: str = ""
    rule: str | None = None
    wanted: int = 0
    revision: int = 0
    created_at: datetime.datetime = EPOCH


@dataclass(frozen=True, slots=True)
class GrantRow:
    """A grant that was signed, kept until it would have ended. ``serial`` (lower-case hex) is its certificate's;
    ``certificate`` is DER; ``ended_at``: when it was revoked or another took its place, ``reason`` says which.
    ``credential``: its id in Keystone's credential store, "" if it is not there. No foreign keys: it outlives its
    attachment."""

    serial: str
    attachment: AttachmentId
    share: ShareId
    guest: GuestId
    project: ProjectId
    host: HostName
    sequence: int
    certificate: bytes
    not_after: datetime.datetime
    ended_at: datetime.datetime | None = None
    reason: str = ""
    credential: str = ""
    revision: int = 0
    created_at: datetime.datetime = EPOCH


@dataclass(frozen=True, slots=True)
class CertificateRow:
    """A host's certificate for talking to the service, kept until it would have ended. ``ended_at``: when it was
    revoked, ``reason`` says why."""

    serial: str
    host: HostName
    not_after: datetime.datetime
    ended_at: datetime.datetime | None = None
    reason: str = ""
    revision: int = 0
    created_at: datetime.datetime = EPOCH


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A one-time token to enrol a host by. ``digest``: SHA-256 of the token, hex: the token itself is not kept.
    ``replace``: whoever uses it takes the place of an agent that has enrolled before."""

    digest: str
    host: HostName
    expires_at: datetime.datetime
    used_at: datetime.datetime | None = None
    replace: bool = False
    revision: int = 0
    created_at: datetime.datetime = EPOCH


@dataclass(frozen=True, slots=True)
class AuthorityRow:
    """A certificate of the authority itself, DER: a root, a link (a new root, signed by the one before it) or an
    issuer. Agents are given all of them. ``fingerprint``: SHA-256, hex."""

    fingerprint: str
    certificate: bytes
    not_after: datetime.datetime
    revision: int = 0
    created_at: datetime.datetime = EPOCH


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Who did what: append-only. ``way``, ``user``, ``name``, ``project``, ``host`` and ``address`` are the caller's
    (see ``model.caller``); ``action`` is the route's rule (``isthmus:shares:create``); ``targets`` are the objects that
    it touched or named, as ``kind/key``; ``outcome`` is "done" or the slug of the error."""

    request: str
    way: str
    user: str
    name: str
    project: str
    host: str
    address: str
    action: str
    targets: tuple[str, ...]
    outcome: str
    id: int = 0
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


StatusRow = ShareRow | CopyRow | SnapshotRow | AttachmentRow
KeptRow = HostRow | PoolRow | TypeRow | ShareRow | CopyRow | SnapshotRow | GuestRow | AttachmentRow
SilentRow = GrantRow | CertificateRow | TokenRow | AuthorityRow | RecordRow
"""Rows that no event is about: the audit tells what became of them."""
Row = KeptRow | SilentRow

KINDS: Mapping[type[Any], str] = {
    HostRow: "host",
    PoolRow: "pool",
    TypeRow: "share type",
    ShareRow: "share",
    CopyRow: "copy",
    SnapshotRow: "snapshot",
    GuestRow: "guest",
    AttachmentRow: "attachment",
    GrantRow: "grant",
    CertificateRow: "certificate",
    TokenRow: "token",
    AuthorityRow: "authority",
    **RECORD_KINDS,
}


PRIMARY: Mapping[type[Any], str] = {
    HostRow: "name",
    PoolRow: "name",
    TypeRow: "name",
    GrantRow: "serial",
    CertificateRow: "serial",
    TokenRow: "digest",
    AuthorityRow: "fingerprint",
}
"""Names of the primary keys that are not ``id``."""


def key_of(row: Row) -> str:
    """The row's primary key."""
    return str(getattr(row, PRIMARY.get(type(row), "id")))
