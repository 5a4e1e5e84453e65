"""Metadata of shares, snapshots, export locations and subnets: one set of functions for all."""

from __future__ import annotations

from isthmus.model.errors import Forbidden, Invalid, NotFound
from isthmus.service.manila import facts
from isthmus.service.manila.ask import Ask
from isthmus.service.manila.handlers.common import item
from isthmus.store.records import SubnetRow
from isthmus.store.rows import ShareRow, SnapshotRow
from isthmus.store.tx import ReadTx, Tx
from isthmus.wire.manila.shape import labels


def index(ask: Ask, tx: ReadTx) -> object:
    """All of it."""
    return {"metadata": tx.labels_of(_owner(ask, tx))}


def show(ask: Ask, tx: ReadTx) -> object:
    """One item."""
    return {"meta": item(tx.labels_of(_owner(ask, tx)), ask.path["key"], "metadata item")}


def add(ask: Ask, tx: Tx) -> object:
    """These items besides those that are there."""
    owner = _owner(ask, tx)
    tx.label(owner, _given(ask))
    return {"metadata": tx.labels_of(owner)}


def replace(ask: Ask, tx: Tx) -> object:
    """These items and no others."""
    owner = _owner(ask, tx)
    given = _given(ask)
    tx.unlabel(owner)
    tx.label(owner, given)
    return {"metadata": given}


def put(ask: Ask, tx: Tx) -> object:
    """One item."""
    key, given = ask.path["key"], _given(ask)
    if set(given) != {key}:
        raise Invalid(f"cannot set {key[:80]}: the body names other items than the path", field="metadata")
    return add(ask, tx)


def delete(ask: Ask, tx: Tx) -> object:
    """Without this item."""
    key, owner = ask.path["key"], _owner(ask, tx)
    item(tx.labels_of(owner), key, "metadata item")
    tx.unlabel(owner, [key])
    return None


def _given(ask: Ask) -> dict[str, str]:
    found = labels(ask.body)
    if any(len(value) > 1023 for value in found.values()):
        raise Invalid("Metadata property value is greater than 1023 characters.", field="metadata")
    return found


def _owner(ask: Ask, tx: ReadTx) -> str:
    """The id of what the path names, loaded: whose it is, the database decides."""
    path = ask.path
    kind = path[""].split("/")[0]
    if "location" in path:
        share = tx.need(ShareRow, path["id"])
        known = {str(one["id"]) for one in facts.exports(ask, tx, share)}
        if path["location"] not in known:
            raise NotFound("share export location", path["location"][:80])
        return path["location"]
    if "subnet" in path:
        return tx.need(SubnetRow, path["subnet"]).id
    if kind == "snapshots":
        return tx.need(SnapshotRow, path["id"]).id
    share = tx.need(ShareRow, path["id"])
    if share.deleted_until is not None and isinstance(tx, Tx):
        raise Forbidden(f"cannot change share {share.id}: it is in the recycle bin")
    return share.id


def extensions(_ask: Ask, _tx: ReadTx) -> object:
    """There are none: all is in the core."""
    return {"extensions": []}
