"""Hosts, and the two documents that their agents exchange."""

from __future__ import annotations

from msgspec import UNSET

from isthmus.model.desired import Report
from isthmus.model.errors import Invalid
from isthmus.model.names import HostName
from isthmus.service.call import Call, Reply
from isthmus.service.domain import hosts
from isthmus.service.views import Views
from isthmus.store.rows import HostRow
from isthmus.wire import api


async def index(call: Call) -> Reply:
    """All hosts."""
    return await call.page(HostRow, Views.host)


async def register(call: Call) -> Reply:
    """A host is known."""
    body: api.HostCreate = call.body
    return await call.do(
        201, lambda tx: hosts.register_host(tx, body.name, None if body.zone is UNSET else body.zone), Views.host
    )


async def show(call: Call) -> Reply:
    """One host."""
    return await call.one(HostRow, call.path["host"], Views.host)


async def remove(call: Call) -> Reply:
    """A host is no longer known."""
    return await call.drop(lambda tx: hosts.remove_host(tx, call.path["host"]))


async def desired(call: Call) -> Reply:
    """The host's document, as soon as it is another."""
    host = HostName(call.path["host"])
    wait = call.seconds if "after" in call.query else 0
    document = await call.service.desired(host, call.query.get("after", -1), wait)
    return Reply(204) if document is None else Reply(200, document)


async def report(call: Call) -> Reply:
    """What is on the host."""
    told: Report = call.body
    if told.host != call.path["host"]:
        raise Invalid(f"cannot take a report of another host than {call.path['host']}", field="host")
    await call.service.report(told)
    return Reply(204)
