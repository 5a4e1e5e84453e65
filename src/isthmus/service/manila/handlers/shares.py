"""Shares: listing, making, changing and deleting them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.model.errors import Conflict, Invalid, NotFound
from isthmus.model.names import GIB, parse_title
from isthmus.model.status import ShareStatus
from isthmus.service.domain import hosts, locks, messages, rules, scheduler, types
from isthmus.service.domain import shares as domain
from isthmus.service.domain.pools import DEFAULT_TYPE
from isthmus.service.manila import facts
from isthmus.service.manila.ask import Ask
from isthmus.service.manila.handlers.common import first
from isthmus.store.query import Query, Value
from isthmus.store.records import GroupRow, NetworkRow
from isthmus.store.rows import HostRow, PoolRow, ShareRow, SnapshotRow, TypeRow
from isthmus.store.tx import ReadTx, Tx
from isthmus.wire.manila import shapes
from isthmus.wire.manila.shape import flag, labels

PROTOCOLS = ("NFS",)
SORTS: Mapping[str, str] = {
    "id": "id",
    "status": "status",
    "size": "size",
    "share_proto": "proto",
    "name": "name",
    "display_name": "name",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "project_id": "project",
    "share_type": "type",
    "share_type_id": "type",
    "snapshot_id": "origin_snapshot",
    "host": "pool",
    "availability_zone": "pool",
    "share_group_id": "group",
    "share_network_id": "network",
    "is_public": "public",
}


def index(ask: Ask, tx: ReadTx) -> object:
    """Ids and names alone: read as such from an index, without the rows."""
    query = _listed(ask, tx)
    rows = tx.pick(ShareRow, ("id", "name"), query)
    return ask.page("shares", ask.summaries("shares", rows), _count(ask, tx, query))


def detail(ask: Ask, tx: ReadTx) -> object:
    """All fields."""
    query = _listed(ask, tx)
    rows = tx.page(ShareRow, query)
    shown = [ask.show(shapes.SHARE, one) for one in facts.shares(ask, tx, rows)]
    return ask.page("shares", shown, _count(ask, tx, query))


def show(ask: Ask, tx: ReadTx) -> object:
    """One share."""
    return {"share": shown(ask, tx, tx.need(ShareRow, ask.id))}


def shown(ask: Ask, tx: ReadTx, row: ShareRow) -> dict[str, Any]:
    """A share as this version shows it."""
    return ask.show(shapes.SHARE, facts.shares(ask, tx, [row])[0])


def create(ask: Ask, tx: Tx) -> object:
    """A share begins to be made in the pool that suits best; one that no pool takes is there, in error, with a message
    that says why of each."""
    body: dict[str, Any] = ask.body
    if body["share_proto"].upper() not in PROTOCOLS:
        raise Invalid(
            f"Invalid share protocol provided: {ascii(body['share_proto'])[:40]}. It is either disabled or "
            f"unsupported. Available protocols: {', '.join(PROTOCOLS)}",
            field="share.share_proto",
        )
    origin, snapshot = _origin(tx, body.get("snapshot_id"))
    kind = _kind(tx, ask, body, origin)
    size = int(body["size"]) * GIB
    _check_size(kind, int(body["size"]), origin, size)
    words = domain.Words(
        user=ask.caller.user,
        description=body.get("description") or body.get("display_description") or "",
        mount_name=_mount_name(kind, body.get("mount_point_name")),
        group=body.get("share_group_id") or None,
        network=body.get("share_network_id") or None,
    )
    zone = body.get("availability_zone") or ""
    _check_zone(tx, kind, zone)
    _check_company(tx, kind, words)
    hints = {name: str(value) for name, value in (body.get("scheduler_hints") or {}).items()}
    wish = scheduler.wish_for(tx, kind, size, zone=zone, origin=origin, hints=hints)
    name = parse_title(body.get("name") or body.get("display_name") or "")
    row = place(ask, tx, kind, wish, name=name, words=words, public=flag(body.get("is_public")), snapshot=snapshot)
    tx.label(row.id, labels(body.get("metadata")))
    return {"share": shown(ask, tx, row)}


def place(
    ask: Ask,
    tx: Tx,
    kind: TypeRow,
    wish: scheduler.Wish,
    *,
    name: str,
    words: domain.Words,
    public: bool = False,
    snapshot: SnapshotRow | None = None,
) -> ShareRow:
    """A share in the pool that suits best, or in error."""
    asked: dict[str, Any] = {
        "project": ask.project,
        "size": wish.size,
        "name": name,
        "type_name": kind.name,
        "source_snapshot": snapshot.id if snapshot else None,
        "public": public,
        "words": words,
    }
    found = scheduler.candidates(tx)
    try:
        home = scheduler.choose(found, wish).pool
    except scheduler.NoPool as error:
        if not found:
            raise
        row = domain.create_share(tx, pool=found[0].pool.name, refused=error.message, **asked)
        detail = messages.Detail.NO_POOL
        messages.tell(tx, row, messages.Action.ALLOCATE, error.message, detail=detail, request=ask.act.request)
        return row
    return domain.create_share(tx, pool=home.name, **asked)


def update(ask: Ask, tx: Tx) -> object:
    """A share with another name, description, or for everybody to see."""
    row = _usable(tx, ask, "update")
    body = ask.body
    row = domain.update_share(
        tx,
        row.id,
        name=first(body, "display_name", "name"),
        description=first(body, "display_description", "description"),
        public=flag(body["is_public"]) if body.get("is_public") is not None else None,
    )
    return {"share": shown(ask, tx, row)}


def delete(ask: Ask, tx: Tx) -> object:
    """A share begins to be removed, with its access rules."""
    row = tx.need(ShareRow, ask.id)
    if row.group and ask.query.get("share_group_id") != row.group:
        raise Invalid("Must provide 'share_group_id', the group of the share, when deleting a share in a share group.")
    locks.check(tx, [row.id], f"delete share {row.id}")
    if row.shown == "awaiting_transfer":
        raise Conflict(f"cannot delete share {row.id}: it is {row.shown}", code="illegal-status")
    remove(tx, row)
    return None


def force_delete(ask: Ask, tx: Tx) -> object:
    """A share begins to be removed, whatever status it shows."""
    ask.need_admin("force the deletion of a share")
    row = tx.need(ShareRow, ask.id)
    for lock in tx.locks_of([row.id], "delete"):
        tx.release(lock)
    remove(tx, tx.change(row, shown=""))
    return None


def remove(tx: Tx, row: ShareRow) -> None:
    """The share and its access rules go. Raises ``Conflict`` while it has snapshots, or was attached by itself."""
    if row.status in (ShareStatus.EXTENDING, ShareStatus.SHRINKING, ShareStatus.REVERTING):
        raise Conflict(f"cannot delete share {row.id}: it is {row.status}", code="share-in-use")
    rules.cut_share(tx, row)
    domain.delete_share(tx, row.id)


def _usable(tx: Tx, ask: Ask, verb: str) -> ShareRow:
    """The share, unless it is in the recycle bin."""
    row = tx.need(ShareRow, ask.id)
    if row.deleted_until is not None:
        raise locks.Locked(f"cannot {verb} share {row.id}: it is in the recycle bin: restore it first")
    return row


def _origin(tx: ReadTx, snapshot_id: str | None) -> tuple[ShareRow | None, SnapshotRow | None]:
    if not snapshot_id:
        return None, None
    snapshot = tx.get(SnapshotRow, snapshot_id)
    if snapshot is None:
        raise NotFound("snapshot", snapshot_id[:80])
    share = tx.need(ShareRow, snapshot.share)
    if not facts.Around(tx).can(share, types.CLONES):
        raise Invalid(
            f"cannot create a share from snapshot {snapshot.id}: its share does not have that capability "
            f"({types.CLONES})",
            field="share.snapshot_id",
        )
    return share, snapshot


def _kind(tx: ReadTx, ask: Ask, body: Mapping[str, Any], origin: ShareRow | None) -> TypeRow:
    if body.get("share_type") and body.get("volume_type"):
        raise Invalid("Cannot specify both share_type and volume_type", field="share.share_type")
    name = body.get("share_type") or body.get("volume_type")
    if not name:
        return tx.need(TypeRow, origin.type if origin else DEFAULT_TYPE)
    return types.usable_type(tx, name, ask.own)


def _check_size(kind: TypeRow, size: int, origin: ShareRow | None, wanted: int) -> None:
    """Raise ``Invalid`` for a size that the type does not have, or that the origin does not fit into."""
    least, most = kind.specs.get(types.LEAST), kind.specs.get(types.MOST)
    if least and size < int(least):
        raise Invalid(f"Share size {size}GB is below type {kind.name}'s minimum of {least}GB.", field="share.size")
    if most and size > int(most):
        raise Invalid(f"Share size {size}GB is above type {kind.name}'s maximum of {most}GB.", field="share.size")
    if origin is not None and wanted < origin.size:
        raise Invalid(f"Share size {size}GB is smaller than the snapshot's share.", field="share.size")


def _check_zone(tx: ReadTx, kind: TypeRow, zone: str) -> None:
    if not zone:
        return
    if zone not in hosts.zones(tx):
        raise NotFound("availability zone", zone[:80])
    offered = types.zones_of(kind)
    if offered and zone not in offered:
        raise Invalid(
            f"Share type {kind.name} is not supported within the availability zone {zone}.",
            field="share.availability_zone",
        )


def _check_company(tx: ReadTx, kind: TypeRow, words: domain.Words) -> None:
    """Raise unless the share's group and network are there, and the group takes shares of this type."""
    if words.network and tx.get(NetworkRow, words.network) is None:
        raise NotFound("share network", words.network)
    if not words.group:
        return
    group = tx.get(GroupRow, words.group)
    if group is None:
        raise NotFound("share group", words.group)
    if kind.uuid not in group.types:
        raise Invalid(
            f"cannot create a share of type {kind.name} in share group {group.id}: the group is of other share types",
            field="share.share_group_id",
        )


