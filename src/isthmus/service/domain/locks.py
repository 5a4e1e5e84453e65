"""Resource locks: against deleting a share or an access rule, and against showing whom a rule is for."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.model.caller import Caller
from isthmus.model.errors import Conflict, Forbidden, Invalid
from isthmus.model.names import ProjectId, new_id
from isthmus.service.domain import rules
from isthmus.service.domain.hosts import listed
from isthmus.store.records import LockRow, RuleRow
from isthmus.store.rows import ShareRow
from isthmus.store.tx import ReadTx, Tx

SHARE, RULE = "share", "access_rule"
DELETE, SHOW = "delete", "show"
ACTIONS = {SHARE: (DELETE,), RULE: (DELETE, SHOW)}
ADMIN, SERVICE, USER = "admin", "service", "user"
MAX_REASON = 1023


class Locked(Forbidden):
    """A lock forbids it."""

    code = "locked"


def context_of(caller: Caller) -> str:
    """In whose name a caller locks."""
    if "service" in caller.roles:
        return SERVICE
    return ADMIN if caller.project is None else USER


def place(
    tx: Tx, caller: Caller, *, kind: str, resource: str, action: str, reason: str = "", cause: str = ""
) -> LockRow:
    """A lock. Raises ``Invalid`` for what cannot be locked so, ``NotFound``, ``Conflict``."""
    if kind not in ACTIONS:
        raise Invalid(f"cannot lock a {ascii(kind)[:20]}: choose one of {', '.join(ACTIONS)}", field="resource_type")
    if action not in ACTIONS[kind]:
        raise Invalid(f"cannot lock a {kind} so: choose one of {', '.join(ACTIONS[kind])}", field="resource_action")
    found = tx.need(ShareRow, resource) if kind == SHARE else rules.find(tx, resource)
    if isinstance(found, ShareRow) and (str(found.status) == "deleting" or found.deleted_until):
        raise Conflict(f"cannot lock share {resource}: it is being deleted", code="illegal-status")
    if isinstance(found, RuleRow) and found.denied:
        raise Conflict(f"cannot lock access rule {resource}: it is being denied", code="illegal-status")
    if action == SHOW and any(lock.user != caller.user for lock in tx.locks_of([resource], SHOW)):
        raise Conflict(f"cannot lock {resource}: another user has locked its visibility", code="lock-exists")
    owner = ProjectId(caller.project or found.project)
    return tx.add(
        LockRow(
            new_id(),
            owner,
            caller.user,
            context_of(caller),
            kind,
            resource,
            action,
            reason[:MAX_REASON],
            cause,
        )
    )


def check(tx: ReadTx, resources: Sequence[str], doing: str) -> None:
    """Raise ``Locked`` if a lock keeps one of these from being deleted."""
    found = tx.locks_of(resources, DELETE)
    if found:
        raise Locked(
            f"cannot {doing}: {listed('lock', [lock.id for lock in found])} on it: remove these first",
            detail={"lock": found[0].id},
        )


def check_unlock(lock: LockRow, caller: Caller) -> None:
    """Raise ``Forbidden`` unless this caller may remove or change the lock: users those of their project, services
    their own, operators all."""
    mine = context_of(caller)
    if mine == ADMIN:
        return
    if lock.context != mine or (mine == SERVICE and lock.user != caller.user):
        raise Forbidden(f"cannot change lock {lock.id}: it was placed by {_who(lock)}", code="not-your-lock")


def hidden(tx: ReadTx, ids: Sequence[str], caller: Caller) -> set[str]:
    """Those access rules whose target this caller may not see."""
    if context_of(caller) == ADMIN:
        return set()
    return {lock.resource for lock in tx.locks_of(ids, SHOW) if lock.user != caller.user}


def _who(lock: LockRow) -> str:
    return {ADMIN: "an operator", SERVICE: "a service"}.get(lock.context, "another user")
