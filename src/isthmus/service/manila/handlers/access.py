"""Access rules."""

from __future__ import annotations

from typing import Any

from isthmus.model.attachment import Access
from isthmus.model.errors import Conflict, Forbidden, Invalid, NotFound
from isthmus.model.names import new_id
from isthmus.model.status import ShareStatus
from isthmus.service.domain import attachments, locks, rules
from isthmus.service.manila.ask import Ask, stamp
from isthmus.service.manila.handlers.common import item
from isthmus.store.query import Query
from isthmus.store.records import RuleRow
from isthmus.store.rows import AttachmentRow, ShareRow
from isthmus.store.tx import ReadTx, Tx
from isthmus.wire.manila import shapes
from isthmus.wire.manila.shape import flag, labels

HIDDEN = "******"
_BOTH = ("ip", "user", "cert", "cephx")


def allow(ask: Ask, tx: Tx) -> object:
    """A rule begins to apply."""
    body = ask.body
    share = _share(ask, tx, "allow access to")
    level = body.get("access_level") or "rw"
    if level not in set(Access):
        raise Invalid(f"Invalid or unsupported share access level: {ascii(level)[:20]}.", field="access_level")
    deletion, visibility = flag(body.get("lock_deletion")), flag(body.get("lock_visibility"))
    if body.get("lock_reason") and not (deletion or visibility):
        raise Invalid("Lock reason can only be specified when locking visibility or deletion.", field="lock_reason")
    kind, to = body["access_type"], str(body["access_to"]).strip()
    rule = rules.allow(tx, share, new_id(), kind=kind, to=to, access=Access(level), user=ask.caller.user)
    tx.label(rule.id, labels(body.get("metadata")))
    _lock(ask, tx, rule, deletion=deletion, visibility=visibility, reason=body.get("lock_reason") or "")
    return {"access": _views(ask, tx, [rule])[0]}


def _lock(ask: Ask, tx: Tx, rule: RuleRow, *, deletion: bool, visibility: bool, reason: str) -> None:
    caller = ask.caller
    if deletion:
        own = locks.place(tx, caller, kind=locks.RULE, resource=rule.id, action=locks.DELETE, reason=reason)
        told = f"Locked by an access rule: see lock {own.id}."
        locks.place(tx, caller, kind=locks.SHARE, resource=rule.share, action=locks.DELETE, reason=told, cause=own.id)
    if visibility:
        locks.place(tx, caller, kind=locks.RULE, resource=rule.id, action=locks.SHOW, reason=reason)


def deny(ask: Ask, tx: Tx) -> object:
    """A rule begins to end."""
    share = _share(ask, tx, "deny access to")
    found = rules.find(tx, ask.body["access_id"])
    if found.share != share.id:
        raise NotFound("share access rule", found.id)
    held = tx.locks_of([found.id], locks.DELETE)
    if held and not flag(ask.body.get("unrestrict")):
        raise locks.Locked(f"cannot deny access rule {found.id}: it is locked by {held[0].id}: remove the lock first")
    for lock in held:
        locks.check_unlock(lock, ask.caller)
    if isinstance(found, AttachmentRow):
        attachments.detach(tx, found.id)
    else:
        rules.deny(tx, found)
    return None


def listed_by_action(ask: Ask, tx: ReadTx) -> object:
    """All rules of a share, as versions before 2.45 ask for them."""
    share = tx.need(ShareRow, ask.id)
    return {"access_list": [_without_share(one) for one in _views(ask, tx, _all(tx, share))]}


def index(ask: Ask, tx: ReadTx) -> object:
    """The rules of a share."""
    asked = ask.query
    if "share_id" not in asked:
        raise Invalid("The field 'share_id' has to be specified.", field="share_id")
    share = tx.get(ShareRow, asked["share_id"])
    if share is None:
        raise Invalid(f"Share {asked['share_id'][:80]} not found.", field="share_id")
    found = _views(ask, tx, _all(tx, share))
    if "metadata" in asked:
        wanted = ask.mapping("metadata").items()
        found = [one for one in found if wanted <= one["metadata"].items()]
    if ask.minor >= 82:
        _check_filters(ask)
        for name in ("access_type", "access_to", "access_level", "access_key"):
            if name in asked:
                found = [one for one in found if one[name] == asked[name]]
    return {"access_list": [_without_share(one) for one in found]}


