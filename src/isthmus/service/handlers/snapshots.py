"""Snapshots."""

from __future__ import annotations

from msgspec import UNSET

from isthmus.service.call import Call, Reply
from isthmus.service.domain import snapshots
from isthmus.service.views import Views
from isthmus.store.rows import SnapshotRow
from isthmus.wire import api


async def index(call: Call) -> Reply:
    """All snapshots."""
    return await call.page(SnapshotRow, Views.snapshot)


async def create(call: Call) -> Reply:
    """A snapshot begins to be taken."""
    body: api.SnapshotCreate = call.body
    return await call.do(
        202,
        lambda tx: snapshots.create_snapshot(tx, share=body.share, name=body.name, snapshot_id=body.id),
        Views.snapshot,
    )


async def show(call: Call) -> Reply:
    """One snapshot."""
    return await call.one(SnapshotRow, call.path["snapshot"], Views.snapshot)


async def update(call: Call) -> Reply:
    """A snapshot with another name."""
    body: api.SnapshotPatch = call.body
    name = None if body.name is UNSET else body.name
    return await call.do(
        200, lambda tx: snapshots.update_snapshot(tx, call.path["snapshot"], name=name), Views.snapshot
    )


async def delete(call: Call) -> Reply:
    """A snapshot begins to be removed."""
    return await call.do(202, lambda tx: snapshots.delete_snapshot(tx, call.path["snapshot"]), Views.snapshot)
