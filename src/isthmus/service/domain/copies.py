"""Copies of shares in other pools of their host: backups, and migrations, which end with the copy in the share's place.

A copy is a volume of its own, filled by the host that has both pools while the share goes on being used. Hosts know it
as one more share, that nothing attaches; tenants never see it as a share.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from isthmus.model.errors import Conflict, Refused
from isthmus.model.names import MAX_DESCRIPTION, PoolName, ShareId, new_id, parse_title, parse_uuid
from isthmus.model.share import Power
from isthmus.model.status import AttachmentStatus, ShareStatus
from isthmus.service.domain import grants, messages, pools, quotas
from isthmus.service.domain.hosts import listed
from isthmus.store.records import LeftRow
from isthmus.store.rows import AttachmentRow, CopyRow, PoolRow, Purpose, ShareRow, SnapshotRow, TypeRow
from isthmus.store.tx import ReadTx, Tx

BACKING_UP, MIGRATING = "backup_creating", "migrating"
"""What a share shows meanwhile."""
RESTORING = "restoring"
"""What a backup shows meanwhile."""
MOVED = "the share was migrated"


def back_up(tx: Tx, share: ShareRow, *, name: str, description: str, user: str) -> CopyRow:
    """A backup in ``creating``, of the share as it will be when its host begins. Raises ``Conflict`` for a share that
    is not at rest, or in use where its file system cannot keep an instant; ``Refused`` where its pool has no pool for
    backups, or that cannot keep it; ``Exhausted``, ``OverQuota``."""
    doing = f"back up share {share.id}"
    check_idle(share, doing)
    home = tx.need(PoolRow, share.pool)
    if not home.backups:
        raise Refused(
            f"cannot {doing}: pool {home.name} has no pool for backups: the operator names one by "
            f"isthmus pool set {home.name} --backups POOL",
            code="no-backup-pool",
            detail={"pool": home.name},
        )
    attached = [row.id for row in tx.all(AttachmentRow, share=share.id)]
    if attached and Power.SNAPSHOT not in home.powers.get(share.filesystem, frozenset()):
        raise Conflict(
            f"cannot {doing}: its file system, {share.filesystem}, takes no snapshots, so a backup would hold files of "
            f"different moments: remove {listed('attachment', attached)} first",
            code="share-attached",
        )
    size = quotas.gib(share.size)
    quotas.check(tx, doing, share.project, user=user, backups=1, backup_gigabytes=size)
    target = tx.need(PoolRow, home.backups)
    row = replace(
        _copy(share, target, tx.need(TypeRow, share.type), Purpose.BACKUP),
        name=parse_title(name),
        description=parse_title(description, "description", most=MAX_DESCRIPTION),
        user=user,
    )
    copy = _begin(tx, row, target, doing)
    tx.change(share, shown=BACKING_UP)
    return copy


def restore(tx: Tx, backup: CopyRow, share: ShareRow) -> ShareRow:
    """The share in ``reverting``: its files shall be the backup's. Nobody has it meanwhile. Raises ``Conflict``,
    ``Refused`` for a share that is too small or elsewhere."""
    doing = f"restore backup {backup.id} to share {share.id}"
    if backup.status != ShareStatus.AVAILABLE or backup.shown:
        raise Conflict(f"cannot {doing}: the backup is {backup.shown or backup.status}", code="illegal-status")
    check_idle(share, doing)
    if share.size < backup.size:
        raise Refused(f"cannot {doing}: the backup is of a share of {quotas.gib(backup.size)} GiB", code="too-small")
    home = tx.need(PoolRow, share.pool)
    _check_together(home, tx.need(PoolRow, backup.pool), doing)
    tx.change(backup, shown=RESTORING)
    share = tx.want(
        tx.move(share, ShareStatus.REVERTING),
        fill_from=backup.volume,
        fill_pool=backup.pool,
        revert_to=None,
        reverts=share.reverts + 1,
        from_backup=backup.id,
    )
    tx.wake(home.host)
    return share


def remove_backup(tx: Tx, backup: CopyRow) -> None:
    """The backup begins to be removed. Raises ``Conflict`` while a share is restored from it."""
    if backup.shown == RESTORING:
        raise Conflict(f"cannot delete backup {backup.id}: a share is being restored from it", code="backup-in-use")
    _let_go(tx, backup, BACKING_UP)


def migrate(tx: Tx, share: ShareRow, target: PoolRow, kind: TypeRow) -> CopyRow:
    """A migration has begun: the share's files are copied to the pool while it is used. Raises ``Conflict``,
    ``Refused``, ``Exhausted``."""
    doing = f"migrate share {share.id} to pool {target.name}"
    check_idle(share, doing)
    if target.name == share.pool:
        raise Conflict(f"cannot {doing}: it is there", code="same-pool")
    check_no_snapshots(tx, doing, share)
    if share.group:
        raise Conflict(
            f"cannot {doing}: it is in share group {share.group}, which stays where it is", code="share-in-use"
        )
    check_unused(tx, doing, share)
    copy = _begin(tx, _copy(share, target, kind, Purpose.MIGRATION), target, doing)
    tx.change(share, shown=MIGRATING, task="data_copying_in_progress")
    return copy


def migration_of(tx: ReadTx, share: ShareRow) -> CopyRow | None:
    """The share's migration, if it has one."""
    rows = tx.all(CopyRow, share=share.id)
    going = (row for row in rows if row.purpose is Purpose.MIGRATION and row.status != ShareStatus.DELETING)
    return next(going, None)


