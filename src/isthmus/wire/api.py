"""The isthmus API: what its requests and answers look like. Rules about values live in ``model.names`` and the service;
a type here says only what can be decoded at all.

Requests refuse fields that they do not know. Answers may grow fields: clients ignore what they do not know.
Sizes are bytes. Times are RFC 3339 in UTC. ``revision`` grows with every change of an object and is what ``after``
of a long-poll means.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Generic, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from isthmus.model.attachment import Access, Mode
from isthmus.model.guest import GuestState
from isthmus.model.share import Filesystem, Power
from isthmus.model.status import AttachmentStatus, ShareStatus, SnapshotStatus

Uuid = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
Bytes = Annotated[int, Meta(description="bytes")]
Choice = Annotated[str, Meta(description="nfs, or auto to let Isthmus choose")]
Item = TypeVar("Item")


class _Request(Struct, kw_only=True, forbid_unknown_fields=True):
    """Base of requests: an unknown field is refused by its name."""


class _Answer(Struct, kw_only=True):
    """Base of answers."""


# --- requests ---------------------------------------------------------------------------------------------------------


class HostCreate(_Request):
    """Register a hypervisor node that runs an agent. ``zone``: its availability zone; for one that is known, its new
    one."""

    name: str
    zone: str | UnsetType = UNSET


class PoolCreate(_Request):
    """Register a storage back end. ``path``: where it is on its host."""

    name: str
    host: str
    path: str
    driver: str = "local"
    overcommit: float = 1.0
    reserve: Bytes = 0


class PoolPatch(_Request):
    """What of a pool may change. ``backups``: the pool that backups of its shares go to, "" for none."""

    overcommit: float | UnsetType = UNSET
    reserve: Bytes | UnsetType = UNSET
    backups: str | UnsetType = UNSET


class TypeCreate(_Request):
    """Offer a kind of share."""

    name: str
    filesystem: Filesystem = Filesystem.BTRFS
    checksums: bool = False


class ShareCreate(_Request):
    """Ask for a share. With ``id``, a retry after a lost answer finds the share instead of making another. At most one
    of ``source_snapshot`` and ``source_share`` says what it starts as a copy of. ``project``: left out, it is the
    caller's. ``public``: other projects may read of it, and no more."""

    pool: str
    size: Bytes
    project: str | None = None
    name: str = ""
    type: str = "default"
    public: bool = False
    id: Uuid | None = None
    source_snapshot: Uuid | None = None
    source_share: Uuid | None = None


class SharePatch(_Request):
    """Rename a share, give it another size, or change who may read of it."""

    name: str | UnsetType = UNSET
    size: Bytes | UnsetType = UNSET
    public: bool | UnsetType = UNSET


class GrantsAsked(_Request):
    """Ask for grants: by attachment, a certificate request (PKCS #10, DER) on a key that stays on its host."""

    requests: dict[str, bytes]


class TokenCreate(_Request):
    """Make a one-time token by which a host enrols. ``replace``: in the place of the agent that has; ``lifetime`` in
    seconds."""

    replace: bool = False
    lifetime: float = 3600.0


class Enrolment(_Request):
    """Enrol a host: the token, and a certificate request (PKCS #10, DER) on a key that stays on it."""

    token: str
    request: bytes


class CertificateAsked(_Request):
    """Renew a host's certificate, on this request (PKCS #10, DER)."""

    request: bytes


class RevertShare(_Request):
    """Make a share's data that of one of its snapshots. All snapshots stay."""

    snapshot: Uuid


class SnapshotCreate(_Request):
    """Take a snapshot of a share."""

    share: Uuid
    name: str = ""
    id: Uuid | None = None


class SnapshotPatch(_Request):
    """Rename a snapshot."""

    name: str | UnsetType = UNSET


class GuestCreate(_Request):
    """Register a virtual machine. ``id`` is the UUID that Nova and libvirt know it by. ``static``: its link and gateway
    exist from now on, not only while it has attachments. ``addresses``: its IP addresses on its own networks, by which
    access rules of the Shared File Systems API may choose it."""

    id: Uuid
    project: str
    host: str
    name: str = ""
    static: bool = False
    addresses: list[str] = []


class GuestPatch(_Request):
    """What of a guest may change."""

    name: str | UnsetType = UNSET
    static: bool | UnsetType = UNSET
    addresses: list[str] | UnsetType = UNSET


class AttachmentCreate(_Request):
    """Give a guest a share at the place ``at`` (left out: the share's name, else its id). ``sub_path`` must be empty:
    over NFS a sub-path is no boundary."""

    share: Uuid
    guest: Uuid
    at: str | None = None
    mode: Choice = "auto"
    access: Access = Access.RW
    sub_path: str = ""
    id: Uuid | None = None


# --- answers ----------------------------------------------------------------------------------------------------------


class Version(_Answer):
    """Who answers."""

    name: str
    version: str
    api: str


class Health(_Answer):
    """The service and its database answer. ``revision`` is that of the last change to anything."""

    status: str
    revision: int


