"""Attachments: a share in a guest's name space, and its export by a gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from isthmus.model.names import AttachmentId, GuestId, ShareId


class Mode(StrEnum):
    """How a guest reaches a share."""

    NFS = "nfs"


class Access(StrEnum):
    """What a guest may do."""

    RW = "rw"
    RO = "ro"


@dataclass(frozen=True, slots=True)
class AttachmentSpec:
    """A share that a guest should see at ``at``. ``slot`` (1 to 65,535) is unique in the guest and never changes: it is
    part of every file handle that the guest holds."""

    id: AttachmentId
    share: ShareId
    guest: GuestId
    slot: int
    at: str
    mode: Mode = Mode.NFS
    access: Access = Access.RW


@dataclass(frozen=True, slots=True)
class Export:
    """What a gateway presents: the directory ``source`` on the host, at ``at`` in the guest's name space."""

    attachment: AttachmentId
    slot: int
    source: str
    at: str
    access: Access = Access.RW


@dataclass(frozen=True, slots=True)
class GatewaySeen:
    """A gateway as found: ``running`` if all its processes are, ``exports`` by attachment with what it really serves
    (empty if it does not answer).

    ``holds``: by attachment, the directories of the host that it may still have open, served or not, as the kernel
    and its configuration tell: a gateway that is too busy to answer has not let go of anything.
    """

    guest: GuestId
    mode: Mode
    running: bool
    exports: Mapping[AttachmentId, Export] = field(default_factory=dict)
    holds: Mapping[AttachmentId, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LinkSeen:
    """A guest's link as found; ``missing`` names what it lacks (``tap``, ``address``, ``filter``), () if whole.
    ``held``: a hypervisor holds the guest's end. A card that was plugged into an earlier tap does not."""

    guest: GuestId
    missing: tuple[str, ...] = ()
    held: bool = False
