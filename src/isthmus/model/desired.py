"""The two documents between service and agent: what should be on a host, and what is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from isthmus.model.attachment import AttachmentSpec
from isthmus.model.guest import GuestSpec, GuestState
from isthmus.model.names import AttachmentId, GuestId, HostName, PoolName, ShareId, SnapshotId
from isthmus.model.share import Filesystem, Pool, Power, ShareGone, ShareSpec, SnapshotGone, SnapshotSpec


@dataclass(frozen=True, slots=True)
class Desired:
    """All that should be on one host. ``revision`` grows with every change that concerns the host.

    A guest, link, gateway or attachment that is absent here is taken down; a share or snapshot is deleted only if it is
    named among the ``doomed``: a document from an old backup must not delete data.

    ``grants``: the certificates (DER) by which attachments may be presented, one each at most; one that has none waits
    for its agent to ask. ``authorities``: the certificates (DER) between the grants and the roots that the agent
    trusts. ``revoked``: serial numbers (lower-case hex) of grants that ended before their time.
    """

    host: HostName
    revision: int
    pools: tuple[Pool, ...] = ()
    shares: tuple[ShareSpec, ...] = ()
    doomed_shares: tuple[ShareGone, ...] = ()
    snapshots: tuple[SnapshotSpec, ...] = ()
    doomed_snapshots: tuple[SnapshotGone, ...] = ()
    guests: tuple[GuestSpec, ...] = ()
    attachments: tuple[AttachmentSpec, ...] = ()
    grants: Mapping[AttachmentId, bytes] = field(default_factory=dict)
    authorities: tuple[bytes, ...] = ()
    revoked: tuple[str, ...] = ()


class Phase(StrEnum):
    """How far an object is on its host. What is not reported at all is absent."""

    WORKING = "working"
    PRESENT = "present"
    WAITING = "waiting"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Condition:
    """``reason`` is the sentence for a person, ``code`` the slug of the error behind a failure."""

    phase: Phase
    reason: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class ShareReport:
    """A share on its host, as observed; sizes in bytes. ``filesystem`` is None, and what comes after it says nothing,
    where it is not there."""

    condition: Condition
    size: int = 0
    used: int = 0
    generation: int = 0
    filesystem: Filesystem | None = None
    checksums: bool = False


@dataclass(frozen=True, slots=True)
class PoolReport:
    """A pool on its host. ``error`` is set when the pool cannot be used at all."""

    total: int = 0
    free: int = 0
    powers: Mapping[Filesystem, frozenset[Power]] = field(default_factory=dict)
    minimum: Mapping[Filesystem, int] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class GuestReport:
    """A guest on its host; ``plugs`` are Isthmus's devices in it."""

    state: GuestState
    plugs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a user should read: who it is about, what happened."""

    subject: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """All that is on one host. ``revision`` is that of the document which the agent had in hand when it looked: an
    object that a later document asks for says nothing yet by its absence."""

    host: HostName
    revision: int
    pools: Mapping[PoolName, PoolReport] = field(default_factory=dict)
    shares: Mapping[ShareId, ShareReport] = field(default_factory=dict)
    snapshots: Mapping[SnapshotId, Condition] = field(default_factory=dict)
    guests: Mapping[GuestId, GuestReport] = field(default_factory=dict)
    attachments: Mapping[AttachmentId, Condition] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