def _mount_name(kind: TypeRow, name: str | None) -> str:
    if not name:
        return ""
    if not types.truth(kind.specs.get("mount_point_name_support", "False")):
        raise Invalid(
            f"Setting a mount point name is not supported by share type {kind.name}.", field="share.mount_point_name"
        )
    if not name.isascii() or not name.replace("_", "").replace("-", "").isalnum():
        raise Invalid("cannot use mount_point_name: letters, digits, - and _ only", field="share.mount_point_name")
    return name


def _listed(ask: Ask, tx: ReadTx) -> Query:
    """The query's filters. What no version knows is ignored, as Manila does."""
    asked, minor = ask.query, ask.minor
    equal = ask.scope()
    either: dict[str, Value] = {}
    if ask.flag("is_public") and "project" in equal:
        either = {"project": equal.pop("project"), "public": True}
    equal |= ask.equals(*_EQUAL)
    if named := asked.get("name", asked.get("display_name")):
        equal["name"] = named
    if (described := asked.get("description", asked.get("display_description"))) and minor >= 36:
        equal["description"] = described
    binned = bool(ask.flag("is_soft_deleted")) if minor >= 69 else False
    if not binned:
        equal["deleted_until"] = None
    _filter_status(ask, equal)
    _filter_elsewhere(ask, tx, equal)
    sort, descending = ask.order(SORTS)
    return Query(
        equal=equal,
        either=either,
        filled=("deleted_until",) if binned else (),
        holds=ask.holds(*_LIKE, since=36),
        labels=ask.mapping("metadata") if asked.get("metadata") else {},
        sort=sort,
        descending=descending,
        limit=ask.limit,
        offset=ask.offset,
    )


