"""Attachments: giving a guest a share, and taking it away."""

from __future__ import annotations

from collections.abc import Collection

from isthmus.model.attachment import Access, Mode
from isthmus.model.errors import Conflict, Exhausted, Invalid, NotFound, Refused
from isthmus.model.names import AttachmentId, new_id, parse_place, parse_uuid, places_overlap
from isthmus.model.status import AttachmentStatus, ShareStatus
from isthmus.service.domain import grants
from isthmus.store.rows import AttachmentRow, GuestRow, PoolRow, ShareRow
from isthmus.store.tx import ReadTx, Tx

MAX_SLOT = 65535
AUTO = "auto"


def attach(
    tx: Tx,
    *,
    share: str,
    guest: str,
    at: str | None = None,
    mode: str = AUTO,
    access: Access = Access.RW,
    sub_path: str = "",
    attachment_id: str | None = None,
    user: str = "",
    rule: str | None = None,
) -> AttachmentRow:
    """An attachment in ``attaching``, asked for by ``user``, or by an access ``rule``. With an ``attachment_id``
    that exists with this content already: that one.

    Raises ``NotFound`` also for a share of another project than the guest's; ``Conflict`` for a share that the guest
    has already, a place that is taken, or a share that is not available; ``Refused`` for what no host could keep.
    """
    chosen, why = _mode(mode)
    wanted = AttachmentId(parse_uuid(attachment_id, "id") if attachment_id is not None else new_id())
    machine = tx.get(GuestRow, parse_uuid(guest, "guest"))
    if machine is None:
        raise NotFound("guest", guest)
    subject = tx.get(ShareRow, parse_uuid(share, "share"))
    if subject is None or subject.project != machine.project:
        raise NotFound("share", share)
    place = _place(subject, at)
    known = tx.get(AttachmentRow, wanted)
    if known and (known.share, known.guest, known.place, known.mode, known.access) == (
        subject.id,
        machine.id,
        place,
        chosen,
        access,
    ):
        return known
    doing = f"attach share {subject.id} to guest {machine.id}"
    if known:
        raise Conflict(f"cannot {doing}: the id {wanted} belongs to another attachment", code="id-taken")
    _refuse_sub_path(sub_path, doing)
    others = tx.all(AttachmentRow, guest=machine.id)
    _check_place(others, subject, place, doing)
    _check_reach(tx, subject, machine, doing)
    slot = next_slot(machine.last_slot, {other.slot for other in others})
    attachment = tx.add(
        AttachmentRow(
            wanted, subject.id, machine.id, machine.project, slot, place, chosen, why, access, user=user, rule=rule
        ),
        "asked for",
    )
    tx.measure(machine, last_slot=slot)
    tx.wake(machine.host)
    return attachment


def detach(tx: Tx, attachment_id: str, *, by_rule: bool = False) -> AttachmentRow:
    """The attachment in ``detaching``. Raises ``Conflict`` for one that an access rule would bring back at once."""
    attachment = tx.need(AttachmentRow, attachment_id)
    if attachment.rule is not None and not by_rule:
        raise Conflict(
            f"cannot detach {attachment.id}: it comes from access rule {attachment.rule} of share {attachment.share}: "
            "deny that rule",
            code="attached-by-rule",
            detail={"rule": attachment.rule},
        )
    if attachment.status == AttachmentStatus.DETACHING:
        return attachment
    attachment = tx.want(tx.move(attachment, AttachmentStatus.DETACHING))
    grants.end_all(tx, attachment, grants.DETACHED)
    return attachment


def next_slot(last: int, taken: Collection[int]) -> int:
    """The first free slot after ``last``, going round: a slot is used again as late as can be, because guests may hold
    file handles of what was there. Raises ``Exhausted`` when all are taken."""
    for step in range(1, MAX_SLOT + 1):
        slot = (last + step - 1) % MAX_SLOT + 1
        if slot not in taken:
            return slot
    raise Exhausted(f"cannot attach: the guest has {MAX_SLOT} attachments", code="slots-exhausted")


def _mode(mode: str) -> tuple[Mode, str]:
    if mode == AUTO:
        return Mode.NFS, "auto chose nfs: every guest with an NFS 4.2 client can use it"
    if mode in set(Mode):
        return Mode(mode), ""
    raise Invalid(f"cannot use this mode: choose one of {', '.join([*Mode, AUTO])}", field="mode")


def _place(share: ShareRow, at: str | None) -> str:
    """The place asked for; else the share's name, where that can be one; else the share's id."""
    if at is not None:
        return parse_place(at)
    if share.name and "/" not in share.name:
        try:
            return parse_place(f"/{share.name}")
        except Invalid:
            pass  # a name is free text, and not every text is a path: the id always is
    return f"/{share.id}"


def _refuse_sub_path(sub_path: str, doing: str) -> None:
    if sub_path:
        raise Refused(
            f"cannot {doing} below a sub-path: over NFS that is no boundary, as a file handle reaches the whole share: "
            "make it a share of its own, or let the guest mount a directory below the place",
            code="sub-path-no-boundary",
            detail={"field": "sub_path"},
        )


def _check_place(others: Collection[AttachmentRow], share: ShareRow, place: str, doing: str) -> None:
    for other in others:
        facts = {"attachment": other.id, "at": other.place, "status": str(other.status)}
        if other.share == share.id:
            raise Conflict(
                f"cannot {doing}: the guest has it already: attachment {other.id} at {other.place} is {other.status}",
                code="attached-already",
                detail=facts,
            )
        if places_overlap(other.place, place):
            raise Conflict(
                f"cannot {doing} at {place}: attachment {other.id} is at {other.place}, and places do not overlap",
                code="place-taken",
                detail=facts,
            )


def _check_reach(tx: ReadTx, share: ShareRow, guest: GuestRow, doing: str) -> None:
    pool = tx.need(PoolRow, share.pool)
    if pool.host != guest.host:
        raise Refused(
            f"cannot {doing}: the guest is on host {guest.host}, and the disks of pool {pool.name} are on {pool.host}",
            code="pool-out-of-reach",
            detail={"pool": pool.name, "pool_host": pool.host, "guest_host": guest.host},
        )
    if share.status != ShareStatus.AVAILABLE:
        raise Conflict(
            f"cannot {doing}: the share is {share.status}",
            code="illegal-status",
            detail={"share": share.id, "status": str(share.status)},
        )
