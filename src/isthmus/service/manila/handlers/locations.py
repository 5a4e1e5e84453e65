"""Export locations of shares and share instances."""

from __future__ import annotations

from isthmus.model.errors import NotFound
from isthmus.service.manila import facts
from isthmus.service.manila.ask import Ask
from isthmus.store.rows import ShareRow
from isthmus.store.tx import ReadTx
from isthmus.wire.manila import shapes


def index(ask: Ask, tx: ReadTx) -> object:
    """Where a share is found."""
    found = facts.exports(ask, tx, tx.need(ShareRow, ask.id))
    return {"export_locations": [ask.show(shapes.EXPORT, one) for one in found]}


def show(ask: Ask, tx: ReadTx) -> object:
    """One of them."""
    for one in facts.exports(ask, tx, tx.need(ShareRow, ask.id)):
        if one["id"] == ask.path["location"]:
            return {"export_location": ask.show(shapes.EXPORT_DETAIL, one)}
    raise NotFound("share export location", ask.path["location"][:80])
