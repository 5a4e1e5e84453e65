"""Guests: the virtual machines that shares may be attached to."""

from __future__ import annotations

from isthmus.model.errors import Conflict, Invalid
from isthmus.model.names import GuestId, HostName, parse_project, parse_slug, parse_title, parse_uuid
from isthmus.service.domain.hosts import listed
from isthmus.store.rows import AttachmentRow, GuestRow, HostRow
from isthmus.store.tx import Tx

_NOBODY = "00000000-0000-0000-0000-000000000000"


def register_guest(tx: Tx, *, guest_id: str, project: str, host: str, name: str = "", static: bool = False) -> GuestRow:
    """The guest is known. The same again is success, another of this id ``Conflict``."""
    wanted = GuestRow(
        id=GuestId(parse_uuid(guest_id, "id")),
        project=parse_project(project),
        host=HostName(parse_slug(host, "host")),
        name=parse_title(name),
        static=static,
    )
    if wanted.id == _NOBODY:
        raise Invalid("cannot use the nil UUID as id: give the one that the hypervisor knows the guest by", field="id")
    tx.need(HostRow, wanted.host)
    known = tx.get(GuestRow, wanted.id)
    if known and (known.project, known.host, known.name, known.static) == (
        wanted.project,
        wanted.host,
        wanted.name,
        wanted.static,
    ):
        return known
    if known:
        raise Conflict(
            f"cannot register guest {wanted.id}: it is known already, of project {known.project} on host {known.host}",
            code="id-taken",
            detail={"guest": wanted.id},
        )
    guest = tx.add(wanted, "registered")
    tx.wake(guest.host)
    return guest


def update_guest(tx: Tx, guest_id: str, *, name: str | None = None, static: bool | None = None) -> GuestRow:
    """The guest with these values."""
    guest = tx.need(GuestRow, guest_id)
    changed = tx.change(
        guest,
        name=guest.name if name is None else parse_title(name),
        static=guest.static if static is None else static,
    )
    if changed is not guest:
        tx.wake(guest.host)
    return changed


def remove_guest(tx: Tx, guest_id: str) -> None:
    """The guest is no longer known. Raises ``Conflict`` while it has attachments."""
    guest = tx.need(GuestRow, guest_id)
    attachments = [row.id for row in tx.all(AttachmentRow, guest=guest.id)]
    if attachments:
        raise Conflict(
            f"cannot remove guest {guest.id}: it has {listed('attachment', attachments)}: detach these first",
            code="guest-in-use",
            detail={"guest": guest.id, "attachments": len(attachments)},
        )
    tx.remove(guest)
    tx.wake(guest.host)
