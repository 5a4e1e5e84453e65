"""Quota sets, quota classes and limits."""

from __future__ import annotations

from typing import Any

from isthmus.model.errors import Forbidden, Invalid
from isthmus.service.domain import quotas, types
from isthmus.service.manila.ask import Ask
from isthmus.store.tx import ReadTx, Tx
from isthmus.wire.manila.shape import flag
from isthmus.wire.manila.shapes import LIMITS, QUOTAS


def show(ask: Ask, tx: ReadTx) -> object:
    """The limits of a project, a user or a share type."""
    scope = _scope(ask, tx)
    return {"quota_set": _shown(ask, quotas.limits(tx, scope), ask.id, by_type=bool(scope.type))}


def detail(ask: Ask, tx: ReadTx) -> object:
    """Limits and use."""
    scope = _scope(ask, tx)
    found = {
        name: {"limit": one.limit, "in_use": one.in_use, "reserved": one.reserved}
        for name, one in quotas.usages(tx, scope).items()
    }
    return {"quota_set": _shown(ask, found, ask.id, by_type=bool(scope.type))}


def defaults(ask: Ask, tx: ReadTx) -> object:
    """The limits of a project for which none were set."""
    quotas.check_reach(ask.id, ask.own)
    return {"quota_set": _shown(ask, quotas.defaults(tx), ask.id)}


def update(ask: Ask, tx: Tx) -> object:
    """These limits hold from now on."""
    scope = _scope(ask, tx)
    wanted = _wanted(ask)
    if scope.type and (bad := sorted(set(wanted) & quotas.NOT_BY_TYPE)):
        raise Invalid(f"Share type quotas cannot constrain {bad[0]}.", field=f"quota_set.{bad[0]}")
    try:
        quotas.set_limits(tx, scope, wanted, force=flag(ask.body.get("force")))
    except quotas.OverQuota as error:
        raise Invalid(error.message, field="quota_set") from error
    return {"quota_set": _shown(ask, quotas.limits(tx, scope), None, by_type=bool(scope.type))}


def delete(ask: Ask, tx: Tx) -> object:
    """The defaults hold again."""
    quotas.unset(tx, _scope(ask, tx))
    return None


def show_class(ask: Ask, tx: ReadTx) -> object:
    """The limits of the class ``default``, which is the only one."""
    return {"quota_class_set": _shown(ask, quotas.defaults(tx), ask.id)}


def update_class(ask: Ask, tx: Tx) -> object:
    """These are the defaults from now on."""
    if ask.id != "default":
        raise Invalid("There is one quota class: default.", field="id")
    quotas.set_limits(tx, quotas.Scope(""), _wanted(ask))
    return {"quota_class_set": _shown(ask, quotas.defaults(tx), None)}


def limits(ask: Ask, tx: ReadTx) -> object:
    """What the caller's project may have, and has."""
    if ask.caller.project is None:
        return {"limits": {"rate": [], "absolute": {}}}
    used = quotas.usages(tx, quotas.Scope(ask.caller.project))
    absolute = {}
    for name, (most, now, since) in LIMITS.items():
        if since <= ask.minor:
            absolute[most] = used[name].limit
            absolute[now] = used[name].in_use + used[name].reserved
    return {"limits": {"rate": [], "absolute": absolute}}


def _scope(ask: Ask, tx: ReadTx) -> quotas.Scope:
    quotas.check_reach(ask.id, ask.own)
    user, kind = ask.query.get("user_id", ""), ask.query.get("share_type", "")
    if user and kind:
        raise Invalid("'user_id' and 'share_type' values are mutually exclusive.", field="user_id")
    if kind and ask.minor < 39:
        raise Invalid("'share_type' is supported from version 2.39 on.", field="share_type")
    if user and ask.own is not None and user != ask.caller.user:
        raise Forbidden("cannot show the quota of another user")
    return quotas.Scope(ask.id, user=user, type=types.find_type(tx, kind).uuid if kind else "")


def _wanted(ask: Ask) -> dict[str, int]:
    """Raises ``Invalid`` for what is no quota, or none of this version."""
    given = {
        name: value for name, value in ask.body.items() if name not in ("force", "tenant_id", "class_name", "user_id")
    }
    for name, value in given.items():
        if name not in QUOTAS:
            raise Invalid(f"Bad key(s) {name[:80]} in quota_set.", field=f"quota_set.{name[:80]}")
        if QUOTAS[name] > ask.minor and value is not None:
            raise Invalid(f"'{name}' is supported from version 2.{QUOTAS[name]} on.", field=f"quota_set.{name}")
    wanted = {name: int(most) for name, most in given.items() if most is not None}
    if not wanted:
        raise Invalid("Must supply at least one quota field to update.", field="quota_set")
    return wanted


def _shown(ask: Ask, found: Any, key: str | None, *, by_type: bool = False) -> dict[str, Any]:
    shown: dict[str, Any] = {
        name: found[name]
        for name, since in QUOTAS.items()
        if since <= ask.minor and not (by_type and name in quotas.NOT_BY_TYPE)
    }
    return {"id": key, **shown} if key is not None else shown
