"""Transfers of shares between projects."""

from __future__ import annotations

from typing import Any

from isthmus.service.domain import transfers
from isthmus.service.manila.ask import Ask, stamp
from isthmus.store.records import TransferRow
from isthmus.store.tx import ReadTx, Tx
from isthmus.wire.manila import shapes
from isthmus.wire.manila.shape import flag

SORTS = {
    "id": "id",
    "name": "name",
    "display_name": "name",
    "resource_id": "share",
    "resource_type": "created_at",
    "source_project_id": "project",
    "destination_project_id": "destination",
    "created_at": "created_at",
    "expires_at": "expires_at",
}

_FILTERS = (("name", "name"), ("resource_id", "share"), ("id", "id"), ("source_project_id", "project"))


def index(ask: Ask, tx: ReadTx) -> object:
    """Ids and names."""
    shown = [
        {name: one[name] for name in ("id", "name", "resource_type", "resource_id", "links")}
        for one in _listed(ask, tx)
    ]
    return ask.page("transfers", shown)


def detail(ask: Ask, tx: ReadTx) -> object:
    """All fields."""
    return ask.page("transfers", _listed(ask, tx))


def show(ask: Ask, tx: ReadTx) -> object:
    """One transfer."""
    return {"transfer": _view(ask, tx.need(TransferRow, ask.id))}


def create(ask: Ask, tx: Tx) -> object:
    """A share is on offer; this answer alone has the key."""
    row, key = transfers.offer(tx, ask.body["share_id"], (ask.body.get("name") or "").strip())
    return {"transfer": {**_view(ask, row), "auth_key": key}}


def accept(ask: Ask, tx: Tx) -> object:
    """The share is the caller's project's."""
    transfers.take(
        tx,
        ask.id,
        ask.body["auth_key"],
        ask.project,
        ask.caller.user,
        clear=flag(ask.body.get("clear_access_rules")),
    )
    return None


def delete(ask: Ask, tx: Tx) -> object:
    """The share is no longer on offer."""
    transfers.withdraw(tx, tx.need(TransferRow, ask.id))
    return None


def _listed(ask: Ask, tx: ReadTx) -> list[dict[str, Any]]:
    equal = ask.scope() | ask.equals(*_FILTERS)
    return [_view(ask, row) for row in tx.page(TransferRow, ask.part(equal, SORTS, holds=ask.holds(("name~", "name"))))]


def _view(ask: Ask, row: TransferRow) -> dict[str, Any]:
    facts = {
        "id": row.id,
        "created_at": stamp(row.created_at),
        "name": row.name or None,
        "resource_type": "share",
        "resource_id": row.share,
        "source_project_id": row.project,
        "destination_project_id": row.destination or None,
        "accepted": False,
        "expires_at": stamp(row.expires_at),
        "links": ask.links("share-transfers", row.id),
    }
    return ask.show(shapes.TRANSFER, facts)