class HostView(_Answer):
    """A host. ``seen_at``: about when its agent last reported, null if never. ``applied_revision``: of the document
    that the agent had in hand then; it is up to date when that equals ``desired_revision``."""

    name: str
    zone: str
    desired_revision: int
    applied_revision: int
    seen_at: datetime.datetime | None
    revision: int
    created_at: datetime.datetime


class PoolView(_Answer):
    """A pool. ``total`` and ``free`` are null until its host reported; ``promised`` is the sum of the sizes
    of shares and copies in it; ``backups``: the pool for backups of its shares;
    ``error`` says why it cannot be used, if it cannot."""

    name: str
    driver: str
    host: str
    path: str
    overcommit: float
    reserve: Bytes
    total: Bytes | None
    free: Bytes | None
    promised: Bytes
    powers: dict[Filesystem, list[Power]]
    minimum: dict[Filesystem, int]
    error: str
    backups: str
    revision: int
    created_at: datetime.datetime


class TypeView(_Answer):
    """A kind of share."""

    name: str
    filesystem: Filesystem
    checksums: bool
    revision: int
    created_at: datetime.datetime


class ShareView(_Answer):
    """A share. ``size`` is what should be, ``used`` what it takes of its pool. ``reason`` explains the status, ``code``
    is the slug of the error behind it. ``volume``: what its pool and its host's mounts call it by: its id, until it is
    migrated."""

    id: Uuid
    volume: Uuid
    project: str
    name: str
    pool: str
    host: str
    type: str
    filesystem: Filesystem
    checksums: bool
    size: Bytes
    used: Bytes
    status: ShareStatus
    reason: str
    code: str
    source_snapshot: Uuid | None
    source_share: Uuid | None
    public: bool
    revision: int
    created_at: datetime.datetime


class SnapshotView(_Answer):
    """A snapshot of a share."""

    id: Uuid
    share: Uuid
    project: str
    name: str
    status: SnapshotStatus
    reason: str
    code: str
    revision: int
    created_at: datetime.datetime


class GuestView(_Answer):
    """A guest. ``state`` is null while its hypervisor does not answer; ``plugs`` are Isthmus's devices in it."""

    id: Uuid
    project: str
    host: str
    name: str
    static: bool
    addresses: list[str]
    state: GuestState | None
    plugs: list[str]
    revision: int
    created_at: datetime.datetime


class AttachmentView(_Answer):
    """A share in a guest's name space. ``mode_reason`` says why ``auto`` chose this mode."""

    id: Uuid
    share: Uuid
    guest: Uuid
    project: str
    host: str
    at: str
    mode: Mode
    mode_reason: str
    access: Access
    slot: int
    status: AttachmentStatus
    reason: str
    code: str
    revision: int
    created_at: datetime.datetime


class GrantsAnswered(_Answer):
    """Why some of the grants that were asked for were not signed, by attachment. The others come with the host's next
    document."""

    refused: dict[str, str]


class TokenView(_Answer):
    """A token, shown this once: whoever has it becomes the host. It works once."""

    token: str
    host: str
    expires_at: datetime.datetime


class Enrolled(_Answer):
    """A host's certificate, and those of the authority: DER."""

    host: str
    certificate: bytes
    roots: list[bytes]
    authorities: list[bytes]


class AuthorityView(_Answer):
    """The authority's certificates: roots, newest first, and all that is between them and grants. DER."""

    roots: list[bytes]
    authorities: list[bytes]


class GrantView(_Answer):
    """A grant. ``ended_at`` and ``reason``: when and why it ended before ``not_after``, null and empty if it did not.
    ``certificate`` is PEM; what it says is in it."""

    serial: str
    attachment: Uuid
    share: Uuid
    guest: Uuid
    project: str
    host: str
    sequence: int
    not_after: datetime.datetime
    ended_at: datetime.datetime | None
    reason: str
    certificate: str
    revision: int
    created_at: datetime.datetime


class AuditView(_Answer):
    """Who did what. ``way``: who vouched for the caller (socket, open, local, keystone, certificate); ``action``: the
    policy's rule; ``targets``: the objects that were touched or named, as ``kind/id``; ``outcome``: ``done``, or the
    slug of the error."""

    id: int
    at: datetime.datetime
    request: str
    way: str
    user: str
    name: str
    project: str
    host: str
    address: str
    action: str
    targets: list[str]
    outcome: str


class EventView(_Answer):
    """Something that happened. ``id`` grows in the order in which events became visible. ``kind`` is the subject's noun
    (``share``, ``snapshot``, ``attachment``, ``guest``, ``host``, ``pool``); ``before`` and ``after`` are statuses,
    empty for an event that is no move."""

    id: int
    at: datetime.datetime
    kind: str
    subject: str
    project: str
    before: str
    after: str
    message: str
    revision: int


class Page(_Answer, Generic[Item]):
    """A part of a list, in the order of its keys. ``next`` is the ``marker`` that continues it, null at the end."""

    items: list[Item]
    next: str | None = None


class Fault(_Answer):
    """What went wrong: ``code`` for programs, ``message`` for people, the facts in ``detail``."""

    code: str
    message: str
    detail: dict[str, str | int | float | bool | None]
    request_id: str


class FaultEnvelope(_Answer):
    """Every answer with a status of 400 or above."""

    error: Fault
