"""Shares."""

from __future__ import annotations

from msgspec import UNSET

from isthmus.service.call import Call, Reply
from isthmus.service.domain import shares
from isthmus.service.views import Views
from isthmus.store.rows import ShareRow
from isthmus.wire import api


async def index(call: Call) -> Reply:
    """All shares."""
    return await call.page(ShareRow, Views.share)


async def create(call: Call) -> Reply:
    """A share begins to be made."""
    body: api.ShareCreate = call.body
    project = call.project if body.project is None else body.project
    return await call.do(
        202,
        lambda tx: shares.create_share(
            tx,
            project=project,
            public=body.public,
            pool=body.pool,
            size=body.size,
            name=body.name,
            type_name=body.type,
            share_id=body.id,
            source_snapshot=body.source_snapshot,
            source_share=body.source_share,
        ),
        Views.share,
    )


async def show(call: Call) -> Reply:
    """One share."""
    return await call.one(ShareRow, call.path["share"], Views.share)


async def update(call: Call) -> Reply:
    """A share with another name, or on its way to another size."""
    body: api.SharePatch = call.body
    return await call.do(
        200 if body.size is UNSET else 202,
        lambda tx: shares.update_share(
            tx,
            call.path["share"],
            name=None if body.name is UNSET else body.name,
            size=None if body.size is UNSET else body.size,
            public=None if body.public is UNSET else body.public,
        ),
        Views.share,
    )


async def delete(call: Call) -> Reply:
    """A share begins to be removed."""
    return await call.do(202, lambda tx: shares.delete_share(tx, call.path["share"]), Views.share)


async def revert(call: Call) -> Reply:
    """A share begins to go back to a snapshot."""
    body: api.RevertShare = call.body
    return await call.do(202, lambda tx: shares.revert_share(tx, call.path["share"], body.snapshot), Views.share)
