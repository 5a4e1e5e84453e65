"""Grants: signing them, ending them, and what of them a host's document holds."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping

from isthmus.model.errors import Conflict, Invalid
from isthmus.model.grant import Grant
from isthmus.model.names import AttachmentId, HostName
from isthmus.model.status import AttachmentStatus
from isthmus.pki.facts import facts_of
from isthmus.pki.request import read_request
from isthmus.service.domain.words import plain
from isthmus.service.signing import Signer
from isthmus.store.rows import AttachmentRow, GrantRow, GuestRow, ShareRow
from isthmus.store.tx import ReadTx, Tx

MOST_REQUESTS = 100
"""Requests that are taken at once."""

SUPERSEDED = "another took its place"
DETACHED = "the share was detached"
HOST_REVOKED = "its host was revoked"


def issue(
    tx: Tx, signer: Signer, host: HostName, requests: Mapping[AttachmentId, bytes], lifetime: datetime.timedelta
) -> dict[AttachmentId, str]:
    """Grants for these attachments of ``host``, on these requests (PKCS #10), are in its next document. Returns why
    those that are not are not; an attachment of another host is refused in the words for one that does not exist.
    Grants whose time is over are forgotten: renewals never end, so what is kept is in proportion to what is in force.

    Raises ``Invalid`` for more than ``MOST_REQUESTS``, ``Unavailable`` while nothing can be signed.
    """
    if len(requests) > MOST_REQUESTS:
        raise Invalid(f"cannot sign: more than {MOST_REQUESTS} requests at once", field="requests")
    attachments = {row.id: row for row in tx.all(AttachmentRow, id=list(requests))}
    guests = {row.id: row for row in tx.all(GuestRow, id=[row.guest for row in attachments.values()])}
    shares = {row.id: row for row in tx.all(ShareRow, id=[row.share for row in attachments.values()])}
    live = _live(tx, attachments)
    refused: dict[AttachmentId, str] = {}
    for name, request in requests.items():
        row = attachments.get(name)
        try:
            if row is None or guests[row.guest].host != host:
                raise Conflict(f"cannot sign: host {host} has no attachment {plain(name, 64)}")
            _sign(
                tx,
                signer,
                row,
                guests[row.guest],
                shares[row.share],
                request=request,
                live=live.get(row.id, ()),
                lifetime=lifetime,
            )
        except (Conflict, Invalid) as error:
            refused[name] = error.message
    if len(refused) < len(requests):
        tx.wake(host)
    prune(tx)
    return refused


def _sign(
    tx: Tx,
    signer: Signer,
    row: AttachmentRow,
    guest: GuestRow,
    share: ShareRow,
    *,
    request: bytes,
    live: Iterable[GrantRow],
    lifetime: datetime.timedelta,
) -> None:
    check(row, guest, share)
    # It does not go back even when the database does: whatever was given out before, the clock is beyond it.
    sequence = max(int(tx.now.timestamp() * 1000), row.sequence + 1)
    grant = Grant(
        attachment=row.id,
        sequence=sequence,
        project=row.project,
        share=share.id,
        place=row.place,
        pool=share.pool,
        volume=share.volume_id,
        guest=guest.id,
        host=guest.host,
        mode=row.mode,
        access=row.access,
    )
    certificate = signer.sign_grant(grant, read_request(request), now=tx.now, lifetime=lifetime)
    facts = facts_of(certificate)
    for old in live:
        tx.change(old, ended_at=tx.now, reason=SUPERSEDED)
    tx.change(row, sequence=sequence)
    tx.add(
        GrantRow(
            serial=facts.serial,
            attachment=row.id,
            share=share.id,
            guest=guest.id,
            project=row.project,
            host=guest.host,
            sequence=sequence,
            certificate=certificate,
            not_after=facts.not_after,
        )
    )


def check(row: AttachmentRow, guest: GuestRow, share: ShareRow) -> None:
    """Compare once more whose all this is, whatever was compared when it was attached. Raises ``Conflict``."""
    if row.status == AttachmentStatus.DETACHING:
        raise Conflict(f"cannot sign: attachment {row.id} is being detached")
    if row.barred:
        raise Conflict(f"cannot sign: the grant of attachment {row.id} was revoked: {row.barred}")
    if not row.project == guest.project == share.project:
        raise Conflict(
            f"cannot sign: attachment {row.id} joins a guest and a share of different projects "
            f"({guest.project}, {share.project})"
        )


def revoke(tx: Tx, attachment_id: str, reason: str = "") -> AttachmentRow:
    """The attachment's grant has ended, and it gets no other until ``allow``."""
    row = tx.need(AttachmentRow, attachment_id)
    reason = plain(reason, 200) or "revoked"
    end_all(tx, row, reason)
    return tx.change(row, barred=reason)


def allow(tx: Tx, attachment_id: str) -> AttachmentRow:
    """The attachment may have grants again. The one that it has, if any, is no longer in its host's document, so the
    agent asks for another; what it has goes on serving until that is there."""
    row = tx.need(AttachmentRow, attachment_id)
    if row.status == AttachmentStatus.DETACHING:
        raise Conflict(
            f"cannot renew the grant of attachment {row.id}: it is being detached",
            code="illegal-status",
            detail={"attachment": row.id, "status": str(row.status)},
        )
    end_all(tx, row, SUPERSEDED)
    return tx.change(row, barred="")


def end_all(tx: Tx, attachment: AttachmentRow, reason: str) -> None:
    """No grant of the attachment is in force; its host hears of it."""
    for grant in tx.all(GrantRow, attachment=attachment.id, ended_at=None):
        tx.change(grant, ended_at=tx.now, reason=reason)
    guest = tx.need(GuestRow, attachment.guest)
    tx.wake(guest.host)


def end_of_host(tx: Tx, host: HostName, reason: str = HOST_REVOKED) -> None:
    """No grant of the host is in force."""
    for grant in tx.all(GrantRow, host=host, ended_at=None):
        tx.change(grant, ended_at=tx.now, reason=reason)
    tx.wake(host)


def prune(tx: Tx) -> int:
    """Grants that would have ended by now are forgotten. Returns how many."""
    return tx.expire(GrantRow)


def documented(
    tx: ReadTx, host: HostName, attachments: Iterable[AttachmentRow]
) -> tuple[dict[AttachmentId, bytes], tuple[str, ...]]:
    """The grants in force of these attachments, and the serial numbers of those that ended before their time."""
    rows = [row for row in attachments if row.status != AttachmentStatus.DETACHING]
    wanted, barred = {row.id for row in rows}, {row.id for row in rows if row.barred}
    newest: dict[AttachmentId, GrantRow] = {}
    revoked = []
    for grant in tx.all(GrantRow, host=host):
        if grant.attachment not in wanted or grant.not_after <= tx.now:
            continue
        if grant.ended_at is None:
            best = newest.get(grant.attachment)
            newest[grant.attachment] = grant if best is None or grant.sequence > best.sequence else best
        elif grant.reason != SUPERSEDED or grant.attachment in barred:  # the host may not have seen what superseded it
            revoked.append(grant.serial)
    return {name: grant.certificate for name, grant in sorted(newest.items())}, tuple(sorted(revoked))


def _live(tx: ReadTx, attachments: Iterable[AttachmentId]) -> Mapping[AttachmentId, list[GrantRow]]:
    found: dict[AttachmentId, list[GrantRow]] = {}
    for grant in tx.all(GrantRow, attachment=list(attachments), ended_at=None):
        found.setdefault(grant.attachment, []).append(grant)
    return found
