"""Share groups and their snapshots: several shares by one name."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.model.errors import Conflict, Invalid, NotFound
from isthmus.model.names import MAX_DESCRIPTION, new_id, parse_title
from isthmus.model.status import ShareStatus, SnapshotStatus
from isthmus.service.domain import quotas, snapshots, types
from isthmus.service.domain.hosts import listed
from isthmus.store.query import Query
from isthmus.store.records import GroupRow, GroupSnapshotRow, GroupTypeRow
from isthmus.store.rows import ShareRow, SnapshotRow
from isthmus.store.tx import ReadTx, Tx

GROUP_TYPE = "group-type"
DELETING = "deleting"


def find_type(tx: ReadTx, name_or_id: str, project: str | None) -> GroupTypeRow:
    """The group type of this id or name, if the project (None: the operator) may use it. Raises ``NotFound``."""
    row = tx.get(GroupTypeRow, name_or_id)
    if row is None:
        named = tx.all(GroupTypeRow, name=name_or_id)
        row = named[0] if named else None
    if row is None or not (project is None or row.public or project in types.allowed(tx, GROUP_TYPE, row.id)):
        raise NotFound("share group type", name_or_id[:80])
    return row


def make_type(tx: Tx, *, name: str, share_types: list[str], public: bool, specs: dict[str, str]) -> GroupTypeRow:
    """A group type over these share types. Raises ``Conflict`` for a name that is taken, ``NotFound``."""
    name = parse_title(name.strip())
    if not name:
        raise Invalid("cannot make a share group type without a name", field="name")
    if tx.all(GroupTypeRow, name=name):
        raise Conflict(f"cannot make share group type {name}: there is one of this name", code="name-taken")
    if not share_types:
        raise Invalid("cannot make a share group type without share types", field="share_types")
    ids = frozenset(types.find_type(tx, one).uuid for one in share_types)
    return tx.add(GroupTypeRow(new_id(), name, ids, public, specs))


def remove_type(tx: Tx, row: GroupTypeRow) -> None:
    """The group type is no longer offered. Raises ``Conflict`` while groups are of it."""
    if count := tx.count(GroupRow, Query(equal={"type": row.id})):
        raise Conflict(f"cannot remove share group type {row.name}: {count} groups are of it", code="type-in-use")
    types.forget_access(tx, GROUP_TYPE, row.id)
    tx.remove(row)


def make_group(
    tx: Tx,
    *,
    project: str,
    user: str,
    kind: GroupTypeRow,
    share_types: list[str],
    name: str = "",
    description: str = "",
    zone: str = "",
    network: str = "",
    origin: str = "",
) -> GroupRow:
    """A group without shares. Raises ``Invalid`` for share types that its type does not have, ``OverQuota``."""
    ids = frozenset(types.usable_type(tx, one, project).uuid for one in share_types) or kind.types
    if extra := sorted(ids - kind.types):
        raise Invalid(f"share group type {kind.name} does not have share type {extra[0]}", field="share_types")
    quotas.check(tx, "create a share group", project, user=user, share_groups=1)
    described = parse_title(description, "description", most=MAX_DESCRIPTION)
    row = GroupRow(new_id(), project, user, parse_title(name), described, kind.id, ids, zone, network, origin)  # type: ignore[arg-type]
    return tx.add(row)


def remove_group(tx: Tx, group: GroupRow) -> None:
    """The group is gone. Raises ``Conflict`` while it has shares or snapshots."""
    shares = [row.id for row in tx.all(ShareRow, group=group.id)]
    taken = [row.id for row in tx.all(GroupSnapshotRow, group=group.id)]
    if shares or taken:
        raise Conflict(
            f"cannot delete share group {group.id}: it has {listed('share', shares)} and {listed('snapshot', taken)}: "
            "delete these first",
            code="group-in-use",
        )
    tx.remove(group)


def snapshot_group(tx: Tx, group: GroupRow, *, user: str, name: str = "", description: str = "") -> GroupSnapshotRow:
    """A snapshot of each share of the group, asked for in one transaction. Raises ``Conflict`` unless all are
    available, ``OverQuota``."""
    shares = tx.all(ShareRow, group=group.id)
    for share in shares:
        if share.status != ShareStatus.AVAILABLE or share.shown:
            raise Conflict(
                f"cannot snapshot share group {group.id}: share {share.id} is {share.shown or share.status}",
                code="illegal-status",
            )
    quotas.check(tx, "snapshot a share group", group.project, user=user, share_group_snapshots=1)
    described = parse_title(description, "description", most=MAX_DESCRIPTION)
    row = tx.add(GroupSnapshotRow(new_id(), group.id, group.project, user, parse_title(name), described))
    for share in shares:
        snapshots.create_snapshot(tx, share=share.id, user=user, group_snapshot=row.id)
    return row


def remove_snapshot(tx: Tx, row: GroupSnapshotRow) -> None:
    """The snapshots of all shares begin to be deleted; the group's is gone with the last of them."""
    for member in members(tx, row):
        snapshots.delete_snapshot(tx, member.id)
    tx.change(row, shown=DELETING)
    settle(tx, row.id)


def settle(tx: Tx, group_snapshot: str) -> None:
    """A group snapshot that is being deleted is gone once it has no members."""
    row = tx.get(GroupSnapshotRow, group_snapshot)
    if row is not None and row.shown == DELETING and not members(tx, row):
        tx.remove(row)


def members(tx: ReadTx, row: GroupSnapshotRow) -> list[SnapshotRow]:
    """The snapshots of the shares."""
    return tx.all(SnapshotRow, group_snapshot=row.id)


def members_of(tx: ReadTx, rows: Sequence[GroupSnapshotRow]) -> dict[str, list[SnapshotRow]]:
    """The same of several group snapshots, looked up at once."""
    found: dict[str, list[SnapshotRow]] = {row.id: [] for row in rows}
    for member in tx.all(SnapshotRow, group_snapshot=list(found)) if found else []:
        found[member.group_snapshot or ""].append(member)
    return found


def snapshot_status(row: GroupSnapshotRow, found: list[SnapshotRow]) -> str:
    """What the members come down to, or what the operator set."""
    if row.shown:
        return row.shown
    statuses = {member.status for member in found}
    for worst in (SnapshotStatus.ERROR, SnapshotStatus.CREATING, SnapshotStatus.DELETING):
        if worst in statuses:
            return str(worst)
    return "available"
