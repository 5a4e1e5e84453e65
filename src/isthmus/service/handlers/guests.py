"""Guests and their attachments."""

from __future__ import annotations

from msgspec import UNSET

from isthmus.service.call import Call, Reply
from isthmus.service.domain import attachments, guests
from isthmus.service.views import Views
from isthmus.store.rows import AttachmentRow, GuestRow
from isthmus.wire import api


async def index(call: Call) -> Reply:
    """All guests."""
    return await call.page(GuestRow, Views.guest)


async def register(call: Call) -> Reply:
    """A guest is known."""
    body: api.GuestCreate = call.body
    return await call.do(
        201,
        lambda tx: guests.register_guest(
            tx,
            guest_id=body.id,
            project=body.project,
            host=body.host,
            name=body.name,
            static=body.static,
            addresses=body.addresses,
        ),
        Views.guest,
    )


async def show(call: Call) -> Reply:
    """One guest."""
    return await call.one(GuestRow, call.path["guest"], Views.guest)


async def update(call: Call) -> Reply:
    """A guest with other values."""
    body: api.GuestPatch = call.body
    return await call.do(
        200,
        lambda tx: guests.update_guest(
            tx,
            call.path["guest"],
            name=None if body.name is UNSET else body.name,
            static=None if body.static is UNSET else body.static,
            addresses=None if body.addresses is UNSET else body.addresses,
        ),
        Views.guest,
    )


async def remove(call: Call) -> Reply:
    """A guest is no longer known."""
    return await call.drop(lambda tx: guests.remove_guest(tx, call.path["guest"]))


async def index_attachments(call: Call) -> Reply:
    """All attachments."""
    return await call.page(AttachmentRow, Views.attachment)


async def attach(call: Call) -> Reply:
    """A guest begins to get a share."""
    body: api.AttachmentCreate = call.body
    return await call.do(
        202,
        lambda tx: attachments.attach(
            tx,
            share=body.share,
            guest=body.guest,
            at=body.at,
            mode=body.mode,
            access=body.access,
            sub_path=body.sub_path,
            attachment_id=body.id,
            user=call.caller.user,
        ),
        Views.attachment,
    )


async def show_attachment(call: Call) -> Reply:
    """One attachment."""
    return await call.one(AttachmentRow, call.path["attachment"], Views.attachment)


async def detach(call: Call) -> Reply:
    """A share begins to be taken from a guest."""
    return await call.do(202, lambda tx: attachments.detach(tx, call.path["attachment"]), Views.attachment)
