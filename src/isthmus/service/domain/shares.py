"""Shares: asking for them, changing them, going back to a snapshot, and letting them go."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.model.errors import Conflict, Invalid, NotFound, Refused
from isthmus.model.names import (
    MAX_DESCRIPTION,
    PoolName,
    ProjectId,
    ShareId,
    SnapshotId,
    TypeName,
    check_size,
    new_id,
    parse_project,
    parse_slug,
    parse_title,
    parse_uuid,
)
from isthmus.model.share import Power
from isthmus.model.status import ShareStatus, SnapshotStatus
from isthmus.service.domain import copies, pools, quotas
from isthmus.service.domain.hosts import listed
from isthmus.store.records import LeftRow
from isthmus.store.rows import AttachmentRow, PoolRow, ShareRow, SnapshotRow, TypeRow
from isthmus.store.tx import ReadTx, Tx

_STEADY = frozenset({ShareStatus.AVAILABLE, ShareStatus.ERROR})


@dataclass(frozen=True, slots=True)
class Words:
    """What only the Shared File Systems API says of a new share."""

    user: str = ""
    description: str = ""
    proto: str = "NFS"
    mount_name: str = ""
    group: str | None = None
    network: str | None = None
    member: str | None = None


NO_WORDS = Words()


def create_share(
    tx: Tx,
    *,
    project: str,
    pool: str,
    size: int,
    name: str = "",
    type_name: str = pools.DEFAULT_TYPE,
    share_id: str | None = None,
    source_snapshot: str | None = None,
    source_share: str | None = None,
    public: bool = False,
    words: Words = NO_WORDS,
    refused: str = "",
) -> ShareRow:
    """A share in ``creating``. With a ``share_id`` that exists with this content already: that share. ``refused``: why
    no pool takes it; it is in none then, but in ``error``, where its owner sees it and can read why.

    Raises ``Invalid``, ``NotFound``; ``Conflict`` for an id in use or an origin that is not ready; ``Refused`` if the
    pool cannot keep it; ``Exhausted`` if it has no room, ``OverQuota`` if the project has none; ``Unavailable`` before
    its host has reported.
    """
    home = tx.need(PoolRow, parse_slug(pool, "pool"))
    kind = tx.need(TypeRow, parse_title(type_name, "type"))
    owner = parse_project(project)
    origin_share, origin_snapshot = _origin(tx, owner, source_snapshot, source_share)
    wanted = ShareRow(
        id=ShareId(parse_uuid(share_id, "id") if share_id is not None else new_id()),
        project=owner,
        pool=PoolName(home.name),
        type=TypeName(kind.name),
        filesystem=kind.filesystem,
        checksums=kind.checksums,
        size=check_size(size),
        name=parse_title(name),
        origin_share=origin_share,
        origin_snapshot=origin_snapshot,
        public=public,
        placed=not refused,
        user=words.user,
        description=parse_title(words.description, "description", most=MAX_DESCRIPTION),
        proto=words.proto,
        mount_name=words.mount_name,
        group=words.group,
        network=words.network,
        member=words.member,
    )
    doing = f"create share {wanted.id}"
    if refused:
        _check_quota(tx, doing, wanted, kind)
        return tx.move(tx.add(wanted, "asked for"), ShareStatus.ERROR, refused, "no-valid-pool")
    known = tx.get(ShareRow, wanted.id)
    if known:
        return _same(known, wanted)
    if share_id is not None:
        copies.check_free(tx, wanted.id)
    doing = f"{doing} in pool {home.name}"
    _check_quota(tx, doing, wanted, kind)
    pools.check_form(home, kind.filesystem, checksums=kind.checksums, size=wanted.size, doing=doing)
    _check_origin(tx, wanted, home, doing)
    pools.check_room(tx, home, wanted.size, doing)
    share = tx.add(wanted, "asked for")
    tx.wake(home.host)
    return share


def _check_quota(tx: ReadTx, doing: str, wanted: ShareRow, kind: TypeRow) -> None:
    """Raise ``OverQuota`` unless there is room for one more such share."""
    size = quotas.gib(wanted.size)
    more = {"shares": 1, "gigabytes": size, "per_share_gigabytes": size}
    quotas.check(tx, doing, wanted.project, user=wanted.user, type_id=kind.uuid, **more)


def update_share(
    tx: Tx,
    share_id: str,
    *,
    name: str | None = None,
    size: int | None = None,
    public: bool | None = None,
    description: str | None = None,
) -> ShareRow:
    """The share with this name, and for these to read of; if ``size`` is new, in ``extending`` or ``shrinking``."""
    share = tx.need(ShareRow, share_id)
    if description is not None:
        share = tx.change(share, description=parse_title(description, "description", most=MAX_DESCRIPTION))
    if name is not None:
        share = tx.change(share, name=parse_title(name))
    if public is not None:
        share = tx.change(share, public=public)
    return share if size is None else _resize(tx, share, check_size(size))


def delete_share(tx: Tx, share_id: str) -> ShareRow:
    """The share in ``deleting``. Raises ``Conflict`` while it has attachments, snapshots, or copies in the making."""
    share = tx.need(ShareRow, share_id)
    attachments = [row.id for row in tx.all(AttachmentRow, share=share.id)]
    snapshots = [row.id for row in tx.all(SnapshotRow, share=share.id)]
    if attachments or snapshots:
        raise Conflict(
            f"cannot delete share {share.id}: it has {listed('attachment', attachments)} and "
            f"{listed('snapshot', snapshots)}: remove these first",
            code="share-in-use",
            detail={"share": share.id, "attachments": len(attachments), "snapshots": len(snapshots)},
        )
    copies.check_unused(tx, f"delete share {share.id}", share)
    if share.status == ShareStatus.DELETING:
        return share
    if share.adopt:  # it was never found to be ours: what lies there is not deleted
        _leave(tx, share)
        return share
    tx.unlabel(share.id)
    copies.restored(tx, share)
    if not share.placed:
        return tx.move(tx.move(share, ShareStatus.DELETING), ShareStatus.GONE)
    home = tx.need(PoolRow, share.pool)
    share = tx.want(tx.move(share, ShareStatus.DELETING))
    tx.wake(home.host)
    return share


def forget_share(tx: Tx, share_id: str) -> None:
    """The share is no longer known; its data stays where it is. Raises ``Conflict`` while it has attachments or
    snapshots."""
    share = tx.need(ShareRow, share_id)
    attachments = [row.id for row in tx.all(AttachmentRow, share=share.id)]
    snapshots = [row.id for row in tx.all(SnapshotRow, share=share.id)]
    if attachments or snapshots:
        raise Conflict(
            f"cannot unmanage share {share.id}: it has {listed('attachment', attachments)} and "
            f"{listed('snapshot', snapshots)}: remove these first",
            code="share-in-use",
        )
    copies.check_unused(tx, f"unmanage share {share.id}", share)
    _leave(tx, share)


def _leave(tx: Tx, share: ShareRow) -> None:
    """The share is forgotten, and its volume lies where it is."""
    home = tx.need(PoolRow, share.pool)
    tx.unlabel(share.id)
    tx.remove(share, "no longer managed; its data stays in the pool")
    if share.placed and tx.get(LeftRow, share.volume_id) is None:
        tx.add(LeftRow(share.volume_id, home.name))
    tx.wake(home.host)


def revert_share(tx: Tx, share_id: str, snapshot_id: str) -> ShareRow:
    """The share in ``reverting``: its data shall be the snapshot's. Raises ``Conflict``, ``Refused``."""
    share = tx.need(ShareRow, share_id)
    snapshot = tx.get(SnapshotRow, parse_uuid(snapshot_id, "snapshot"))
    if snapshot is None or snapshot.project != share.project:
        raise NotFound("snapshot", snapshot_id)
    doing = f"revert share {share.id}"
    if snapshot.share != share.id:
        raise Refused(
            f"cannot {doing}: snapshot {snapshot.id} is of share {snapshot.share}",
            code="snapshot-of-another-share",
            detail={"share": share.id, "snapshot": snapshot.id},
        )
    if snapshot.status != SnapshotStatus.AVAILABLE:
        raise Conflict(f"cannot {doing}: snapshot {snapshot.id} is {snapshot.status}", code="snapshot-not-available")
    home = tx.need(PoolRow, share.pool)
    _check_steady(share, doing)
    pools.check_power(home, share.filesystem, Power.REVERT, doing)
    copies.restored(tx, share)
    share = tx.move(share, ShareStatus.REVERTING)
    share = tx.want(share, revert_to=snapshot.id, reverts=share.reverts + 1, fill_from=None, fill_pool=None)
    tx.wake(home.host)
    return share