def complete(tx: Tx, share: ShareRow, copy: CopyRow) -> None:
    """Nobody has the share any more until what was written since is copied too and the copy, its migration, is in its
    place."""
    if copy.status != ShareStatus.AVAILABLE or copy.is_final:
        now = "being completed" if copy.is_final else f"still being copied ({progress(copy, share)} %)"
        raise Conflict(f"cannot complete the migration of share {share.id}: it is {now}", code="illegal-status")
    check_no_snapshots(tx, f"complete the migration of share {share.id}", share)
    tx.want(tx.change(copy, rounds=copy.rounds + 1))
    tx.change(share, task="migration_completing")
    for row in tx.all(AttachmentRow, share=share.id):
        tx.want(row)
    tx.wake(tx.need(PoolRow, share.pool).host)


def cancel(tx: Tx, share: ShareRow, copy: CopyRow) -> None:
    """The share stays where it is, and the copy, its migration, goes. Raises ``Conflict`` once it is being completed,
    unless that fails: nobody has written to the share since, so it is whole until the copy is in its place."""
    if copy.is_final and copy.status != ShareStatus.ERROR:
        raise Conflict(f"cannot cancel the migration of share {share.id}: it is being completed", code="illegal-status")
    _let_go(tx, copy, MIGRATING, task="migration_cancelled")


