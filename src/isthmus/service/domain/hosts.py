"""Hosts: registering them, and the document of all that should be on one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from isthmus.model.attachment import AttachmentSpec
from isthmus.model.desired import Desired
from isthmus.model.errors import Conflict, Invalid
from isthmus.model.guest import GuestSpec
from isthmus.model.names import HostName, parse_slug, parse_title
from isthmus.model.share import Origin, Pool, Revert, ShareGone, ShareSpec, SnapshotGone, SnapshotSpec
from isthmus.model.status import AttachmentStatus, ShareStatus, SnapshotStatus
from isthmus.service.domain import authorities, grants
from isthmus.store.rows import (
    ZONE,
    AttachmentRow,
    CertificateRow,
    GuestRow,
    HostRow,
    PoolRow,
    ShareRow,
    SnapshotRow,
    TokenRow,
)
from isthmus.store.tx import ReadTx, Tx

REMOVED = "its host was removed"


def register_host(tx: Tx, name: str, zone: str | None = None) -> HostRow:
    """The host is known, in this availability zone (None: as before, at first the default one). One that is known
    already is success."""
    name = parse_slug(name, "name")
    if zone is not None and not (zone := parse_title(zone, "zone").strip()):
        raise Invalid("cannot use an availability zone without a name", field="zone")
    known = tx.get(HostRow, name)
    if known is not None:
        return known if zone is None else tx.change(known, zone=zone)
    return tx.add(HostRow(HostName(name), desired=tx.advance(), zone=zone or ZONE), "registered")


def remove_host(tx: Tx, name: str) -> None:
    """The host is no longer known, and its certificates and tokens are good for no later host of that name. Raises
    ``Conflict`` while it has pools or guests."""
    host = tx.need(HostRow, name)
    pools = [pool.name for pool in tx.all(PoolRow, host=name)]
    guests = [guest.id for guest in tx.all(GuestRow, host=name)]
    if pools or guests:
        raise Conflict(
            f"cannot remove host {name}: it has {listed('pool', pools)} and {listed('guest', guests)}: "
            "remove these first",
            code="host-in-use",
            detail={"host": name, "pools": len(pools), "guests": len(guests)},
        )
    for certificate in tx.all(CertificateRow, host=name, ended_at=None):
        tx.change(certificate, ended_at=tx.now, reason=REMOVED)
    for token in tx.all(TokenRow, host=name):
        tx.remove(token)
    tx.remove(host)


def desired_document(tx: ReadTx, name: str) -> Desired:
    """All that should be on the host. Raises ``NotFound`` for a host that is not registered."""
    host = tx.need(HostRow, name)
    pools = tx.all(PoolRow, host=name)
    guests = tx.all(GuestRow, host=name)
    shares = placed_shares(tx, pools)
    snapshots = tx.all(SnapshotRow, share=[share.id for share in shares])
    attachments = tx.all(AttachmentRow, guest=[guest.id for guest in guests])
    granted, revoked = grants.documented(tx, host.name, attachments)
    return Desired(
        host=host.name,
        revision=host.desired,
        pools=tuple(pool_spec(pool) for pool in pools),
        shares=tuple(share_spec(share) for share in shares if share.status != ShareStatus.DELETING),
        doomed_shares=tuple(
            ShareGone(share.id, share.pool) for share in shares if share.status == ShareStatus.DELETING
        ),
        snapshots=tuple(
            SnapshotSpec(snapshot.id, snapshot.share, snapshot.made)
            for snapshot in snapshots
            if snapshot.status != SnapshotStatus.DELETING
        ),
        doomed_snapshots=tuple(
            SnapshotGone(snapshot.id, snapshot.share)
            for snapshot in snapshots
            if snapshot.status == SnapshotStatus.DELETING
        ),
        guests=tuple(GuestSpec(guest.id, guest.project, guest.host, guest.name, guest.static) for guest in guests),
        attachments=tuple(
            attachment_spec(attachment) for attachment in attachments if attachment.status != AttachmentStatus.DETACHING
        ),
        grants=granted,
        authorities=authorities.documented(tx),
        revoked=revoked,
    )


def placed_shares(tx: ReadTx, pools: Iterable[PoolRow]) -> list[ShareRow]:
    """The shares that are in these pools, or shall be: not those that were refused by all."""
    return [share for share in tx.all(ShareRow, pool=[pool.name for pool in pools]) if share.placed]


def zones(tx: ReadTx) -> set[str]:
    """The availability zones that hosts are in."""
    return {host.zone for host in tx.all(HostRow)}


def pool_spec(pool: PoolRow) -> Pool:
    """The pool as its driver gets it."""
    made = pool.total is not None
    return Pool(pool.name, pool.driver, pool.host, pool.path, pool.overcommit, pool.reserve, made)


def share_spec(share: ShareRow) -> ShareSpec:
    """The share as its driver gets it."""
    return ShareSpec(
        id=share.id,
        pool=share.pool,
        size=share.size,
        filesystem=share.filesystem,
        checksums=share.checksums,
        origin=Origin(share.origin_share, share.origin_snapshot) if share.origin_share else None,
        revert=Revert(share.revert_to, share.reverts) if share.revert_to else None,
        made=share.made,
        project=share.project,
    )


def attachment_spec(attachment: AttachmentRow) -> AttachmentSpec:
    """The attachment as its gateway gets it."""
    return AttachmentSpec(
        id=attachment.id,
        share=attachment.share,
        guest=attachment.guest,
        slot=attachment.slot,
        at=attachment.place,
        mode=attachment.mode,
        access=attachment.access,
    )


def listed(noun: str, names: Sequence[str], most: int = 3) -> str:
    """``2 shares (a, b)``: a count and the first few names, for a sentence."""
    if not names:
        return f"no {noun}s"
    shown = ", ".join(names[:most]) + (", ..." if len(names) > most else "")
    return f"{len(names)} {noun}{'s' if len(names) > 1 else ''} ({shown})"
