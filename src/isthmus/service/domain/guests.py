"""Guests: the virtual machines that shares may be attached to."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from isthmus.model.errors import Conflict, Invalid
from isthmus.model.names import GuestId, HostName, parse_project, parse_slug, parse_title, parse_uuid
from isthmus.service.domain import rules
from isthmus.service.domain.hosts import listed
from isthmus.store.records import RuleRow
from isthmus.store.rows import AttachmentRow, GuestRow, HostRow
from isthmus.store.tx import Tx

MAX_ADDRESSES = 64
_NOBODY = "00000000-0000-0000-0000-000000000000"


def register_guest(
    tx: Tx,
    *,
    guest_id: str,
    project: str,
    host: str,
    name: str = "",
    static: bool = False,
    addresses: Collection[str] = (),
) -> GuestRow:
    """The guest is known, and access rules that choose it hold. The same again is success, another of this id
    ``Conflict``."""
    wanted = GuestRow(
        id=GuestId(parse_uuid(guest_id, "id")),
        project=parse_project(project),
        host=HostName(parse_slug(host, "host")),
        name=parse_title(name),
        static=static,
        addresses=parse_addresses(addresses),
    )
    if wanted.id == _NOBODY:
        raise Invalid("cannot use the nil UUID as id: give the one that the hypervisor knows the guest by", field="id")
    tx.need(HostRow, wanted.host)
    known = tx.get(GuestRow, wanted.id)
    if known and _identity(known) == _identity(wanted):
        return known
    if known:
        raise Conflict(
            f"cannot register guest {wanted.id}: it is known already, of project {known.project} on host {known.host}",
            code="id-taken",
            detail={"guest": wanted.id},
        )
    guest = tx.add(wanted, "registered")
    tx.wake(guest.host)
    rules.reconcile_project(tx, guest.project)
    return tx.need(GuestRow, guest.id)


def update_guest(
    tx: Tx,
    guest_id: str,
    *,
    name: str | None = None,
    static: bool | None = None,
    addresses: Collection[str] | None = None,
) -> GuestRow:
    """The guest with these values. Access rules choose by its new addresses."""
    guest = tx.need(GuestRow, guest_id)
    changed = tx.change(
        guest,
        name=guest.name if name is None else parse_title(name),
        static=guest.static if static is None else static,
        addresses=guest.addresses if addresses is None else parse_addresses(addresses),
    )
    if changed is not guest:
        tx.wake(guest.host)
    if changed.addresses != guest.addresses:
        rules.reconcile_project(tx, guest.project)
    return tx.need(GuestRow, guest.id)


def remove_guest(tx: Tx, guest_id: str) -> None:
    """The guest is no longer known, and what it had by access rules is taken down. Raises ``Conflict`` while it has
    attachments of its own."""
    guest = tx.need(GuestRow, guest_id)
    for row in tx.all(AttachmentRow, guest=guest.id):
        if row.rule is not None:
            rules.cut(tx, row)
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
    gone = [rule for rule in tx.all(RuleRow, project=guest.project) if rule.denied or rule.to == guest.id]
    for rule in gone:
        if not tx.all(AttachmentRow, rule=rule.id):
            rules.forget(tx, rule)


def parse_addresses(texts: Collection[str]) -> frozenset[str]:
    """IP addresses in their canonical form. Raises ``Invalid``."""
    if len(texts) > MAX_ADDRESSES:
        raise Invalid(f"cannot take more than {MAX_ADDRESSES} addresses of a guest", field="addresses")
    try:
        return frozenset(str(ipaddress.ip_address(text)) for text in texts)
    except ValueError as error:
        raise Invalid(f"cannot use this address of a guest: {error}", field="addresses") from error


def _identity(guest: GuestRow) -> tuple[object, ...]:
    return (guest.project, guest.host, guest.name, guest.static, guest.addresses)
