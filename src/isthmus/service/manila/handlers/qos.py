"""QoS types: what share types name by ``default_qos_type``."""

from __future__ import annotations

from typing import Any

from isthmus.model.errors import Conflict, Invalid, NotFound
from isthmus.model.names import MAX_DESCRIPTION, new_id, parse_title
from isthmus.service.domain import types
from isthmus.service.manila.ask import Ask, stamp
from isthmus.service.manila.handlers.common import item, single, without
from isthmus.store.records import QosTypeRow
from isthmus.store.rows import TypeRow
from isthmus.store.tx import ReadTx, Tx
from isthmus.wire.manila import shapes
from isthmus.wire.manila.shape import labels

SORTS = {"id": "id", "name": "name", "created_at": "created_at", "updated_at": "updated_at"}
DEFAULT = "default_qos_type"


def index(ask: Ask, tx: ReadTx) -> object:
    """All QoS types."""
    equal = ask.equals(("name", "name"), ("description", "description"))
    rows = tx.page(QosTypeRow, ask.part(equal, SORTS))
    return ask.page("qos_types", [_view(ask, row) for row in rows])


def show(ask: Ask, tx: ReadTx) -> object:
    """One of them."""
    return {"qos_type": _view(ask, _find(tx, ask.id))}


def create(ask: Ask, tx: Tx) -> object:
    """A QoS type."""
    body = ask.body
    name = parse_title(body["name"].strip())
    if not name:
        raise Invalid("QoS type must have a name.", field="qos_type.name")
    if tx.all(QosTypeRow, name=name):
        raise Conflict(f"cannot make QoS type {name}: there is one of this name", code="name-taken")
    specs = labels(body.get("specs"))
    described = parse_title(body.get("description") or "", "description", most=MAX_DESCRIPTION)
    return {"qos_type": _view(ask, tx.add(QosTypeRow(new_id(), name, described, specs)))}


def update(ask: Ask, tx: Tx) -> object:
    """A QoS type with another description."""
    row = _find(tx, ask.id)
    described = parse_title(ask.body.get("description") or "", "description", most=MAX_DESCRIPTION)
    return {"qos_type": _view(ask, tx.change(row, description=described))}


def delete(ask: Ask, tx: Tx) -> object:
    """The QoS type is gone."""
    row = _find(tx, ask.id)
    users = [kind.name for kind in tx.all(TypeRow) if types.specs_of(kind).get(DEFAULT) in (row.id, row.name)]
    if users:
        raise Conflict(f"cannot delete QoS type {row.name}: share type {users[0]} names it", code="qos-type-in-use")
    tx.remove(row)
    return None


def specs(ask: Ask, tx: ReadTx) -> object:
    """The specs of a QoS type."""
    return {"specs": dict(_find(tx, ask.id).specs)}


def show_spec(ask: Ask, tx: ReadTx) -> object:
    """One of them."""
    return item(_find(tx, ask.id).specs, ask.path["key"], "QoS type spec")


def set_specs(ask: Ask, tx: Tx) -> object:
    """These besides those that it has."""
    row = _find(tx, ask.id)
    given = labels(ask.body)
    tx.change(row, specs={**row.specs, **given})
    return {"specs": given}


def put_spec(ask: Ask, tx: Tx) -> object:
    """One of them."""
    given = single(ask)
    row = _find(tx, ask.id)
    tx.change(row, specs={**row.specs, **given})
    return given


def unset_spec(ask: Ask, tx: Tx) -> object:
    """Without one of them."""
    row = _find(tx, ask.id)
    tx.change(row, specs=without(row.specs, ask.path["key"], "QoS type spec"))
    return None


def _find(tx: ReadTx, name_or_id: str) -> QosTypeRow:
    row = tx.get(QosTypeRow, name_or_id)
    named = tx.all(QosTypeRow, name=name_or_id) if row is None else []
    if row is None and not named:
        raise NotFound("QoS type", name_or_id[:80])
    return row or named[0]


def _view(ask: Ask, row: QosTypeRow) -> dict[str, Any]:
    facts = {
        "id": row.id,
        "name": row.name,
        "description": row.description or None,
        "specs": dict(row.specs),
        "created_at": stamp(row.created_at),
        "updated_at": stamp(row.updated_at),
    }
    return ask.show(shapes.QOS_TYPE, facts)
