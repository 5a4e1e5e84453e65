"""What comes due by itself: shares leave the recycle bin for good, offers to transfer end, messages are forgotten."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TypeVar

from isthmus.model.errors import IsthmusError
from isthmus.model.status import ShareStatus
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

TIMES: Mapping[type, str] = {TransferRow: "expires_at", MessageRow: "expires_at", ShareRow: "deleted_until"}
"""By kind, the column that says when."""
Due = TypeVar("Due", TransferRow, MessageRow, ShareRow)

log = logging.getLogger(__name__)


def due(tx: ReadTx, kind: type[Due], most: int = AT_ONCE) -> list[Due]:
    """Those of this kind whose time has come."""
    return tx.page(kind, Query(due=(TIMES[kind], tx.now), limit=most))


def is_due(tx: ReadTx) -> bool:
    """Whether there is anything to do."""
    return any(due(tx, kind, 1) for kind in TIMES)


def run_due(tx: Tx) -> None:
    """What has come due is done."""
    for offer in due(tx, TransferRow):
        transfers.withdraw(tx, offer)
    for message in due(tx, MessageRow):
        tx.remove(message)
    for share in due(tx, ShareRow):
        if share.status == ShareStatus.DELETING:
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