def _resize(tx: Tx, share: ShareRow, size: int) -> ShareRow:
    if size == share.size:
        return share
    home = tx.need(PoolRow, share.pool)
    doing = f"resize share {share.id}"
    _check_steady(share, doing)
    if size < share.size:
        pools.check_minimum(home, share.filesystem, size)
    if size < share.actual:
        pools.check_power(home, share.filesystem, Power.SHRINK, doing)
    elif size > max(share.size, share.actual):
        wanted = quotas.gib(size)
        more = {"gigabytes": wanted - quotas.gib(share.size), "per_share_gigabytes": wanted}
        kind = tx.need(TypeRow, share.type)
        quotas.check(tx, doing, share.project, user=share.user, type_id=kind.uuid, **more)
        pools.check_room(tx, home, size - max(share.size, share.actual), doing)
    share = tx.move(share, ShareStatus.EXTENDING if size > share.size else ShareStatus.SHRINKING)
    share = tx.want(share, size=size)
    tx.wake(home.host)
    return share


def _check_steady(share: ShareRow, doing: str) -> None:
    if share.status not in _STEADY:
        raise Conflict(
            f"cannot {doing}: it is {share.status}",
            code="illegal-status",
            detail={"share": share.id, "status": str(share.status)},
        )


def _same(known: ShareRow, wanted: ShareRow) -> ShareRow:
    """``known`` if it is what ``wanted`` asks for: the retry of a request whose answer was lost."""
    differing = [
        field
        for field in ("project", "pool", "type", "size", "name", "origin_share", "origin_snapshot")
        if getattr(known, field) != getattr(wanted, field)
    ]
    if differing:
        raise Conflict(
            f"cannot create share {wanted.id}: the id belongs to another share (they differ in {', '.join(differing)})",
            code="id-taken",
            detail={"share": wanted.id},
        )
    return known


