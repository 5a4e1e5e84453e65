"""Share types, their extra specs, and who may use them."""

from __future__ import annotations

from typing import Any

from isthmus.model.errors import Conflict, Invalid, NotFound
from isthmus.service.domain import pools, types
from isthmus.service.domain.pools import DEFAULT_TYPE
from isthmus.service.manila import facts
from isthmus.service.manila.ask import Ask
from isthmus.service.manila.handlers.common import item, single
from isthmus.store.rows import TypeRow
from isthmus.store.tx import ReadTx, Tx
from isthmus.wire.manila import shapes
from isthmus.wire.manila.shape import flag, labels

_PUBLIC = ("share_type_access:is_public", "os-share-type-access:is_public")


def index(ask: Ask, tx: ReadTx) -> object:
    """All types that the caller may use; an operator chooses by ``is_public``."""
    public: bool | None = None if ask.own is not None else True
    if ask.admin and "is_public" in ask.query:
        public = None if ask.query["is_public"].lower() in ("none", "all") else ask.flag("is_public")
    rows = types.usable_types(tx, ask.own, public=public)
    if "extra_specs" in ask.query:
        if ask.minor < 43:
            raise Invalid("Filter by 'extra_specs' is supported from version 2.43 on.", field="extra_specs")
        wanted = ask.mapping("extra_specs").items()
        rows = [row for row in rows if wanted <= types.specs_of(row).items()]
    shown = [_view(ask, row) for row in rows]
    return {"share_types": shown, "volume_types": shown}


def show(ask: Ask, tx: ReadTx) -> object:
    """One type."""
    return _both(_view(ask, types.usable_type(tx, ask.id, ask.own)))


def default(ask: Ask, tx: ReadTx) -> object:
    """The type of shares that name none."""
    return _both(_view(ask, tx.need(TypeRow, DEFAULT_TYPE)))


def create(ask: Ask, tx: Tx) -> object:
    """A type."""
    body = ask.body
    public = next((flag(body[name]) for name in _PUBLIC if body.get(name) is not None), True)
    specs = labels(body.get("extra_specs"))
    if ask.minor < 41 and body.get("description"):
        raise Invalid("'description' is supported from version 2.41 on.", field="share_type.description")
    row = types.make_type(
        tx,
        name=body["name"],
        specs=specs,
        public=public,
        description=body.get("description") or "",
        defaults=ask.minor < 24,
    )
    return _both(_view(ask, row))


def update(ask: Ask, tx: Tx) -> object:
    """A type with another name, description or visibility."""
    body = ask.body
    row = types.find_type(tx, ask.id)
    name, description = body.get("name"), body.get("description")
    public = body.get(_PUBLIC[0])
    if name is None and description is None and public is None:
        raise Invalid("Specify share type name, description and/or share_type_access:is_public.", field="share_type")
    row = types.update_type(
        tx, row, name=name, description=description, public=None if public is None else flag(public)
    )
    return _both(_view(ask, row))


def delete(ask: Ask, tx: Tx) -> object:
    """The type is no longer offered."""
    row = types.find_type(tx, ask.id)
    pools.remove_type(tx, row.name)
    types.forget_access(tx, types.TYPE, row.uuid)
    return None


def specs(ask: Ask, tx: ReadTx) -> object:
    """The extra specs of a type."""
    return {"extra_specs": types.specs_of(types.find_type(tx, ask.id))}


def show_spec(ask: Ask, tx: ReadTx) -> object:
    """One of them."""
    return item(types.specs_of(types.find_type(tx, ask.id)), ask.path["key"], "extra spec")


def set_specs(ask: Ask, tx: Tx) -> object:
    """These besides those that it has."""
    given = labels(ask.body)
    types.set_specs(tx, types.find_type(tx, ask.id), given)
    return {"extra_specs": given}


def put_spec(ask: Ask, tx: Tx) -> object:
    """One of them."""
    given = single(ask)
    types.set_specs(tx, types.find_type(tx, ask.id), given)
    return given


def unset_spec(ask: Ask, tx: Tx) -> object:
    """Without one of them."""
    types.unset_spec(tx, types.find_type(tx, ask.id), ask.path["key"])
    return None


def access(ask: Ask, tx: ReadTx) -> object:
    """The projects that may use a type which is not public."""
    row = types.find_type(tx, ask.id)
    if row.public:
        raise NotFound("access list of public share type", row.name)
    who = types.allowed(tx, types.TYPE, row.uuid)
    return {"share_type_access": [{"share_type_id": row.uuid, "project_id": name} for name in who]}


def add_access(ask: Ask, tx: Tx) -> object:
    """One more project may."""
    row = _private(ask, tx)
    types.allow(tx, types.TYPE, row.uuid, ask.body["project"])
    return None


def remove_access(ask: Ask, tx: Tx) -> object:
    """One project may no longer."""
    row = _private(ask, tx)
    types.disallow(tx, types.TYPE, row.uuid, ask.body["project"])
    return None


def _private(ask: Ask, tx: ReadTx) -> TypeRow:
    row = types.find_type(tx, ask.id)
    if row.public:
        raise Conflict(f"Type access modification is not applicable to public share type {row.name}.", code="public")
    return row


def _view(ask: Ask, row: TypeRow) -> dict[str, Any]:
    return ask.show(shapes.TYPE, facts.share_type(ask, row))


def _both(view: dict[str, Any]) -> dict[str, Any]:
    return {"share_type": view, "volume_type": view}
