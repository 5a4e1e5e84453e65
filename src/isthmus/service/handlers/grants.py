"""Grants: asking for them, and what became of them."""

from __future__ import annotations

from isthmus.model.names import AttachmentId, HostName
from isthmus.service.call import Call, Reply
from isthmus.service.domain import grants
from isthmus.service.views import Views, grant
from isthmus.store.rows import GrantRow
from isthmus.wire import api


async def sign(call: Call) -> Reply:
    """The host's attachments get grants with its next document."""
    body: api.GrantsAsked = call.body
    requests = {AttachmentId(name): request for name, request in body.requests.items()}
    refused = await call.service.sign(HostName(call.path["host"]), requests, call.caller)
    return Reply(200, api.GrantsAnswered(refused={str(name): reason for name, reason in refused.items()}))


async def index(call: Call) -> Reply:
    """All grants that have not come to the end of their time."""
    return await call.page(GrantRow, lambda _, row: grant(row))


async def show(call: Call) -> Reply:
    """One grant."""
    return Reply(200, await call.read(lambda tx: grant(tx.need(GrantRow, call.path["grant"]))))


async def revoke(call: Call) -> Reply:
    """An attachment has no grant, and gets none."""
    reason = call.query.get("reason", "")
    return await call.do(200, lambda tx: grants.revoke(tx, call.path["attachment"], reason), Views.attachment)


async def renew(call: Call) -> Reply:
    """An attachment may have grants, and gets a new one."""
    return await call.do(200, lambda tx: grants.allow(tx, call.path["attachment"]), Views.attachment)
