"""What is done to a share by POST .../action, but for access rules."""

from __future__ import annotations

import datetime

from isthmus.model.errors import Conflict, Forbidden, Invalid, NotFound
from isthmus.model.names import GIB, SnapshotId
from isthmus.model.status import ShareStatus, SnapshotStatus
from isthmus.service.domain import locks, rules, types
from isthmus.service.domain import shares as domain
from isthmus.service.manila import facts
from isthmus.service.manila.ask import Ask
from isthmus.service.manila.handlers.common import reset
from isthmus.store.query import Query
from isthmus.store.rows import ShareRow, SnapshotRow, TypeRow
from isthmus.store.tx import Tx
from isthmus.wire.manila.shape import flag

RETENTION = datetime.timedelta(days=7)
"""How long a share stays in the recycle bin."""


def extend(ask: Ask, tx: Tx) -> object:
    """A share becomes larger."""
    row, size = _resized(ask, tx, "extend")
    if size <= row.size:
        raise Invalid(f"New size for extend must be greater than current size ({row.size // GIB}GB).", field="new_size")
    kind = tx.need(TypeRow, row.type)
    most = kind.specs.get(types.MOST_EXTENDED) or kind.specs.get(types.MOST)
    if most and size > int(most) * GIB and not ask.admin:
        raise Invalid(f"Share type {kind.name} has a maximum of {most}GB.", field="new_size")
    domain.update_share(tx, row.id, size=size)
    return None


def shrink(ask: Ask, tx: Tx) -> object:
    """A share becomes smaller."""
    row, size = _resized(ask, tx, "shrink")
    if size >= row.size:
        raise Invalid(f"New size for shrink must be less than current size ({row.size // GIB}GB).", field="new_size")
    least = tx.need(TypeRow, row.type).specs.get(types.LEAST)
    if least and size < int(least) * GIB:
        raise Invalid(f"The share's type has a minimum of {least}GB.", field="new_size")
    domain.update_share(tx, row.id, size=size)
    return None


def revert(ask: Ask, tx: Tx) -> object:
    """A share goes back to its latest snapshot."""
    row = _steady(ask, tx, "revert")
    found = tx.get(SnapshotRow, ask.body["snapshot_id"])
    if found is None:
        raise Invalid(f"cannot find snapshot {ask.body['snapshot_id']}", field="revert.snapshot_id")
    if found.share != row.id:
        raise Invalid(f"cannot revert share {row.id}: snapshot {found.id} is of another share", field="snapshot_id")
    if not facts.Around(tx).can(row, types.REVERTS):
        raise Invalid(f"cannot revert share {row.id}: it does not have that capability ({types.REVERTS})")
    if found.status != SnapshotStatus.AVAILABLE:
        raise Conflict(f"cannot revert share {row.id}: snapshot {found.id} is {found.status}", code="illegal-status")
    latest = tx.page(SnapshotRow, Query(equal={"share": row.id}, limit=1))[0]
    if latest.id != found.id:
        raise Conflict(
            f"cannot revert share {row.id}: snapshot {found.id} is not its latest, which is {latest.id}",
            code="not-the-latest",
        )
    domain.revert_share(tx, row.id, SnapshotId(found.id))
    return None


def soft_delete(ask: Ask, tx: Tx) -> object:
    """A share goes to the recycle bin: nobody is given it any more; it can be restored for a week."""
    row = tx.need(ShareRow, ask.id)
    if row.deleted_until is not None:
        raise Forbidden(f"cannot delete share {row.id}: it is in the recycle bin already")
    locks.check(tx, [row.id], f"delete share {row.id}")
    if row.status not in (ShareStatus.AVAILABLE, ShareStatus.ERROR) or row.shown:
        raise Forbidden(f"cannot delete share {row.id}: it is {row.shown or row.status}")
    if row.group:
        raise Forbidden(f"cannot delete share {row.id}: it is in share group {row.group}")
    if tx.count(SnapshotRow, Query(equal={"share": row.id})):
        raise Forbidden(f"cannot delete share {row.id}: it has snapshots: delete these first")
    for rule in rules.of_share(tx, row):
        rules.deny(tx, rule)
    tx.change(row, deleted_until=tx.now + RETENTION)
    return None


def restore(ask: Ask, tx: Tx) -> object:
    """A share comes back from the recycle bin."""
    row = tx.need(ShareRow, ask.id)
    if row.deleted_until is None:
        raise Forbidden(f"cannot restore share {row.id}: it is not in the recycle bin")
    tx.change(row, deleted_until=None)
    return None


def reset_status(ask: Ask, tx: Tx) -> object:
    """A share shows this status, whatever it is in truth, until another is set: ``available`` shows the truth."""
    ask.need_admin("reset the status of a share")
    row = tx.need(ShareRow, ask.id)
    if row.deleted_until is not None:
        raise Forbidden(f"cannot reset the status of share {row.id}: it is in the recycle bin")
    reset(ask, tx, row)
    return None


def reset_task_state(ask: Ask, tx: Tx) -> object:
    """A share shows this task state."""
    ask.need_admin("reset the task state of a share")
    tx.change(tx.need(ShareRow, ask.id), task=ask.body.get("task_state") or "")
    return None


def unmanage(ask: Ask, tx: Tx) -> object:
    """A share is forgotten; its data stays in the pool, under the share's id."""
    ask.need_admin("unmanage a share")
    row = _steady(ask, tx, "unmanage", errors=True)
    locks.check(tx, [row.id], f"unmanage share {row.id}")
    if tx.count(SnapshotRow, Query(equal={"share": row.id})):
        raise Forbidden(f"cannot unmanage share {row.id}: it has snapshots: unmanage or delete these first")
    rules.cut_share(tx, row)
    domain.forget_share(tx, row.id)
    return None


def _resized(ask: Ask, tx: Tx, verb: str) -> tuple[ShareRow, int]:
    row = _steady(ask, tx, verb)
    if flag(ask.body.get("force")):
        ask.need_admin(f"{verb} a share by force")
    return row, int(ask.body["new_size"]) * GIB


def _steady(ask: Ask, tx: Tx, verb: str, *, errors: bool = False) -> ShareRow:
    """The share, if it is available. Raises ``NotFound``, ``Forbidden`` for one in the recycle bin, ``Conflict``."""
    row = tx.get(ShareRow, ask.id)
    if row is None:
        raise NotFound("share", ask.id[:80])
    if row.deleted_until is not None:
        raise Forbidden(f"cannot {verb} share {row.id}: it is in the recycle bin: restore it first")
    good = {ShareStatus.AVAILABLE, *({ShareStatus.ERROR} if errors else set())}
    if row.shown or row.status not in good:
        raise Conflict(
            f"cannot {verb} share {row.id}: it is {facts.share_status(row)}, not available", code="illegal-status"
        )
    return row
