"""Share groups, their types and their snapshots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from isthmus.model.errors import Conflict, Invalid, NotFound
from isthmus.service.domain import groups, scheduler, types
from isthmus.service.domain import shares as domain
from isthmus.service.domain.quotas import gib
from isthmus.service.manila.ask import MAX_LIMIT, Ask, stamp
from isthmus.service.manila.handlers import shares
from isthmus.service.manila.handlers.common import item, reset, single, titled, without
from isthmus.store.query import Query
from isthmus.store.records import GroupRow, GroupSnapshotRow, GroupTypeRow
from isthmus.store.rows import ShareRow, SnapshotRow, TypeRow
from isthmus.store.tx import ReadTx, Tx
from isthmus.wire.manila import shapes
from isthmus.wire.manila.shape import flag, labels

SORTS = {
    "id": "id",
    "name": "name",
    "status": "shown",
    "project_id": "project",
    "created_at": "created_at",
    "share_group_type_id": "type",
    "availability_zone": "zone",
}
_LIKE = (("name~", "name"), ("description~", "description"))
SNAPSHOT_SORTS = {"id": "id", "name": "name", "created_at": "created_at", "share_group_id": "group"}


def index(ask: Ask, tx: ReadTx) -> object:
    """Ids and names."""
    shown = [{name: one[name] for name in ("id", "name", "links")} for one in _listed(ask, tx)]
    return ask.page("share_groups", shown)


def detail(ask: Ask, tx: ReadTx) -> object:
    """All fields."""
    return ask.page("share_groups", _listed(ask, tx))


def show(ask: Ask, tx: ReadTx) -> object:
    """One group."""
    return {"share_group": _view(ask, tx.need(GroupRow, ask.id))}


def create(ask: Ask, tx: Tx) -> object:
    """A group; from a group snapshot, with a copy of each share in it."""
    body = ask.body
    origin = body.get("source_share_group_snapshot_id")
    source = tx.need(GroupSnapshotRow, origin) if origin else None
    parent = tx.need(GroupRow, source.group) if source else None
    if source and groups.snapshot_status(source, groups.members(tx, source)) != "available":
        raise Conflict(f"cannot copy share group snapshot {source.id}: it is not available", code="illegal-status")
    wanted = body.get("share_group_type_id") or (parent.type if parent else None)
    if not wanted:
        raise Invalid("cannot create a share group: name a share group type", field="share_group.share_group_type_id")
    row = groups.make_group(
        tx,
        project=ask.project,
        user=ask.caller.user,
        kind=groups.find_type(tx, wanted, ask.own),
        share_types=body.get("share_types") or sorted(parent.types if parent else ()),
        name=body.get("name") or "",
        description=body.get("description") or "",
        zone=body.get("availability_zone") or (parent.zone if parent else ""),
        network=body.get("share_network_id") or "",
        origin=origin or "",
    )
    for member in groups.members(tx, source) if source else ():
        share = tx.need(ShareRow, member.share)
        kind = tx.need(TypeRow, share.type)
        wish = scheduler.wish_for(tx, kind, member.size, origin=share)
        words = domain.Words(user=ask.caller.user, group=row.id, member=member.id)
        shares.place(ask, tx, kind, wish, name="", words=words, snapshot=member)
    return {"share_group": _view(ask, row)}


def update(ask: Ask, tx: Tx) -> object:
    """A group with another name or description."""
    row = tx.need(GroupRow, ask.id)
    return {"share_group": _view(ask, tx.change(row, **titled(ask.body)))}


def delete(ask: Ask, tx: Tx) -> object:
    """The group is gone."""
    groups.remove_group(tx, tx.need(GroupRow, ask.id))
    return None


def force_delete(ask: Ask, tx: Tx) -> object:
    """The group is gone, and its shares are in none."""
    ask.need_admin("force the deletion of a share group")
    row = tx.need(GroupRow, ask.id)
    for share in tx.all(ShareRow, group=row.id):
        tx.change(share, group=None)
    for taken in tx.all(GroupSnapshotRow, group=row.id):
        groups.remove_snapshot(tx, taken)
    tx.remove(row)
    return None


def reset_status(ask: Ask, tx: Tx) -> object:
    """A group shows this status."""
    ask.need_admin("reset the status of a share group")
    reset(ask, tx, tx.need(GroupRow, ask.id))
    return None


# -- types -------------------------------------------------------------------------------------------------------------


def types_index(ask: Ask, tx: ReadTx) -> object:
    """All group types that the caller may use."""
    rows = tx.page(GroupTypeRow, Query(descending=False))
    if ask.own is not None:
        mine = types.open_to(tx, groups.GROUP_TYPE, ask.own)
        rows = [row for row in rows if row.public or row.id in mine]
    elif ask.query.get("is_public", "true").lower() not in ("none", "all"):
        public = ask.flag("is_public")
        rows = [row for row in rows if row.public == (True if public is None else public)]
    if "group_specs" in ask.query and ask.minor >= 66:
        wanted = ask.mapping("group_specs").items()
        rows = [row for row in rows if wanted <= dict(row.specs).items()]
    return {"share_group_types": [_type(ask, row) for row in rows]}


def types_show(ask: Ask, tx: ReadTx) -> object:
    """One group type."""
    return {"share_group_type": _type(ask, groups.find_type(tx, ask.id, ask.own))}


def types_default(_ask: Ask, _tx: ReadTx) -> object:
    """There is none."""
    raise NotFound("default share group type", "default")


def types_create(ask: Ask, tx: Tx) -> object:
    """A group type."""
    body = ask.body
    row = groups.make_type(
        tx,
        name=body["name"],
        share_types=body["share_types"],
        public=flag(body.get("is_public"), default=True),
        specs=labels(body.get("group_specs")),
    )
    return {"share_group_type": _type(ask, row)}


def types_delete(ask: Ask, tx: Tx) -> object:
    """The group type is no longer offered."""
    groups.remove_type(tx, groups.find_type(tx, ask.id, None))
    return None


def types_access(ask: Ask, tx: ReadTx) -> object:
    """The projects that may use a group type which is not public."""
    row = groups.find_type(tx, ask.id, None)
    if row.public:
        raise NotFound("access list of public share group type", row.name)
    who = types.allowed(tx, groups.GROUP_TYPE, row.id)
    return {"share_group_type_access": [{"share_group_type_id": row.id, "project_id": name} for name in who]}


def types_allow(ask: Ask, tx: Tx) -> object:
    """One more project may."""
    types.allow(tx, groups.GROUP_TYPE, _private(ask, tx).id, ask.body["project"])
    return None


def types_disallow(ask: Ask, tx: Tx) -> object:
    """One project may no longer."""
    types.disallow(tx, groups.GROUP_TYPE, _private(ask, tx).id, ask.body["project"])
    return None


def specs(ask: Ask, tx: ReadTx) -> object:
    """The specs of a group type."""
    return {"group_specs": dict(groups.find_type(tx, ask.id, None).specs)}


def show_spec(ask: Ask, tx: ReadTx) -> object:
    """One of them."""
    return item(groups.find_type(tx, ask.id, None).specs, ask.path["key"], "group spec")


def set_specs(ask: Ask, tx: Tx) -> object:
    """These besides those that it has."""
    row = groups.find_type(tx, ask.id, None)
    given = labels(ask.body)
    tx.change(row, specs={**row.specs, **given})
    return {"group_specs": given}


def put_spec(ask: Ask, tx: Tx) -> object:
    """One of them."""
    given = single(ask)
    row = groups.find_type(tx, ask.id, None)
    tx.change(row, specs={**row.specs, **given})
    return given


def unset_spec(ask: Ask, tx: Tx) -> object:
    """Without one of them."""
    row = groups.find_type(tx, ask.id, None)
    tx.change(row, specs=without(row.specs, ask.path["key"], "group spec"))
    return None


# -- snapshots ---------------------------------------------------------------------------------------------------------


def snapshots_index(ask: Ask, tx: ReadTx) -> object:
    """Ids and names."""
    shown = [{name: one[name] for name in ("id", "name", "links")} for one in _snapshots(ask, tx)]
    return ask.page("share_group_snapshots", shown)


def snapshots_detail(ask: Ask, tx: ReadTx) -> object:
    """All fields."""
    return ask.page("share_group_snapshots", _snapshots(ask, tx))


def snapshots_show(ask: Ask, tx: ReadTx) -> object:
    """One group snapshot."""
    return {"share_group_snapshot": _shown_snapshot(ask, tx, tx.need(GroupSnapshotRow, ask.id))}


def snapshots_create(ask: Ask, tx: Tx) -> object:
    """A snapshot of each share of a group begins to be taken."""
    body = ask.body
    row = groups.snapshot_group(
        tx,
        tx.need(GroupRow, body["share_group_id"]),
        user=ask.caller.user,
        name=body.get("name") or "",
        description=body.get("description") or "",
    )
    return {"share_group_snapshot": _shown_snapshot(ask, tx, row)}


def snapshots_update(ask: Ask, tx: Tx) -> object:
    """A group snapshot with another name or description."""
    row = tx.need(GroupSnapshotRow, ask.id)
    return {"share_group_snapshot": _shown_snapshot(ask, tx, tx.change(row, **titled(ask.body)))}


def snapshots_delete(ask: Ask, tx: Tx) -> object:
    """The snapshots of all its shares begin to be deleted."""
    groups.remove_snapshot(tx, tx.need(GroupSnapshotRow, ask.id))
    return None


def snapshots_reset(ask: Ask, tx: Tx) -> object:
    """A group snapshot shows this status."""
    ask.need_admin("reset the status of a share group snapshot")
    reset(ask, tx, tx.need(GroupSnapshotRow, ask.id))
    return None


def members(ask: Ask, tx: ReadTx) -> object:
    """The snapshots of its shares."""
    row = tx.need(GroupSnapshotRow, ask.id)
    shown = [
        {
            "id": one.id,
            "created_at": stamp(one.created_at),
            "size": gib(one.size),
            "share_protocol": "NFS",
            "project_id": one.project,
            "share_group_snapshot_id": row.id,
            "share_id": one.share,
        }
        for one in groups.members(tx, row)
    ]
    return {"share_group_snapshot_members": shown}


def _private(ask: Ask, tx: ReadTx) -> GroupTypeRow:
    row = groups.find_type(tx, ask.id, None)
    if row.public:
        raise Conflict(f"Access modification is not applicable to public share group type {row.name}.", code="public")
    return row


def _type(ask: Ask, row: GroupTypeRow) -> dict[str, Any]:
    facts = {
        "id": row.id,
        "name": row.name,
        "is_public": row.public,
        "group_specs": dict(row.specs),
        "share_types": sorted(row.types),
        "is_default": False,
    }
    return ask.show(shapes.GROUP_TYPE, facts)


def _listed(ask: Ask, tx: ReadTx) -> list[dict[str, Any]]:
    equal = ask.scope() | ask.equals(
        ("name", "name"),
        ("description", "description"),
        ("share_group_type_id", "type"),
        ("source_share_group_snapshot_id", "origin"),
        ("share_network_id", "network"),
    )
    if "status" in ask.query:
        equal["shown"] = "" if ask.query["status"] == "available" else ask.query["status"]
    return [_view(ask, row) for row in tx.page(GroupRow, ask.part(equal, SORTS, holds=ask.holds(*_LIKE, since=36)))]


def _view(ask: Ask, row: GroupRow) -> dict[str, Any]:
    facts = {
        "id": row.id,
        "name": row.name or None,
        "created_at": stamp(row.created_at),
        "status": row.shown or "available",
        "description": row.description or None,
        "project_id": row.project,
        "host": None,
        "share_group_type_id": row.type,
        "source_share_group_snapshot_id": row.origin or None,
        "share_network_id": row.network or None,
        "share_types": sorted(row.types),
        "links": ask.links("share-groups", row.id),
        "availability_zone": row.zone or None,
        "consistent_snapshot_support": None,
        "share_server_id": None,
    }
    return ask.show(shapes.GROUP, facts)


def _snapshots(ask: Ask, tx: ReadTx) -> list[dict[str, Any]]:
    filters = ask.equals(("name", "name"), ("description", "description"), ("share_group_id", "group"))
    query = ask.part(ask.scope() | filters, SNAPSHOT_SORTS, holds=ask.holds(*_LIKE, since=36))
    wanted = ask.query.get("status")
    if wanted is None:
        rows = tx.page(GroupSnapshotRow, query)
        held = groups.members_of(tx, rows)
    else:  # a status is that of the members: what is on a page is known once they are
        every = tx.page(GroupSnapshotRow, replace(query, limit=MAX_LIMIT, offset=0))
        held = groups.members_of(tx, every)
        fitting = [row for row in every if groups.snapshot_status(row, held[row.id]) == wanted]
        rows = fitting[ask.offset : ask.offset + ask.limit]
    return [_snapshot(ask, row, held[row.id]) for row in rows]


def _shown_snapshot(ask: Ask, tx: ReadTx, row: GroupSnapshotRow) -> dict[str, Any]:
    return _snapshot(ask, row, groups.members(tx, row))


def _snapshot(ask: Ask, row: GroupSnapshotRow, found: list[SnapshotRow]) -> dict[str, Any]:
    facts = {
        "id": row.id,
        "name": row.name or None,
        "created_at": stamp(row.created_at),
        "status": groups.snapshot_status(row, found),
        "description": row.description or None,
        "project_id": row.project,
        "share_group_id": row.group,
        "members": [{"id": one.id, "size": gib(one.size), "share_id": one.share} for one in found],
        "links": ask.links("share-group-snapshots", row.id),
    }
    return ask.show(shapes.GROUP_SNAPSHOT, facts)
