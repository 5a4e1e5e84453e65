"""What a report means for what the database says.

A report is a look at one host by an agent that had a certain document in hand. What is said of an object counts at
once. What is not said (an absence) or not achieved (a failure) counts only if that document held the present intent.
Nothing here wakes an agent, but that an object was made: the next document says so, and it is never made anew.
A report that says nothing new writes nothing.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from isthmus.model.desired import Condition, Phase, PoolReport, Report, ShareReport
from isthmus.model.names import PoolName, ShareId
from isthmus.model.share import Filesystem
from isthmus.model.status import AttachmentStatus, ShareStatus, SnapshotStatus
from isthmus.service.domain import copies, groups, messages, rules
from isthmus.service.domain.hosts import placed_shares
from isthmus.service.domain.words import plain
from isthmus.store.rows import (
    AttachmentRow,
    CopyRow,
    GuestRow,
    HostRow,
    KeptRow,
    PoolRow,
    ShareRow,
    SnapshotRow,
)
from isthmus.store.tx import Tx

SEEN_EVERY = datetime.timedelta(seconds=15)
"""How stale ``seen_at`` may be: an agent that reports more often does not make the database write each time."""

MAX_NOTICES = 100
_MAX_FIGURE = (1 << 63) - 1
_MISSING = "it is missing on its host"
_NOT_THERE = "its pool has no such volume"
Volume = TypeVar("Volume", ShareRow, CopyRow)
_SHARE_BUSY = frozenset({ShareStatus.CREATING, ShareStatus.ERROR})


@dataclass(frozen=True, slots=True)
class _Look:
    """A report, and what its silence is worth. ``knows``: up to which intent it speaks; ``usable``: the pools that the
    agent could look into, as an unmounted disk is no proof that its shares are gone."""

    report: Report
    knows: int
    usable: frozenset[PoolName]

    def aware(self, wanted: int) -> bool:
        """Whether the agent knew of this intent when it looked."""
        return self.knows >= wanted


def apply_report(tx: Tx, report: Report) -> None:
    """The rows of the report's host say what the report says. Objects of other hosts, and unknown ones, are left alone.
    Raises ``NotFound`` for a host that is not registered."""
    host = tx.need(HostRow, report.host)
    pools = tx.all(PoolRow, host=host.name)
    guests = tx.all(GuestRow, host=host.name)
    look = _Look(report, _knows(host, report), _usable(report))
    made = [_pool(tx, pool, report.pools[pool.name]) for pool in pools if pool.name in report.pools]
    shares = placed_shares(tx, pools)
    copied = tx.all(CopyRow, pool=[pool.name for pool in pools])
    snapshots = tx.all(SnapshotRow, share=[share.id for share in shares])
    attachments = tx.all(AttachmentRow, guest=[guest.id for guest in guests])
    made += [_share(tx, share, look) for share in shares]
    made += [_copy(tx, copy, look) for copy in copied]
    homes = {share.id: share.pool for share in shares}
    made += [_snapshot(tx, snapshot, look, homes) for snapshot in snapshots]
    for attachment in attachments:
        _attachment(tx, attachment, look)
    _guests(tx, guests, report)
    known: dict[str, KeptRow] = {}
    for rows in (shares, snapshots, guests, attachments):
        known |= {row.id: row for row in rows}
    known |= {share.volume_id: share for share in shares}
    known |= {copy.volume: copy for copy in copied}
    _notices(tx, host, report, known)
    if any(made):
        tx.wake(host.name)
    _seen(tx, tx.need(HostRow, host.name), look.knows)


def _knows(host: HostRow, report: Report) -> int:
    """The revision up to which the report's silence counts; -1 if it counts for nothing: when a newer report was seen,
    or when the agent has a document that this database never gave out (it was restored from a backup)."""
    return report.revision if host.applied <= report.revision <= host.desired else -1


def _usable(report: Report) -> frozenset[PoolName]:
    return frozenset(name for name, pool in report.pools.items() if not pool.error)


def _seen(tx: Tx, host: HostRow, knows: int) -> None:
    stale = host.seen_at is None or tx.now - host.seen_at >= SEEN_EVERY or tx.now < host.seen_at
    tx.measure(host, seen_at=tx.now if stale else host.seen_at, applied=max(knows, host.applied))


def _pool(tx: Tx, pool: PoolRow, seen: PoolReport) -> bool:
    """Whether the pool turned out to be in use for the first time."""
    error = plain(seen.error)
    if error != pool.error:
        tx.tell(pool, error or "can be used again")
    if error:
        tx.change(pool, error=error)
        return False
    first = pool.total is None
    changed = tx.change(pool, error="", powers=dict(seen.powers), minimum=_figures(seen.minimum))
    figures = {"total": _figure(seen.total), "free": _figure(seen.free)}
    if first:
        tx.change(changed, **figures)
    else:
        tx.measure(changed, **figures)
    return first


def _share(tx: Tx, share: ShareRow, look: _Look) -> bool:
    """Whether the share turned out to have been made."""
    seen = look.report.shares.get(share.volume_id)
    if seen is None:
        _volume_absent(tx, share, look)
        return False
    phase, reason, code = _said(seen.condition)
    if share.adopt:
        return _adopted(tx, share, seen) if phase == Phase.PRESENT else False
    share = _measured(tx, share, seen)
    if share.status == ShareStatus.DELETING:
        if phase == Phase.FAILED and look.aware(share.wanted):
            if share.reason != reason:
                messages.tell(tx, share, messages.Action.DELETE, reason)
            tx.move(share, ShareStatus.DELETING, reason, code)
        return False
    if phase == Phase.FAILED and look.aware(share.wanted):
        if (share.status, share.reason) != (ShareStatus.ERROR, reason):
            messages.of_failed_share(tx, share, reason)
        tx.move(share, ShareStatus.ERROR, reason, code)
    elif phase == Phase.PRESENT and seen.size == share.size and seen.generation >= share.reverts:
        made = not share.made
        if share.fill_from and share.reverted < share.reverts:
            copies.restored(tx, share)
        share = tx.change(share, made=True, reverted=share.reverts)
        tx.move(share, ShareStatus.AVAILABLE)
        return made
    return False


def _adopted(tx: Tx, share: ShareRow, seen: ShareReport) -> bool:
    """Whether what was found is what the share shall be."""
    if seen.filesystem is None:
        return False
    if (seen.filesystem, seen.checksums) != (share.filesystem, share.checksums):
        found = f"{seen.filesystem}{' with checksums' if seen.checksums else ''}"
        reason = f"cannot manage it as {share.type}: it is {found}: name a share type of that file system"
        if share.reason != reason:
            messages.tell(tx, share, messages.Action.CREATE, reason)
        tx.move(share, ShareStatus.ERROR, reason, "other-filesystem")
        return False
    size, generation = _figure(seen.size), _figure(seen.generation)
    share = tx.want(share, adopt=False, size=size, actual=size, reverts=generation, reverted=generation)
    tx.move(share, ShareStatus.AVAILABLE)
    return True


def _copy(tx: Tx, copy: CopyRow, look: _Look) -> bool:
    """Whether the copy turned out to have been made, or to be all that it should be."""
    seen = look.report.shares.get(copy.volume)
    if seen is None:
        _volume_absent(tx, copy, look)
        return False
    copy = _measured(tx, copy, seen)
    phase, reason, code = _said(seen.condition)
    if copy.status == ShareStatus.DELETING:
        if phase == Phase.FAILED and look.aware(copy.wanted):
            tx.move(copy, ShareStatus.DELETING, reason, code)
    elif phase == Phase.FAILED and look.aware(copy.wanted):
        if (copy.status, copy.reason) != (ShareStatus.ERROR, reason):
            copies.failed(tx, copy, reason)
        tx.move(copy, ShareStatus.ERROR, reason, code)
    elif phase == Phase.PRESENT and seen.generation >= copy.rounds > copy.filled:
        copy = tx.change(copy, made=True, filled=copy.rounds)
        copies.filled(tx, tx.move(copy, ShareStatus.AVAILABLE))
        return True
    elif phase == Phase.PRESENT and copy.filled == copy.rounds:
        tx.move(copy, ShareStatus.AVAILABLE)
    return False


def _volume_absent(tx: Tx, row: ShareRow | CopyRow, look: _Look) -> None:
    if row.pool not in look.usable or not look.aware(row.wanted):
        return
    if row.status == ShareStatus.DELETING:
        tx.move(row, ShareStatus.GONE)
    elif isinstance(row, ShareRow) and row.adopt:
        if row.status != ShareStatus.ERROR:
            messages.tell(tx, row, messages.Action.CREATE, _NOT_THERE)
        tx.move(row, ShareStatus.ERROR, _NOT_THERE, "missing")
    elif row.status not in _SHARE_BUSY:
        tx.move(row, ShareStatus.ERROR, _MISSING, "missing")


def _measured(tx: Tx, row: Volume, seen: ShareReport) -> Volume:
    return tx.measure(row, actual=_figure(seen.size), used=_figure(seen.used))


def _snapshot(tx: Tx, snapshot: SnapshotRow, look: _Look, homes: Mapping[ShareId, PoolName]) -> bool:
    """Whether the snapshot turned out to have been made."""
    seen = look.report.snapshots.get(snapshot.id)
    if seen is None:
        if homes[snapshot.share] in look.usable and look.aware(snapshot.wanted):
            if snapshot.status == SnapshotStatus.DELETING:
                tx.move(snapshot, SnapshotStatus.GONE)
                if snapshot.group_snapshot:
                    groups.settle(tx, snapshot.group_snapshot)
            elif snapshot.status == SnapshotStatus.AVAILABLE or (
                snapshot.made and snapshot.status == SnapshotStatus.CREATING  # one that was to be found there
            ):
                tx.move(snapshot, SnapshotStatus.ERROR, _MISSING, "missing")
        return False
    phase, reason, code = _said(seen)
    if phase == Phase.FAILED and look.aware(snapshot.wanted):
        deleting = snapshot.status == SnapshotStatus.DELETING
        if snapshot.reason != reason:
            messages.tell(tx, snapshot, messages.Action.DELETE if deleting else messages.Action.CREATE, reason)
        tx.move(snapshot, SnapshotStatus.DELETING if deleting else SnapshotStatus.ERROR, reason, code)
    elif phase == Phase.PRESENT and snapshot.status != SnapshotStatus.DELETING:
        made = not snapshot.made
        tx.move(tx.change(snapshot, made=True), SnapshotStatus.AVAILABLE)
        return made
    return False


_ATTACHMENT: Mapping[Phase, AttachmentStatus] = {
    Phase.PRESENT: AttachmentStatus.ATTACHED,
    Phase.WAITING: AttachmentStatus.WAITING,
    Phase.FAILED: AttachmentStatus.ERROR,
}
_SETTLED = frozenset({AttachmentStatus.ATTACHED, AttachmentStatus.WAITING})


def _attachment(tx: Tx, attachment: AttachmentRow, look: _Look) -> None:
    seen = look.report.attachments.get(attachment.id)
    aware = look.aware(attachment.wanted)
    phase, reason, code = _said(seen) if seen else (None, _MISSING, "missing")
    if attachment.status == AttachmentStatus.DETACHING:
        if phase is None and aware:
            tx.move(attachment, AttachmentStatus.GONE)
            if attachment.rule is not None:
                rules.reconcile(tx, tx.need(ShareRow, attachment.share))
        elif phase == Phase.FAILED and aware:
            tx.move(attachment, AttachmentStatus.DETACHING, reason, code)
    elif phase is None or phase == Phase.WORKING:
        if aware and attachment.status in _SETTLED:
            tx.move(attachment, AttachmentStatus.ATTACHING, reason, code)
    elif phase != Phase.FAILED or aware:
        if phase == Phase.FAILED and attachment.reason != reason:
            messages.tell(tx, attachment, messages.Action.RULES, reason)
        tx.move(attachment, _ATTACHMENT[phase], reason, code)


def _guests(tx: Tx, guests: list[GuestRow], report: Report) -> None:
    for guest in guests:
        seen = report.guests.get(guest.id)
        state = seen.state if seen else None
        plugs = frozenset(plain(plug, 128) for plug in seen.plugs) if seen else frozenset()
        changed = tx.change(guest, state=state, plugs=plugs)
        if state != guest.state:
            tx.tell(changed, f"is {state}" if state else "does not answer", before=guest.state or "", after=state or "")


def _notices(tx: Tx, host: HostRow, report: Report, known: Mapping[str, KeptRow]) -> None:
    for notice in report.notices[:MAX_NOTICES]:
        subject: KeptRow = known.get(notice.subject, host)
        prefix = "" if subject is not host or notice.subject == host.name else f"{plain(notice.subject, 128)}: "
        tx.tell(subject, prefix + plain(notice.message))


def _said(condition: Condition) -> tuple[Phase, str, str]:
    """Phase, reason and code; an object that is there needs no reason."""
    if condition.phase == Phase.PRESENT:
        return condition.phase, "", ""
    return condition.phase, plain(condition.reason), plain(condition.code, 64)


def _figure(value: int) -> int:
    return min(max(value, 0), _MAX_FIGURE)


def _figures(values: Mapping[Filesystem, int]) -> dict[Filesystem, int]:
    return {name: _figure(value) for name, value in values.items()}