def progress(copy: CopyRow, share: ShareRow) -> int:
    """How much of the share has been copied, about, in percent: by what both occupy."""
    if copy.filled:
        return 100
    return min(99, 100 * copy.used // share.used) if share.used else 0


def filled(tx: Tx, copy: CopyRow) -> None:
    """The copy has all that was to be copied: what that means."""
    share = tx.get(ShareRow, copy.share)
    if share is None:
        return
    if copy.purpose is Purpose.BACKUP:
        if share.shown == BACKING_UP:
            tx.change(share, shown="")
    elif copy.is_final:
        _exchange(tx, share, copy)
    elif share.task in ("data_copying_in_progress", "data_copying_error"):
        tx.change(share, task="data_copying_completed")


def failed(tx: Tx, copy: CopyRow, reason: str) -> None:
    """The owner of the share can read why it is not copied. The host tries again."""
    share = tx.get(ShareRow, copy.share)
    if share is None:
        return
    backup = copy.purpose is Purpose.BACKUP
    messages.tell(tx, share, messages.Action.CREATE if backup else messages.Action.UPDATE, reason)
    if backup and share.shown == BACKING_UP:
        tx.change(share, shown="")
    elif not backup:
        tx.change(share, task="data_copying_error")


def restored(tx: Tx, share: ShareRow) -> None:
    """The backup that the share was filled from, if any, is not needed for that any more and can be used again."""
    for copy in tx.all(CopyRow, volume=share.fill_from) if share.fill_from else []:
        if copy.shown == RESTORING:
            tx.change(copy, shown="")


def check_idle(share: ShareRow, doing: str) -> None:
    """Raise ``Conflict`` unless the share is at rest."""
    if share.status != ShareStatus.AVAILABLE or share.shown or share.deleted_until:
        now = "in the recycle bin" if share.deleted_until else share.shown or share.status
        raise Conflict(
            f"cannot {doing}: it is {now}", code="illegal-status", detail={"share": share.id, "status": str(now)}
        )


def check_no_snapshots(tx: ReadTx, doing: str, share: ShareRow) -> None:
    """Raise ``Conflict`` if the share has snapshots: they are in its volume, and would go with it."""
    snapshots = [row.id for row in tx.all(SnapshotRow, share=share.id)]
    if snapshots:
        raise Conflict(
            f"cannot {doing}: it has {listed('snapshot', snapshots)}, which would not come along: delete these first",
            code="share-in-use",
        )


def check_stays(tx: ReadTx, doing: str, share: ShareRow) -> None:
    """Raise ``Conflict`` while the share is migrated: what is made in its volume would not come along."""
    if migration_of(tx, share) is not None:
        raise Conflict(
            f"cannot {doing}: it is being migrated: wait until that is done, or cancel it",
            code="copies-in-the-making",
            detail={"copies": 1},
        )


def check_unused(tx: ReadTx, doing: str, share: ShareRow) -> None:
    """Raise ``Conflict`` while the share is copied, or another is being made as a copy of it."""
    check_stays(tx, doing, share)
    making, backups = _making(tx.all(ShareRow, origin_share=share.id)), _making(tx.all(CopyRow, share=share.id))
    if backups or making:
        cause = f"{listed('share', making)} being made as a copy of it" if making else "it is being backed up"
        raise Conflict(
            f"cannot {doing}: {cause}: wait until that is done, or cancel it",
            code="copies-in-the-making",
            detail={"copies": len(making) + len(backups)},
        )


def check_unread(tx: ReadTx, doing: str, snapshot: SnapshotRow) -> None:
    """Raise ``Conflict`` while a share is being made as a copy of the snapshot."""
    if making := _making(tx.all(ShareRow, origin_snapshot=snapshot.id)):
        raise Conflict(
            f"cannot {doing}: {listed('share', making)} being made as a copy of it: wait until that is done",
            code="copies-in-the-making",
            detail={"copies": len(making)},
        )


def _making(rows: Iterable[ShareRow | CopyRow]) -> list[str]:
    """Of these copies, those that are not there yet."""
    return [row.id for row in rows if not row.made and row.status != ShareStatus.DELETING]


def check_free(tx: ReadTx, volume: str) -> None:
    """Raise ``Conflict`` if a volume has, or had and left, this id: whoever has the id has the data."""
    if tx.is_volume(volume) or tx.get(LeftRow, volume):
        raise Conflict(f"cannot use the id {volume}: a volume has it", code="id-taken", detail={"volume": volume})


def adopt(
    tx: Tx,
    *,
    pool: PoolRow,
    volume: str,
    kind: TypeRow,
    project: str,
    name: str,
    description: str,
    user: str,
    public: bool,
) -> ShareRow:
    """A volume that lies in the pool is a share from now on, if its host finds it. It has its volume's id. Raises
    ``Conflict`` for one that is known, ``Unavailable``."""
    doing = f"manage volume {volume} of pool {pool.name}"
    pools.check_reported(pool, doing)
    if tx.get(ShareRow, volume) or tx.is_volume(volume):
        raise Conflict(f"cannot {doing}: it is a share already, or a copy of one", code="id-taken")
    left = tx.get(LeftRow, volume)
    if left is not None:
        tx.remove(left)
    share = tx.add(
        ShareRow(
            id=ShareId(parse_uuid(volume, "export_path")),
            project=project,  # type: ignore[arg-type]
            pool=PoolName(pool.name),
            type=kind.name,
            filesystem=kind.filesystem,
            checksums=kind.checksums,
            size=0,
            name=parse_title(name),
            description=parse_title(description, "description", most=MAX_DESCRIPTION),
            user=user,
            public=public,
            made=True,
            adopt=True,
        ),
        "to be managed",
    )
    tx.wake(pool.host)
    return share


def _copy(share: ShareRow, pool: PoolRow, kind: TypeRow, purpose: Purpose) -> CopyRow:
    return CopyRow(
        id=new_id(),
        purpose=purpose,
        share=share.id,
        project=share.project,
        volume=ShareId(new_id()),
        pool=PoolName(pool.name),
        source=share.volume_id,
        source_pool=share.pool,
        type=kind.name,
        filesystem=kind.filesystem,
        checksums=kind.checksums,
        size=share.size,
    )


def _begin(tx: Tx, copy: CopyRow, pool: PoolRow, doing: str) -> CopyRow:
    _check_together(tx.need(PoolRow, copy.source_pool), pool, doing)
    pools.check_form(pool, copy.filesystem, checksums=copy.checksums, size=copy.size, doing=doing)
    pools.check_room(tx, pool, copy.size, doing)
    copy = tx.add(copy, "asked for")
    tx.wake(pool.host)
    return copy


def _check_together(one: PoolRow, other: PoolRow, doing: str) -> None:
    if one.host != other.host:
        raise Refused(
            f"cannot {doing}: pool {one.name} is on host {one.host} and pool {other.name} on host {other.host}, and no "
            "host has both",
            code="pools-apart",
            detail={"pool": one.name, "other": other.name},
        )


def _let_go(tx: Tx, copy: CopyRow, meanwhile: str, **share_says: str) -> None:
    """The copy begins to be removed; the share is what it was."""
    share = tx.get(ShareRow, copy.share)
    if share is not None and share.shown == meanwhile and (share_says or not copy.filled):
        tx.change(share, shown="", **share_says)
    if copy.status != ShareStatus.DELETING:
        tx.want(tx.move(copy, ShareStatus.DELETING))
        tx.wake(tx.need(PoolRow, copy.pool).host)


def _exchange(tx: Tx, share: ShareRow, copy: CopyRow) -> None:
    """The copy's volume is the share's, and the share's is the copy's, which is removed. Guests get it again once their
    host has grants for it."""
    before = (share.volume_id, share.pool)
    moved = tx.want(
        share,
        volume=copy.volume,
        pool=copy.pool,
        type=copy.type,
        filesystem=copy.filesystem,
        checksums=copy.checksums,
        actual=copy.actual,
        used=copy.used,
        reverts=copy.filled,
        reverted=copy.filled,
        revert_to=None,
        fill_from=None,
        fill_pool=None,
        shown="",
        task="migration_success",
    )
    tx.want(tx.move(tx.change(copy, volume=before[0], pool=before[1]), ShareStatus.DELETING))
    tx.tell(moved, f"moved from pool {before[1]} to pool {moved.pool}")
    for row in tx.all(AttachmentRow, share=share.id):
        if row.status != AttachmentStatus.DETACHING:
            grants.end_all(tx, row, grants.SUPERSEDED)
            tx.want(tx.move(row, AttachmentStatus.ATTACHING, MOVED))
    tx.wake(tx.need(PoolRow, moved.pool).host)