_EQUAL = (
    ("share_group_id", "group"),
    ("share_network_id", "network"),
    ("snapshot_id", "origin_snapshot"),
    ("mount_point_name", "mount_name"),
    ("share_proto", "proto"),
    ("id", "id"),
    ("user_id", "user"),
)
_LIKE = (
    ("name~", "name"),
    ("display_name~", "name"),
    ("description~", "description"),
    ("display_description~", "description"),
)


def _filter_status(ask: Ask, equal: dict[str, Value]) -> None:
    status = ask.query.get("status")
    if status is None:
        return
    if status in set(ShareStatus):
        equal |= {"status": status, "shown": ""}
    elif status == "creating_from_snapshot":
        equal |= {"status": "creating", "shown": ""}
    else:
        equal["shown"] = status


def _filter_elsewhere(ask: Ask, tx: ReadTx, equal: dict[str, Value]) -> None:
    """By what other tables say: type, extra specs, host, zone, export location."""
    asked, minor = ask.query, ask.minor
    if kind := asked.get("share_type_id", asked.get("volume_type_id")):
        equal["type"] = [row.name for row in tx.all(TypeRow, uuid=kind)]
    if "extra_specs" in asked:
        wanted = ask.mapping("extra_specs").items()
        equal["type"] = [row.name for row in tx.all(TypeRow) if wanted <= types.specs_of(row).items()]
    pools = None
    if "host" in asked and ask.admin:
        pools = [one.pool.name for one in scheduler.candidates(tx) if asked["host"] in (one.address, one.backend)]
    if "availability_zone" in asked and minor >= 97:
        there = [host.name for host in tx.all(HostRow) if host.zone == asked["availability_zone"]]
        pools = [pool.name for pool in tx.all(PoolRow, host=there)]
    if pools is not None:
        equal["pool"] = pools
    if minor >= 35 and (path := asked.get("export_location_path")):
        equal["id"] = path.rpartition("/")[2]
    if minor >= 35 and (location := asked.get("export_location_id")):
        mine = tx.pick(ShareRow, ("id", "mount_name"), Query(equal=ask.scope()))
        equal["id"] = [key for key, name in mine if facts.derived("export", key, f"/{name or key}") == location]
    if "share_server_id" in asked:
        equal["id"] = []  # no share is on a share server


def _count(ask: Ask, tx: ReadTx, query: Query) -> int | None:
    return tx.count(ShareRow, query) if ask.minor >= 42 and ask.flag("with_count") else None
