"""Snapshots and their instances."""

from __future__ import annotations

from typing import Any

from isthmus.model.errors import Conflict, Forbidden, Invalid, NotFound
from isthmus.model.status import SnapshotStatus
from isthmus.service.domain import snapshots as domain
from isthmus.service.domain import types
from isthmus.service.manila import facts
from isthmus.service.manila.ask import Ask, stamp
from isthmus.service.manila.handlers.common import first, reset
from isthmus.store.query import Query, Value
from isthmus.store.rows import PoolRow, ShareRow, SnapshotRow
from isthmus.store.tx import ReadTx, Tx
from isthmus.wire.manila import shapes
from isthmus.wire.manila.shape import labels

SORTS = {
    "id": "id",
    "name": "name",
    "display_name": "name",
    "status": "status",
    "created_at": "created_at",
    "share_id": "share",
    "size": "size",
    "project_id": "project",
}


def index(ask: Ask, tx: ReadTx) -> object:
    """Ids and names."""
    query = _listed(ask)
    rows = tx.pick(SnapshotRow, ("id", "name"), query)
    return ask.page("snapshots", ask.summaries("snapshots", rows), _count(ask, tx, query))


def detail(ask: Ask, tx: ReadTx) -> object:
    """All fields."""
    query = _listed(ask)
    rows = tx.page(SnapshotRow, query)
    shown = [ask.show(shapes.SNAPSHOT, one) for one in facts.snapshots(ask, tx, rows)]
    return ask.page("snapshots", shown, _count(ask, tx, query))


def show(ask: Ask, tx: ReadTx) -> object:
    """One snapshot."""
    return {"snapshot": shown(ask, tx, tx.need(SnapshotRow, ask.id))}


def create(ask: Ask, tx: Tx) -> object:
    """A snapshot begins to be taken."""
    body = ask.body
    share = tx.need(ShareRow, body["share_id"])
    if share.deleted_until is not None:
        raise Forbidden(f"cannot snapshot share {share.id}: it is in the recycle bin")
    if share.shown:
        raise Conflict(f"cannot snapshot share {share.id}: it is {share.shown}", code="illegal-status")
    if not facts.Around(tx).can(share, types.SNAPSHOTS):
        raise Unprocessable(f"cannot snapshot share {share.id}: it does not have that capability ({types.SNAPSHOTS})")
    row = domain.create_snapshot(
        tx,
        share=share.id,
        name=first(body, "name", "display_name") or "",
        description=first(body, "description", "display_description") or "",
        user=ask.caller.user,
    )
    tx.label(row.id, labels(body.get("metadata")))
    return {"snapshot": shown(ask, tx, row)}


def update(ask: Ask, tx: Tx) -> object:
    """A snapshot with another name or description."""
    body = ask.body
    row = domain.update_snapshot(
        tx,
        ask.id,
        name=first(body, "display_name", "name"),
        description=first(body, "display_description", "description"),
    )
    return {"snapshot": shown(ask, tx, row)}


def delete(ask: Ask, tx: Tx) -> object:
    """A snapshot begins to be deleted."""
    row = tx.need(SnapshotRow, ask.id)
    if row.group_snapshot:
        raise Forbidden(f"cannot delete snapshot {row.id}: it is of share group snapshot {row.group_snapshot}")
    domain.delete_snapshot(tx, row.id)
    return None


def force_delete(ask: Ask, tx: Tx) -> object:
    """The same, whatever status it shows."""
    ask.need_admin("force the deletion of a snapshot")
    domain.delete_snapshot(tx, tx.change(tx.need(SnapshotRow, ask.id), shown="").id)
    return None


def reset_status(ask: Ask, tx: Tx) -> object:
    """A snapshot shows this status; ``available`` shows the truth."""
    ask.need_admin("reset the status of a snapshot")
    reset(ask, tx, tx.need(SnapshotRow, ask.id))
    return None


