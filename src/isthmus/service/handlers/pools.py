"""Pools and share types."""

from __future__ import annotations

from msgspec import UNSET

from isthmus.service.call import Call, Reply
from isthmus.service.domain import pools
from isthmus.service.views import Views
from isthmus.store.rows import PoolRow, TypeRow
from isthmus.wire import api


async def index(call: Call) -> Reply:
    """All pools."""
    return await call.page(PoolRow, Views.pool)


async def register(call: Call) -> Reply:
    """A pool is known."""
    body: api.PoolCreate = call.body
    return await call.do(
        201,
        lambda tx: pools.register_pool(
            tx,
            name=body.name,
            host=body.host,
            path=body.path,
            driver=body.driver,
            overcommit=body.overcommit,
            reserve=body.reserve,
        ),
        Views.pool,
    )


async def show(call: Call) -> Reply:
    """One pool."""
    return await call.one(PoolRow, call.path["pool"], Views.pool)


async def update(call: Call) -> Reply:
    """A pool with other rules."""
    body: api.PoolPatch = call.body
    return await call.do(
        200,
        lambda tx: pools.update_pool(
            tx,
            call.path["pool"],
            overcommit=None if body.overcommit is UNSET else body.overcommit,
            reserve=None if body.reserve is UNSET else body.reserve,
            backups=None if body.backups is UNSET else body.backups,
        ),
        Views.pool,
    )


async def remove(call: Call) -> Reply:
    """A pool is no longer known."""
    return await call.drop(lambda tx: pools.remove_pool(tx, call.path["pool"]))


async def index_types(call: Call) -> Reply:
    """All share types."""
    return await call.page(TypeRow, Views.type)


async def register_type(call: Call) -> Reply:
    """A share type is offered."""
    body: api.TypeCreate = call.body
    return await call.do(
        201,
        lambda tx: pools.register_type(tx, name=body.name, filesystem=body.filesystem, checksums=body.checksums),
        Views.type,
    )


async def show_type(call: Call) -> Reply:
    """One share type."""
    return await call.one(TypeRow, call.path["type"], Views.type)


async def remove_type(call: Call) -> Reply:
    """A share type is no longer offered."""
    return await call.drop(lambda tx: pools.remove_type(tx, call.path["type"]))
