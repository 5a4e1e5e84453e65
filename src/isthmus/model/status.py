"""Statuses, and the one table of legal moves between them.

Nobody sets a status: ``store.Tx.move`` does, after ``check_move``. An ``error`` status carries a reason and is
left again when the next cycle of the agent succeeds: what should be stays what should be.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from isthmus.model.errors import Conflict


class ShareStatus(StrEnum):
    """A share's life."""

    CREATING = "creating"
    AVAILABLE = "available"
    EXTENDING = "extending"
    SHRINKING = "shrinking"
    REVERTING = "reverting"
    DELETING = "deleting"
    ERROR = "error"
    GONE = "gone"


class SnapshotStatus(StrEnum):
    """A snapshot's life."""

    CREATING = "creating"
    AVAILABLE = "available"
    DELETING = "deleting"
    ERROR = "error"
    GONE = "gone"


class AttachmentStatus(StrEnum):
    """An attachment's life. ``waiting``: all is ready on the host, the guest is not running."""

    ATTACHING = "attaching"
    WAITING = "waiting"
    ATTACHED = "attached"
    DETACHING = "detaching"
    ERROR = "error"
    GONE = "gone"


Status = ShareStatus | SnapshotStatus | AttachmentStatus

_SH, _SN, _AT = ShareStatus, SnapshotStatus, AttachmentStatus

SHARE_MOVES: Mapping[ShareStatus, frozenset[ShareStatus]] = {
    _SH.CREATING: frozenset({_SH.AVAILABLE, _SH.ERROR, _SH.DELETING}),
    _SH.AVAILABLE: frozenset({_SH.EXTENDING, _SH.SHRINKING, _SH.REVERTING, _SH.DELETING, _SH.ERROR}),
    _SH.EXTENDING: frozenset({_SH.AVAILABLE, _SH.ERROR}),
    _SH.SHRINKING: frozenset({_SH.AVAILABLE, _SH.ERROR}),
    _SH.REVERTING: frozenset({_SH.AVAILABLE, _SH.ERROR}),
    _SH.ERROR: frozenset({_SH.AVAILABLE, _SH.EXTENDING, _SH.SHRINKING, _SH.REVERTING, _SH.DELETING}),
    _SH.DELETING: frozenset({_SH.GONE}),
    _SH.GONE: frozenset(),
}
SNAPSHOT_MOVES: Mapping[SnapshotStatus, frozenset[SnapshotStatus]] = {
    _SN.CREATING: frozenset({_SN.AVAILABLE, _SN.ERROR, _SN.DELETING}),
    _SN.AVAILABLE: frozenset({_SN.DELETING, _SN.ERROR}),
    _SN.ERROR: frozenset({_SN.AVAILABLE, _SN.DELETING}),
    _SN.DELETING: frozenset({_SN.GONE}),
    _SN.GONE: frozenset(),
}
ATTACHMENT_MOVES: Mapping[AttachmentStatus, frozenset[AttachmentStatus]] = {
    _AT.ATTACHING: frozenset({_AT.ATTACHED, _AT.WAITING, _AT.ERROR, _AT.DETACHING}),
    _AT.WAITING: frozenset({_AT.ATTACHING, _AT.ATTACHED, _AT.ERROR, _AT.DETACHING}),
    _AT.ATTACHED: frozenset({_AT.ATTACHING, _AT.WAITING, _AT.ERROR, _AT.DETACHING}),
    _AT.ERROR: frozenset({_AT.ATTACHING, _AT.WAITING, _AT.ATTACHED, _AT.DETACHING}),
    _AT.DETACHING: frozenset({_AT.GONE}),
    _AT.GONE: frozenset(),
}


def check_move(kind: str, name: str, now: Status, then: Status) -> None:
    """Raise ``Conflict`` unless ``now -> then`` is in the table of its kind. Staying is always legal."""
    if now != then and then not in moves_from(now):
        raise Conflict(
            f"cannot move {kind} {name} from {now} to {then}: it is {now}",
            code="illegal-status",
            detail={"kind": kind, "id": name, "status": str(now), "wanted": str(then)},
        )


def moves_from(now: Status) -> frozenset[Status]:
    """The statuses that may follow ``now``."""
    match now:
        case ShareStatus():
            return frozenset(SHARE_MOVES[now])
        case SnapshotStatus():
            return frozenset(SNAPSHOT_MOVES[now])
        case AttachmentStatus():
            return frozenset(ATTACHMENT_MOVES[now])
