"""User messages: why something that was asked for failed, kept for a month (see ``service.chores``)."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from enum import Enum

from isthmus.model.names import new_id
from isthmus.service.domain.words import plain
from isthmus.store.records import MessageRow
from isthmus.store.rows import AttachmentRow, ShareRow, SnapshotRow
from isthmus.store.tx import Tx

LIFETIME = datetime.timedelta(days=30)


class Action(Enum):
    """What failed: the API's code and word."""

    ALLOCATE = ("001", "allocate host")
    CREATE = ("002", "create")
    UPDATE = ("005", "update")
    REVERT = ("006", "revert to snapshot")
    DELETE = ("007", "delete")
    EXTEND = ("008", "extend")
    SHRINK = ("009", "shrink")
    RULES = ("010", "update access rules")


class Detail(Enum):
    """Why, as far as the API has codes for it."""

    UNKNOWN = "001"
    NO_POOL = "002"


_WORDS: Mapping[str, str] = {action.value[0]: action.value[1] for action in Action}


def tell(
    tx: Tx,
    about: ShareRow | SnapshotRow | AttachmentRow,
    action: Action,
    reason: str,
    *,
    detail: Detail = Detail.UNKNOWN,
    request: str = "",
) -> MessageRow:
    """The owner of the object can read why ``action`` failed on it."""
    kind = "SHARE_SNAPSHOT" if isinstance(about, SnapshotRow) else "SHARE"
    return tx.add(
        MessageRow(
            new_id(),
            about.project,
            kind,
            about.share if isinstance(about, AttachmentRow) else about.id,
            action.value[0],
            detail.value,
            plain(reason),
            tx.now + LIFETIME,
            request,
        )
    )


def sentence(row: MessageRow) -> str:
    """The message for a person."""
    return f"{_WORDS.get(row.action, 'operation')}: {row.text}"


def of_failed_share(tx: Tx, share: ShareRow, reason: str) -> None:
    """What the host could not do with the share, by what was asked of it last."""
    if not share.made:
        action = Action.CREATE
    elif share.reverted < share.reverts:
        action = Action.REVERT
    elif share.size != share.actual:
        action = Action.EXTEND if share.size > share.actual else Action.SHRINK
    else:
        action = Action.UPDATE
    tell(tx, share, action, reason)
