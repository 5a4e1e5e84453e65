"""User messages."""

from __future__ import annotations

from typing import Any

from isthmus.service.domain import messages
from isthmus.service.manila.ask import Ask, stamp
from isthmus.store.records import MessageRow
from isthmus.store.tx import ReadTx, Tx
from isthmus.wire.manila import shapes

SORTS = {
    "id": "id",
    "project_id": "project",
    "request_id": "request",
    "resource_type": "kind",
    "action_id": "action",
    "detail_id": "detail",
    "resource_id": "resource",
    "message_level": "created_at",
    "expires_at": "expires_at",
    "created_at": "created_at",
}
_FILTERS = (
    ("resource_id", "resource"),
    ("resource_type", "kind"),
    ("action_id", "action"),
    ("detail_id", "detail"),
    ("request_id", "request"),
)


def index(ask: Ask, tx: ReadTx) -> object:
    """All messages of the project."""
    equal = ask.scope() | ask.equals(*_FILTERS)
    if ask.query.get("message_level", "ERROR") != "ERROR":
        equal["id"] = []
    since, before = ask.when("created_since", 52), ask.when("created_before", 52)
    rows = tx.page(MessageRow, ask.part(equal, SORTS, since=since, before=before))
    return ask.page("messages", [_view(ask, row) for row in rows])


def show(ask: Ask, tx: ReadTx) -> object:
    """One message."""
    return {"message": _view(ask, tx.need(MessageRow, ask.id))}


def delete(ask: Ask, tx: Tx) -> object:
    """Read and done with."""
    tx.remove(tx.need(MessageRow, ask.id))
    return None


def _view(ask: Ask, row: MessageRow) -> dict[str, Any]:
    facts = {
        "id": row.id,
        "project_id": row.project,
        "action_id": row.action,
        "detail_id": row.detail,
        "message_level": "ERROR",
        "created_at": stamp(row.created_at),
        "expires_at": stamp(row.expires_at),
        "request_id": row.request or None,
        "links": ask.links("messages", row.id),
        "resource_type": row.kind,
        "resource_id": row.resource,
        "user_message": messages.sentence(row),
    }
    return ask.show(shapes.MESSAGE, facts)
