"""What comes due by itself: shares leave the recycle bin for good, offers to transfer end, messages are forgotten."""

from __future__ import annotations

import asyncio
import logging

from isthmus.model.errors import IsthmusError
from isthmus.service.domain import rules, transfers
from isthmus.service.domain import shares as domain
from isthmus.service.service import Service
from isthmus.store.query import Query
from isthmus.store.records import MessageRow, TransferRow
from isthmus.store.rows import ShareRow
from isthmus.store.tx import ReadTx, Tx

EVERY = 60.0
"""Seconds between two looks."""
AT_ONCE = 100
"""Objects of each kind that one transaction deals with."""

log = logging.getLogger(__name__)


def is_due(tx: ReadTx) -> bool:
    """Whether there is anything to do."""
    if any(row.expires_at <= tx.now for row in tx.all(TransferRow)):
        return True
    if tx.page(MessageRow, Query(due=("expires_at", tx.now), limit=1)):
        return True
    return bool(tx.page(ShareRow, Query(due=("deleted_until", tx.now), limit=1)))


def run_due(tx: Tx) -> None:
    """What has come due is done."""
    for offer in tx.all(TransferRow):
        if offer.expires_at <= tx.now:
            transfers.withdraw(tx, offer)
    for message in tx.page(MessageRow, Query(due=("expires_at", tx.now), limit=AT_ONCE)):
        tx.remove(message)
    for share in tx.page(ShareRow, Query(due=("deleted_until", tx.now), limit=AT_ONCE)):
        if str(share.status) == "deleting":
            continue
        try:
            rules.cut_share(tx, share)
            domain.delete_share(tx, share.id)
        except IsthmusError as error:
            log.warning("cannot empty the recycle bin of share %s yet: %s", share.id, error)


async def keep(service: Service) -> None:
    """Look again and again, until cancelled."""
    while True:
        try:
            if await service.read(is_due):
                await service.write(run_due)
        except IsthmusError as error:
            log.warning("cannot do what has come due: %s", error)
        await asyncio.sleep(EVERY)