def unmanage(ask: Ask, tx: Tx) -> object:
    """A snapshot is forgotten; it stays in its share."""
    ask.need_admin("unmanage a snapshot")
    row = tx.need(SnapshotRow, ask.id)
    if row.status not in (SnapshotStatus.AVAILABLE, SnapshotStatus.ERROR):
        raise Forbidden(f"cannot unmanage snapshot {row.id}: it is {row.status}")
    share = tx.need(ShareRow, row.share)
    tx.unlabel(row.id)
    tx.remove(row, "no longer managed; it stays in its share")
    tx.wake(tx.need(PoolRow, share.pool).host)
    return None


def access_refused(ask: Ask, tx: Tx) -> object:
    """No share here lets guests mount its snapshots."""
    row = tx.need(SnapshotRow, ask.id)
    raise Invalid(f"cannot give access to snapshot {row.id}: its share does not support mounting its snapshots")


def access_list(ask: Ask, tx: ReadTx) -> object:
    """So there are no rules."""
    tx.need(SnapshotRow, ask.id)
    return {"snapshot_access_list": []}


def locations(ask: Ask, tx: ReadTx) -> object:
    """Nor export locations."""
    tx.need(SnapshotRow, ask.id)
    return {"share_snapshot_export_locations": []}


def location(ask: Ask, tx: ReadTx) -> object:
    """Nor one of them."""
    tx.need(SnapshotRow, ask.id)
    raise NotFound("share snapshot export location", ask.path["location"][:80])


def instances(ask: Ask, tx: ReadTx) -> object:
    """Snapshots as instances: one each, of the same id."""
    return {"snapshot_instances": [{"id": one["id"], "snapshot_id": one["id"]} for one in _instances(ask, tx)]}


def instances_detail(ask: Ask, tx: ReadTx) -> object:
    """The same with all fields."""
    return {"snapshot_instances": [ask.show(shapes.SNAPSHOT_INSTANCE, one) for one in _instances(ask, tx)]}


def instance(ask: Ask, tx: ReadTx) -> object:
    """One of them."""
    row = tx.need(SnapshotRow, ask.id)
    return {"snapshot_instance": ask.show(shapes.SNAPSHOT_INSTANCE, _instance(row))}


def _instances(ask: Ask, tx: ReadTx) -> list[dict[str, Any]]:
    equal: dict[str, Value] = {"id": ask.query["snapshot_id"]} if "snapshot_id" in ask.query else {}
    return [_instance(row) for row in tx.page(SnapshotRow, Query(equal=equal, limit=ask.limit, offset=ask.offset))]


def _instance(row: SnapshotRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "snapshot_id": row.id,
        "status": facts.status_of(row),
        "share_id": row.share,
        "share_instance_id": row.share,
        "created_at": stamp(row.created_at),
        "updated_at": stamp(row.updated_at),
        "progress": "100%" if row.made else "0%",
        "provider_location": row.id,
    }


class Unprocessable(Invalid):
    """A share that takes no snapshots: 422, as Manila answers."""

    code = "snapshots-unsupported"


def shown(ask: Ask, tx: ReadTx, row: SnapshotRow) -> dict[str, Any]:
    """A snapshot as this version shows it."""
    return ask.show(shapes.SNAPSHOT, facts.snapshots(ask, tx, [row])[0])


def _listed(ask: Ask) -> Query:
    asked = ask.query
    equal = ask.scope()
    equal |= ask.equals(("share_id", "share"), ("name", "name"), ("display_name", "name"), ("id", "id"))
    if "status" in asked:
        real = asked["status"] in set(SnapshotStatus)
        equal |= {"status": asked["status"], "shown": ""} if real else {"shown": asked["status"]}
    if "size" in asked:
        equal["size"] = ask.number("size", 0) << 30
    if ask.minor >= 36 and "description" in asked:
        equal["description"] = asked["description"]
    holds = ask.holds(("name~", "name"), ("description~", "description"), since=36)
    metadata = ask.mapping("metadata") if ask.minor >= 73 and asked.get("metadata") else {}
    return ask.part(equal, SORTS, holds=holds, labels=metadata)


def _count(ask: Ask, tx: ReadTx, query: Query) -> int | None:
    return tx.count(SnapshotRow, query) if ask.minor >= 79 and ask.flag("with_count") else None
