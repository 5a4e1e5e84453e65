"""Handing a share over to another project: one side offers it, whoever has the key takes it."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import secrets

from isthmus.model.errors import Conflict, Invalid
from isthmus.model.names import ProjectId, new_id, parse_title
from isthmus.model.status import ShareStatus
from isthmus.service.domain import locks, quotas, rules
from isthmus.service.domain.hosts import listed
from isthmus.store.records import TransferRow
from isthmus.store.rows import AttachmentRow, PoolRow, ShareRow, SnapshotRow, TypeRow
from isthmus.store.tx import Tx

LIFETIME = datetime.timedelta(minutes=5)
AWAITING = "awaiting_transfer"


def offer(tx: Tx, share_id: str, name: str) -> tuple[TransferRow, str]:
    """A transfer, and the key to take it by, which is not kept. Raises ``Conflict`` for a share that is not
    available."""
    share = tx.need(ShareRow, share_id)
    doing = f"transfer share {share.id}"
    if share.status != ShareStatus.AVAILABLE or share.shown or share.deleted_until:
        raise Conflict(f"cannot {doing}: it is {share.shown or share.status}", code="illegal-status")
    if share.group or share.network:
        raise Conflict(f"cannot {doing}: it is in a share group or a share network", code="share-attached")
    locks.check(tx, [share.id], doing)
    key, salt = secrets.token_hex(16), secrets.token_hex(8)
    row = TransferRow(new_id(), share.project, share.id, parse_title(name), salt, _digest(salt, key), tx.now + LIFETIME)
    tx.change(share, shown=AWAITING)
    return tx.add(row), key


def withdraw(tx: Tx, transfer: TransferRow) -> None:
    """The share is no longer on offer."""
    share = tx.get(ShareRow, transfer.share)
    if share is not None and share.shown == AWAITING:
        tx.change(share, shown="")
    tx.remove(transfer)


def take(tx: Tx, transfer_id: str, key: str, project: ProjectId, user: str, *, clear: bool) -> TransferRow:
    """The share is the project's, with its snapshots. ``tx`` reaches everybody's objects: the key is the right.

    Raises ``Invalid`` for a transfer or key that is not good (in the same words), ``Conflict`` while the share has
    access rules unless they are to be cleared, ``OverQuota``.
    """
    row = tx.get(TransferRow, transfer_id)
    if row is None or row.expires_at <= tx.now or not hmac.compare_digest(row.digest, _digest(row.salt, key)):
        raise Invalid("cannot accept this transfer: there is none, its key is another, or its time is over")
    share = tx.need(ShareRow, row.share)
    doing = f"accept share {share.id}"
    if share.shown != AWAITING:
        raise Conflict(f"cannot {doing}: it is {share.shown or share.status}", code="illegal-status")
    if clear:
        rules.cut_share(tx, share)
    left = [one.id for one in tx.all(AttachmentRow, share=share.id)]
    if left:
        raise Conflict(
            f"cannot {doing}: it has {listed('attachment', left)}: have its owner deny access first, or clear the "
            "access rules as it is accepted",
            code="share-attached",
        )
    for rule in () if clear else rules.of_share(tx, share):
        rules.forget(tx, rule)
    kind = tx.need(TypeRow, share.type)
    snapshots = tx.all(SnapshotRow, share=share.id)
    quotas.check(tx, doing, project, user=user, type_id=kind.uuid, shares=1, gigabytes=quotas.gib(share.size))
    snapshot_sizes = sum(quotas.gib(one.size) for one in snapshots)
    quotas.check(tx, doing, project, user=user, snapshots=len(snapshots), snapshot_gigabytes=snapshot_sizes)
    tx.change(share, project=project, user=user, shown="")
    for snapshot in snapshots:
        tx.change(snapshot, project=project, user=user)
    tx.wake(tx.need(PoolRow, share.pool).host)
    tx.remove(row)
    return row


def _digest(salt: str, key: str) -> str:
    return hashlib.sha256(f"{salt}{key}".encode()).hexdigest()
