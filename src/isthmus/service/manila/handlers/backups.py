"""Backups of shares: copies in the pool that their own pool names for that."""

from __future__ import annotations

from typing import Any

from isthmus.model.errors import Invalid, NotFound
from isthmus.model.names import parse_uuid
from isthmus.service.domain import copies
from isthmus.service.manila import facts
from isthmus.service.manila.ask import Ask
from isthmus.service.manila.handlers.common import reset, titled
from isthmus.store.query import Query
from isthmus.store.rows import CopyRow, Purpose, ShareRow
from isthmus.store.tx import ReadTx, Tx
from isthmus.wire.manila import shapes

SORTS = {
    "id": "id",
    "name": "name",
    "status": "status",
    "share_id": "share",
    "size": "size",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "project_id": "project",
}
_FILTERS = (("share_id", "share"), ("name", "name"), ("id", "id"), ("status", "status"), ("description", "description"))


def index(ask: Ask, tx: ReadTx) -> object:
    """Ids, names, shares and statuses."""
    shown = [
        {
            "id": row.id,
            "name": row.name or None,
            "share_id": row.share,
            "status": facts.status_of(row),
            "links": ask.links("share-backups", row.id),
        }
        for row in tx.page(CopyRow, _listed(ask))
    ]
    return ask.page("share_backups", shown)


def detail(ask: Ask, tx: ReadTx) -> object:
    """All fields."""
    around = facts.Around(tx)
    rows = tx.page(CopyRow, _listed(ask))
    return ask.page("share_backups", [ask.show(shapes.BACKUP, facts.backup(ask, row, around)) for row in rows])


def show(ask: Ask, tx: ReadTx) -> object:
    """One backup."""
    return {"share_backup": _view(ask, tx, _need(ask, tx))}


def create(ask: Ask, tx: Tx) -> object:
    """A backup begins to be made."""
    body = ask.body
    if body.get("backup_options"):
        raise Invalid(
            "cannot use backup_options: there are none, the pool of the share says where its backups go",
            field="share_backup.backup_options",
        )
    share = tx.need(ShareRow, body["share_id"])
    words = {"name": "", "description": "", **titled(body)}
    return {"share_backup": _view(ask, tx, copies.back_up(tx, share, user=ask.caller.user, **words))}


def update(ask: Ask, tx: Tx) -> object:
    """A backup with another name or description."""
    return {"share_backup": _view(ask, tx, tx.change(_need(ask, tx), **titled(ask.body)))}


def delete(ask: Ask, tx: Tx) -> object:
    """A backup begins to be removed."""
    copies.remove_backup(tx, _need(ask, tx))
    return None


def restore(ask: Ask, tx: Tx) -> object:
    """A share, that of the backup unless another is named, begins to get the backup's files in place of its own."""
    backup = _need(ask, tx)
    target = backup.share
    if isinstance(ask.body, str):
        if ask.minor < 91:
            raise Invalid("cannot restore to another share before version 2.91", field="restore")
        target = parse_uuid(ask.body, "restore")  # type: ignore[assignment]
    share = tx.get(ShareRow, target)
    if share is None:
        raise Invalid(
            f"cannot restore backup {backup.id}: there is no share {target} (any more): name one to restore to",
            field="restore",
        )
    copies.restore(tx, backup, share)
    return {"restore": {"backup_id": backup.id, "share_id": share.id}}


def reset_status(ask: Ask, tx: Tx) -> object:
    """A backup shows this status; ``available`` shows the truth."""
    ask.need_admin("reset the status of a share backup")
    reset(ask, tx, _need(ask, tx))
    return None


def _need(ask: Ask, tx: ReadTx) -> CopyRow:
    row = tx.get(CopyRow, ask.id)
    if row is None or row.purpose is not Purpose.BACKUP:
        raise NotFound("share backup", ask.id[:80])
    return row


def _view(ask: Ask, tx: ReadTx, row: CopyRow) -> dict[str, Any]:
    return ask.show(shapes.BACKUP, facts.backup(ask, row, facts.Around(tx)))


def _listed(ask: Ask) -> Query:
    equal = {**ask.scope(), **ask.equals(*_FILTERS), "purpose": str(Purpose.BACKUP)}
    return ask.part(equal, SORTS, holds=ask.holds(("name~", "name"), ("description~", "description")))
