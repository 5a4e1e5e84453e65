"""Share instances: every share has one, of the same id."""

from __future__ import annotations

from isthmus.model.errors import NotFound
from isthmus.service.manila import facts
from isthmus.service.manila.ask import Ask
from isthmus.store.query import Query, Value
from isthmus.store.rows import ShareRow
from isthmus.store.tx import ReadTx
from isthmus.wire.manila import shapes


def index(ask: Ask, tx: ReadTx) -> object:
    """All of them."""
    equal: dict[str, Value] = {}
    if ask.minor >= 35 and (path := ask.query.get("export_location_path")):
        equal["id"] = path.rpartition("/")[2]
    binned = bool(ask.flag("is_soft_deleted")) if ask.minor >= 69 else False
    if not binned:
        equal["deleted_until"] = None
    query = Query(equal=equal, filled=("deleted_until",) if binned else (), limit=ask.limit, offset=ask.offset)
    around = facts.Around(tx)
    rows = tx.page(ShareRow, query)
    return ask.page("share_instances", [ask.show(shapes.INSTANCE, facts.instance(ask, row, around)) for row in rows])


def of_share(ask: Ask, tx: ReadTx) -> object:
    """The one of a share."""
    row = tx.need(ShareRow, ask.id)
    return {"share_instances": [ask.show(shapes.INSTANCE, facts.instance(ask, row, facts.Around(tx)))]}


def show(ask: Ask, tx: ReadTx) -> object:
    """One of them."""
    row = tx.get(ShareRow, ask.id)
    if row is None:
        raise NotFound("share instance", ask.id[:80])
    return {"share_instance": ask.show(shapes.INSTANCE, facts.instance(ask, row, facts.Around(tx)))}