def show(ask: Ask, tx: ReadTx) -> object:
    """One rule."""
    return {"access": _views(ask, tx, [rules.find(tx, ask.id)])[0]}


def update(ask: Ask, tx: Tx) -> object:
    """A rule with another level."""
    level = ask.body["access_level"]
    found = rules.find(tx, ask.id)
    if isinstance(found, AttachmentRow):
        raise Conflict(f"cannot change access rule {found.id}: it was attached by itself", code="attached-by-itself")
    return {"access": _views(ask, tx, [rules.update(tx, found, Access(level))])[0]}


def set_metadata(ask: Ask, tx: Tx) -> object:
    """A rule with this metadata besides what it had."""
    found = rules.find(tx, ask.id)
    tx.label(found.id, labels(ask.body))
    return {"metadata": tx.labels_of(found.id)}


def unset_metadata(ask: Ask, tx: Tx) -> object:
    """A rule without a piece of metadata."""
    found = rules.find(tx, ask.id)
    key = ask.path["key"]
    item(tx.labels_of(found.id), key, "metadata item")
    tx.unlabel(found.id, [key])
    return None


def _share(ask: Ask, tx: Tx, verb: str) -> ShareRow:
    share = tx.need(ShareRow, ask.id)
    if share.deleted_until is not None:
        raise Forbidden(f"cannot {verb} share {share.id}: it is in the recycle bin")
    if share.shown or share.status != ShareStatus.AVAILABLE:
        raise Conflict(f"cannot {verb} share {share.id}: it is {share.shown or share.status}", code="illegal-status")
    return share


def _all(tx: ReadTx, share: ShareRow) -> list[RuleRow | AttachmentRow]:
    """Rules, and attachments that no rule made, oldest first. Only the share's own project sees any."""
    if tx.reach.project not in (None, share.project):
        return []
    by_age: list[RuleRow | AttachmentRow] = [*rules.of_share(tx, share)]
    by_age += tx.page(AttachmentRow, Query(equal={"share": share.id, "rule": None}))
    return sorted(by_age, key=lambda row: (row.created_at, row.id))


def _views(ask: Ask, tx: ReadTx, found: list[RuleRow | AttachmentRow] | list[RuleRow]) -> list[dict[str, Any]]:
    ids = [row.id for row in found]
    labels = tx.labels(ids)
    states = rules.states(tx, [row for row in found if isinstance(row, RuleRow)])
    hidden = locks.hidden(tx, ids, ask.caller)
    shown = []
    for row in found:
        state = states[row.id] if isinstance(row, RuleRow) else rules.state_of(row)
        to = row.to if isinstance(row, RuleRow) else row.guest
        facts = {
            "id": row.id,
            "share_id": row.share,
            "access_level": str(row.access),
            "access_to": HIDDEN if row.id in hidden else to,
            "access_type": row.kind if isinstance(row, RuleRow) else rules.USER,
            "state": state,
            "old_state": {"applying": "new", "denying": "new"}.get(state, state),
            "access_key": HIDDEN if row.id in hidden else None,
            "created_at": stamp(row.created_at),
            "updated_at": stamp(row.updated_at) if isinstance(row, RuleRow) else None,
            "metadata": labels.get(row.id, {}),
        }
        shown.append(ask.show(shapes.ACCESS, facts))
    return shown


def _without_share(view: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in view.items() if name != "share_id"}


def _check_filters(ask: Ask) -> None:
    asked = ask.query
    if asked.get("access_type", "ip") not in _BOTH:
        raise Invalid(f"Invalid access type: choose one of {', '.join(_BOTH)}", field="access_type")
    if asked.get("access_level", "rw") not in set(Access):
        raise Invalid("Invalid access level: rw or ro", field="access_level")
    if "access_to" in asked and "access_type" not in asked:
        raise Invalid("'access_type' must be provided when specifying 'access_to'.", field="access_type")