def _origin(
    tx: ReadTx, project: ProjectId, snapshot_id: str | None, share_id: str | None
) -> tuple[ShareId | None, SnapshotId | None]:
    """What the new share is a copy of. Another project's is not found, as if it did not exist."""
    if snapshot_id is not None and share_id is not None:
        raise Invalid("cannot copy both a share and a snapshot: give one of them", field="source_share")
    if snapshot_id is not None:
        snapshot = tx.get(SnapshotRow, parse_uuid(snapshot_id, "source_snapshot"))
        if snapshot is None or snapshot.project != project:
            raise NotFound("snapshot", snapshot_id)
        return snapshot.share, snapshot.id
    if share_id is not None:
        share = tx.get(ShareRow, parse_uuid(share_id, "source_share"))
        if share is None or share.project != project:
            raise NotFound("share", share_id)
        return share.id, None
    return None, None


def _check_origin(tx: ReadTx, wanted: ShareRow, home: PoolRow, doing: str) -> None:
    """Raise unless ``wanted`` can be made from its origin: in the same pool, of the same kind, ready, no larger."""
    if wanted.origin_share is None:
        return
    origin = tx.need(ShareRow, wanted.origin_share)
    pools.check_power(home, origin.filesystem, Power.CLONE, doing)
    facts = {"share": wanted.id, "source_share": origin.id}
    if origin.pool != home.name:
        raise Refused(
            f"cannot {doing}: share {origin.id} is in pool {origin.pool}, and a copy stays in the pool of its origin",
            code="origin-in-another-pool",
            detail=facts,
        )
    if (origin.filesystem, origin.checksums) != (wanted.filesystem, wanted.checksums):
        raise Refused(
            f"cannot {doing}: share {origin.id} is of type {origin.type}: "
            "a copy keeps its origin's file system and checksums",
            code="origin-of-another-type",
            detail=facts,
        )
    if wanted.size < origin.size:
        raise Invalid(
            f"cannot use {wanted.size} as size: the origin has {origin.size} bytes, a copy is at least as large",
            field="size",
            detail={"minimum": origin.size},
        )
    if wanted.origin_snapshot is not None:
        snapshot = tx.need(SnapshotRow, wanted.origin_snapshot)
        ready, now = snapshot.status == SnapshotStatus.AVAILABLE, f"snapshot {snapshot.id} is {snapshot.status}"
    else:
        ready, now = origin.status == ShareStatus.AVAILABLE, f"share {origin.id} is {origin.status}"
    if not ready:
        raise Conflict(f"cannot {doing}: {now}", code="origin-not-ready", detail=facts)
