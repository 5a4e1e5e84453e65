"""Quotas: what a project, a user or a share type of a project may have.

There are no reservations to leak: one transaction adds up what exists, compares and makes the row that counts from then
on, and a share that is still being made is such a row. A limit of -1 is none. Limits come from the row of the user or
the type, else of the project, else of the class ``default``, else there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.model.errors import Exhausted, Forbidden
from isthmus.model.names import GIB
from isthmus.store.query import Query
from isthmus.store.records import GroupRow, GroupSnapshotRow, NetworkRow, QuotaRow
from isthmus.store.rows import CopyRow, Purpose, ShareRow, SnapshotRow, TypeRow
from isthmus.store.tx import ReadTx, Tx

NONE = -1
RESOURCES = (
    "shares",
    "gigabytes",
    "snapshots",
    "snapshot_gigabytes",
    "share_networks",
    "share_groups",
    "share_group_snapshots",
    "share_replicas",
    "replica_gigabytes",
    "per_share_gigabytes",
    "backups",
    "backup_gigabytes",
    "encryption_keys",
)
NOT_BY_TYPE = frozenset({"share_networks", "share_groups", "share_group_snapshots"})
"""What no share type limits."""


class OverQuota(Exhausted):
    """A quota does not have room for it."""

    code = "over-quota"


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose quota: a project's, or of one user or one share type (its UUID) in it."""

    project: str
    user: str = ""
    type: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one resource. ``reserved``: of what is still being made."""

    limit: int
    in_use: int
    reserved: int = 0


def gib(size: int) -> int:
    """Bytes as whole GiB, rounded up: what quotas count."""
    return -(-size // GIB)


def limits(tx: ReadTx, scope: Scope) -> dict[str, int]:
    """The limits that hold for the scope."""
    found = dict.fromkeys(RESOURCES, NONE)
    for tenant, user, kind in _layers(scope):
        rows = tx.all(QuotaRow, tenant=tenant, user=user, type=kind)
        found |= {row.resource: row.most for row in rows}
    return found


def defaults(tx: ReadTx) -> dict[str, int]:
    """The limits of a project for which none were set."""
    return limits(tx, Scope(""))


def set_limits(tx: Tx, scope: Scope, wanted: Mapping[str, int], *, force: bool = False) -> None:
    """These limits hold for the scope. Raises ``Conflict`` for one below what is in use, unless forced."""
    if not force and scope.project:
        used = usages(tx, scope)
        for name, most in wanted.items():
            now = used[name].in_use + used[name].reserved
            if 0 <= most < now:
                raise OverQuota(
                    f"cannot set the quota {name} to {most}: {now} are in use", detail={"quota": name, "used": now}
                )
    for name, most in wanted.items():
        key = "/".join((scope.project, scope.user, scope.type, name))
        known = tx.get(QuotaRow, key)
        if known is None:
            tx.add(QuotaRow(key, scope.project, scope.user, scope.type, name, most))
        else:
            tx.change(known, most=most)


def unset(tx: Tx, scope: Scope) -> None:
    """No limits of its own hold for the scope; for a project, nor for any of its users and types."""
    for row in tx.all(QuotaRow, tenant=scope.project):
        if not (scope.user or scope.type) or (row.user, row.type) == (scope.user, scope.type):
            tx.remove(row)


def usages(tx: ReadTx, scope: Scope) -> dict[str, Usage]:
    """Limits and use of everything in the scope."""
    most = limits(tx, scope)
    used = _used(tx, scope)
    return {name: Usage(most[name], *used.get(name, (0, 0))) for name in RESOURCES}


def check(tx: ReadTx, doing: str, project: str, *, user: str = "", type_id: str = "", **more: int) -> None:
    """Raise ``OverQuota`` unless the project, its user and its type have room for ``more`` of each resource."""
    scopes = [Scope(project)]
    scopes += [Scope(project, user=user)] if user else []
    scopes += [Scope(project, type=type_id)] if type_id else []
    for scope in scopes:
        most = limits(tx, scope)
        bounded = {name: amount for name, amount in more.items() if amount > 0 and most[name] != NONE}
        if not bounded:
            continue
        used = _used(tx, scope) if bounded.keys() - {"per_share_gigabytes"} else {}
        for name, amount in bounded.items():
            now = sum(used.get(name, (0, 0)))
            if now + amount > most[name]:
                raise OverQuota(
                    f"cannot {doing}: the quota {name} of {_named(scope)} is {most[name]}, {now} are in use, "
                    f"and {amount} more are asked for",
                    detail={"quota": name, "limit": most[name], "used": now, "asked": amount},
                )


def check_reach(project: str, own: str | None) -> None:
    """Raise ``Forbidden`` unless the caller may see this project's quota: ``own`` is his, None for the operator."""
    if own is not None and own != project:
        raise Forbidden(f"cannot show the quota of project {project}: you act for project {own}")


def _layers(scope: Scope) -> list[tuple[str, str, str]]:
    found = [("", "", "")]
    if scope.project:
        found.append((scope.project, "", ""))
    if scope.user or scope.type:
        found.append((scope.project, scope.user, scope.type))
    return found


def _used(tx: ReadTx, scope: Scope) -> dict[str, tuple[int, int]]:
    """What exists, and of that, what is still being made."""
    equal: dict[str, str | bool] = {"project": scope.project}
    if scope.user:
        equal["user"] = scope.user
    found: dict[str, tuple[int, int]] = {}
    shares = equal | ({"type": _type_name(tx, scope.type)} if scope.type else {})
    for kind, names in ((ShareRow, ("shares", "gigabytes")), (SnapshotRow, ("snapshots", "snapshot_gigabytes"))):
        if kind is SnapshotRow and scope.type:
            continue
        narrowed = shares if kind is ShareRow else equal
        count, size = tx.total(kind, "size", Query(equal=narrowed))
        making, making_size = tx.total(kind, "size", Query(equal=narrowed | {"status": "creating"}))
        found[names[0]] = (count - making, making)
        found[names[1]] = (gib(size - making_size), gib(making_size))
    if not scope.type:
        backups = {**equal, "purpose": str(Purpose.BACKUP)}
        count, size = tx.total(CopyRow, "size", Query(equal=backups))
        making, making_size = tx.total(CopyRow, "size", Query(equal=backups | {"status": "creating"}))
        found["backups"] = (count - making, making)
        found["backup_gigabytes"] = (gib(size - making_size), gib(making_size))
        for rows, name in (
            (NetworkRow, "share_networks"),
            (GroupRow, "share_groups"),
            (GroupSnapshotRow, "share_group_snapshots"),
        ):
            found[name] = (tx.count(rows, Query(equal=equal)), 0)
    return found


def _type_name(tx: ReadTx, type_id: str) -> str:
    return next((row.name for row in tx.all(TypeRow, uuid=type_id)), "")


def _named(scope: Scope) -> str:
    if scope.user:
        return f"user {scope.user} in project {scope.project}"
    return f"share type {scope.type} in project {scope.project}" if scope.type else f"project {scope.project}"
