"""Hosts: registering them, and the document of all that should be on one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from isthmus.model.attachment import AttachmentSpec
from isthmus.model.desired import Desired
from isthmus.model.errors import Conflict, Invalid
from isthmus.model.guest import GuestSpec
from isthmus.model.names import HostName, ShareId, parse_slug, parse_title
from isthmus.model.share import Fill, Origin, Pool, Revert, ShareGone, ShareSpec, SnapshotGone, SnapshotSpec
from isthmus.model.status import AttachmentStatus, ShareStatus, SnapshotStatus
from isthmus.service.domain import authorities, grants
from isthmus.store.rows import (
    ZONE,
    AttachmentRow,
    CertificateRow,
    CopyRow,
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
    copies = tx.all(CopyRow, pool=[pool.name for pool in pools])
    volumes = {share.id: share.volume_id for share in shares}
    leaving = {copy.share for copy in copies if copy.is_final}
    snapshots = tx.all(SnapshotRow, share=[share.id for share in shares])
    attachments = tx.all(AttachmentRow, guest=[guest.id for guest in guests])
    granted, revoked = grants.documented(tx, host.name, attachments)
    return Desired(
        host=host.name,
        revision=host.desired,
        pools=tuple(pool_spec(pool) for pool in pools),
        shares=(
            *(
                share_spec(share, volumes, frozen=share.id in leaving)
                for share in shares
                if share.status != ShareStatus.DELETING
            ),
            *(copy_spec(copy) for copy in copies if copy.status != ShareStatus.DELETING),
        ),
        doomed_shares=(
            *(ShareGone(share.volume_id, share.pool) for share in shares if share.status == ShareStatus.DELETING),
            *(ShareGone(copy.volume, copy.pool) for copy in copies if copy.status == ShareStatus.DELETING),
        ),
        snapshots=tuple(
            SnapshotSpec(snapshot.id, volumes[snapshot.share], snapshot.made)
            for snapshot in snapshots
            if snapshot.status != SnapshotStatus.DELETING
        ),
        doomed_snapshots=tuple(
            SnapshotGone(snapshot.id, volumes[snapshot.share])
            for snapshot in snapshots
            if snapshot.status == SnapshotStatus.DELETING
        ),
        guests=tuple(GuestSpec(guest.id, guest.project, guest.host, guest.name, guest.static) for guest in guests),
        attachments=tuple(
            attachment_spec(attachment, volumes)
            for attachment in attachments
            if attachment.status != AttachmentStatus.DETACHING
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


def share_spec(share: ShareRow, volumes: Mapping[ShareId, ShareId], *, frozen: bool = False) -> ShareSpec:
    """The share as its driver gets it. ``volumes``: those of the host's shares."""
    origin, fill, revert = None, None, None
    if share.origin_share:
        origin = Origin(volumes.get(share.origin_share, share.origin_share), share.origin_snapshot)
    if share.fill_from and share.fill_pool:
        fill = Fill(share.fill_from, share.fill_pool, share.reverts)
    elif share.revert_to:
        revert = Revert(share.revert_to, share.reverts)
    return ShareSpec(
        id=share.volume_id,
        pool=share.pool,
        size=share.size,
        filesystem=share.filesystem,
        checksums=share.checksums,
        origin=origin,
        revert=revert,
        made=share.made,
        project=share.project,
        fill=fill,
        frozen=frozen,
        adopt=share.adopt,
        serves=share.id if share.volume else None,
    )


def copy_spec(copy: CopyRow) -> ShareSpec:
    """The copy as its driver gets it: a share that nothing attaches."""
    return ShareSpec(
        id=copy.volume,
        pool=copy.pool,
        size=copy.size,
        filesystem=copy.filesystem,
        checksums=copy.checksums,
        made=copy.made,
        project=copy.project,
        fill=Fill(copy.source, copy.source_pool, copy.rounds),
        serves=copy.share,
    )


def attachment_spec(attachment: AttachmentRow, volumes: Mapping[ShareId, ShareId]) -> AttachmentSpec:
    """The attachment as its gateway gets it."""
    return AttachmentSpec(
        id=attachment.id,
        share=volumes.get(attachment.share, attachment.share),
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
