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
    """Register a hypervisor node that runs an agent."""

    name: str


class PoolCreate(_Request):
    """Register a storage back end. ``path``: where it is on its host."""

    name: str
    host: str
    path: str
    driver: str = "local"
    overcommit: float = 1.0
    reserve: Bytes = 0


class PoolPatch(_Request):
    """What of a pool may change."""

    overcommit: float | UnsetType = UNSET
    reserve: Bytes | UnsetType = UNSET


class TypeCreate(_Request):
    """Offer a kind of share."""

    name: str
    filesystem: Filesystem = Filesystem.BTRFS
    checksums: bool = False


class ShareCreate(_Request):
    """Ask for a share. With ``id``, a retry after a lost answer finds the share instead of making another. At most one
    of ``source_snapshot`` and ``source_share`` says what it starts as a copy of."""

    project: str
    pool: str
    size: Bytes
    name: str = ""
    type: str = "default"
    id: Uuid | None = None
    source_snapshot: Uuid | None = None
    source_share: Uuid | None = None


class SharePatch(_Request):
    """Rename a share, or give it another size."""

    name: str | UnsetType = UNSET
    size: Bytes | UnsetType = UNSET


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
    exist from now on, not only while it has attachments."""

    id: Uuid
    project: str
    host: str
    name: str = ""
    static: bool = False


class GuestPatch(_Request):
    """What of a guest may change."""

    name: str | UnsetType = UNSET
    static: bool | UnsetType = UNSET


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
    desired_revision: int
    applied_revision: int
    seen_at: datetime.datetime | None
    revision: int
    created_at: datetime.datetime


class PoolView(_Answer):
    """A pool. ``total`` and ``free`` are null until its host reported; ``promised`` is the sum of its shares' sizes;
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
    is the slug of the error behind it."""

    id: Uuid
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
