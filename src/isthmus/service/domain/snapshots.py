"""Snapshots of shares."""

from __future__ import annotations

from isthmus.model.errors import Conflict, NotFound
from isthmus.model.names import MAX_DESCRIPTION, SnapshotId, new_id, parse_title, parse_uuid
from isthmus.model.share import Power
from isthmus.model.status import ShareStatus, SnapshotStatus
from isthmus.service.domain import copies, pools, quotas
from isthmus.store.rows import PoolRow, ShareRow, SnapshotRow
from isthmus.store.tx import Tx


def create_snapshot(
    tx: Tx,
    *,
    share: str,
    name: str = "",
    snapshot_id: str | None = None,
    description: str = "",
    user: str = "",
    group_snapshot: str | None = None,
) -> SnapshotRow:
    """A snapshot in ``creating``. With a ``snapshot_id`` that exists with this content already: that snapshot.

    Raises ``Conflict`` unless the share is available, ``Refused`` if its file system takes no snapshots.
    """
    name = parse_title(name)
    wanted = SnapshotId(parse_uuid(snapshot_id, "id") if snapshot_id is not None else new_id())
    subject = tx.get(ShareRow, parse_uuid(share, "share"))
    if subject is None:
        raise NotFound("share", share)
    known = tx.get(SnapshotRow, wanted)
    if known and (known.share, known.name) == (subject.id, name):
        return known
    doing = f"snapshot share {subject.id}"
    if known:
        raise Conflict(f"cannot {doing}: the id {wanted} belongs to another snapshot", code="id-taken")
    if subject.status != ShareStatus.AVAILABLE:
        raise Conflict(
            f"cannot {doing}: it is {subject.status}",
            code="illegal-status",
            detail={"share": subject.id, "status": str(subject.status)},
        )
    copies.check_stays(tx, doing, subject)
    home = tx.need(PoolRow, subject.pool)
    pools.check_power(home, subject.filesystem, Power.SNAPSHOT, doing)
    quotas.check(tx, doing, subject.project, user=user, snapshots=1, snapshot_gigabytes=quotas.gib(subject.size))
    wanted_row = SnapshotRow(
        wanted,
        subject.id,
        subject.project,
        name=name,
        description=parse_title(description, "description", most=MAX_DESCRIPTION),
        user=user,
        size=subject.size,
        group_snapshot=group_snapshot,
    )
    snapshot = tx.add(wanted_row, "asked for")
    tx.wake(home.host)
    return snapshot


def update_snapshot(
    tx: Tx, snapshot_id: str, *, name: str | None = None, description: str | None = None
) -> SnapshotRow:
    """The snapshot with this name."""
    snapshot = tx.need(SnapshotRow, snapshot_id)
    if description is not None:
        described = parse_title(description, "description", most=MAX_DESCRIPTION)
        snapshot = tx.change(snapshot, description=described)
    return snapshot if name is None else tx.change(snapshot, name=parse_title(name))


def delete_snapshot(tx: Tx, snapshot_id: str) -> SnapshotRow:
    """The snapshot in ``deleting``. Raises ``Conflict`` while its share goes back to it or a copy of it is made."""
    snapshot = tx.need(SnapshotRow, snapshot_id)
    if snapshot.status == SnapshotStatus.DELETING:
        return snapshot
    share = tx.need(ShareRow, snapshot.share)
    doing = f"delete snapshot {snapshot.id}"
    if share.revert_to == snapshot.id and share.reverted < share.reverts:
        raise Conflict(f"cannot {doing}: share {share.id} is being reverted to it", code="snapshot-in-use")
    copies.check_unread(tx, doing, snapshot)
    tx.unlabel(snapshot.id)
    snapshot = tx.want(tx.move(snapshot, SnapshotStatus.DELETING))
    tx.wake(tx.need(PoolRow, share.pool).host)
    return snapshot
