"""Resource locks."""

from __future__ import annotations

from typing import Any

from isthmus.model.errors import Invalid, NotFound
from isthmus.service.domain import locks
from isthmus.service.manila.ask import Ask, stamp
from isthmus.store.records import LockRow
from isthmus.store.tx import ReadTx, Tx
from isthmus.wire.manila import shapes

SORTS = {
    "id": "id",
    "resource_id": "resource",
    "resource_type": "kind",
    "resource_action": "action",
    "lock_reason": "reason",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "user_id": "user",
    "project_id": "project",
    "lock_context": "context",
}
_FILTERS = (
    ("resource_id", "resource"),
    ("resource_type", "kind"),
    ("resource_action", "action"),
    ("lock_context", "context"),
    ("lock_reason", "reason"),
    ("user_id", "user"),
    ("id", "id"),
)


def index(ask: Ask, tx: ReadTx) -> object:
    """All locks of the project."""
    equal = ask.scope() | ask.equals(*_FILTERS)
    since, before = ask.when("created_since", 81), ask.when("created_before", 81)
    query = ask.part(equal, SORTS, since=since, before=before, holds=ask.holds(("lock_reason~", "reason")))
    count = tx.count(LockRow, query) if ask.flag("with_count") else None
    return ask.page("resource_locks", [_view(ask, row) for row in tx.page(LockRow, query)], count)


def show(ask: Ask, tx: ReadTx) -> object:
    """One lock."""
    return {"resource_lock": _view(ask, tx.need(LockRow, ask.id))}


def create(ask: Ask, tx: Tx) -> object:
    """A lock."""
    body = ask.body
    try:
        row = locks.place(
            tx,
            ask.caller,
            kind=body.get("resource_type") or locks.SHARE,
            resource=body["resource_id"],
            action=body.get("resource_action") or locks.DELETE,
            reason=body.get("lock_reason") or "",
        )
    except NotFound as error:
        raise Invalid("No such resource found.", field="resource_lock.resource_id") from error
    return {"resource_lock": _view(ask, row)}


def update(ask: Ask, tx: Tx) -> object:
    """A lock with another action or reason."""
    row = tx.need(LockRow, ask.id)
    locks.check_unlock(row, ask.caller)
    if extra := sorted(set(ask.body) - {"resource_action", "lock_reason"}):
        raise Invalid(
            f"Only 'resource_action' and 'lock_reason' can be updated, not {extra[0][:40]}.",
            field=f"resource_lock.{extra[0][:40]}",
        )
    action = ask.body.get("resource_action") or row.action
    if action not in locks.ACTIONS[row.kind]:
        raise Invalid(
            f"'resource_action' can only be one of {', '.join(locks.ACTIONS[row.kind])}",
            field="resource_lock.resource_action",
        )
    reason = ask.body["lock_reason"] or "" if "lock_reason" in ask.body else row.reason
    return {"resource_lock": _view(ask, tx.change(row, action=action, reason=reason))}


def delete(ask: Ask, tx: Tx) -> object:
    """The lock is gone."""
    row = tx.need(LockRow, ask.id)
    locks.check_unlock(row, ask.caller)
    tx.remove(row)
    return None


def _view(ask: Ask, row: LockRow) -> dict[str, Any]:
    facts = {
        "id": row.id,
        "user_id": row.user,
        "project_id": row.project,
        "lock_context": row.context,
        "resource_type": row.kind,
        "resource_id": row.resource,
        "resource_action": row.action,
        "lock_reason": row.reason or None,
        "created_at": stamp(row.created_at),
        "updated_at": stamp(row.updated_at),
        "links": ask.links("resource-locks", row.id),
    }
    return ask.show(shapes.LOCK, facts)
