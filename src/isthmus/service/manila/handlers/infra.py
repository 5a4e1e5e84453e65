"""What operators see of the machinery: services, pools, availability zones."""

from __future__ import annotations

import datetime
import re
from typing import Any

from isthmus.model.errors import Invalid, NotFound
from isthmus.service.domain import scheduler, types
from isthmus.service.manila.ask import Ask, stamp
from isthmus.service.manila.facts import derived
from isthmus.store.rows import ZONE, HostRow, PoolRow
from isthmus.store.tx import ReadTx, Tx
from isthmus.wire.manila import shapes

ALIVE = datetime.timedelta(seconds=60)
"""A host that has not reported for so long is down."""


def zones(_ask: Ask, tx: ReadTx) -> object:
    """Availability zones: those of the hosts."""
    first: dict[str, datetime.datetime] = {}
    for host in tx.all(HostRow):
        first[host.zone] = min(host.created_at, first.get(host.zone, host.created_at))
    return {
        "availability_zones": [
            {"id": derived("zone", name), "name": name, "created_at": stamp(first[name]), "updated_at": None}
            for name in sorted(first)
        ]
    }


def services(ask: Ask, tx: ReadTx) -> object:
    """One ``manila-share`` per host and driver, and the scheduler, which is in the service itself."""
    found = _services(tx)
    for name in ("host", "binary", "zone", "state", "status"):
        if name in ask.query:
            found = [one for one in found if one[name] == ask.query[name]]
    if ask.minor >= 93 and ask.flag("ensuring"):
        found = []
    return {"services": [ask.show(shapes.SERVICE, one) for one in found]}


def set_service(ask: Ask, tx: Tx) -> object:
    """New shares are, or are not, put on this host."""
    action, body = ask.id, ask.body
    if action not in ("enable", "disable"):
        raise NotFound("service action", action[:40])
    reason = body.get("disabled_reason")
    if reason and ask.minor < 83:
        raise Invalid("'disabled_reason' is supported from version 2.83 on.", field="disabled_reason")
    host = tx.get(HostRow, body["host"].partition("@")[0])
    if host is None or body["binary"] != "manila-share":
        raise NotFound("service", f"{body['binary'][:40]} on {body['host'][:80]}")
    disabled = action == "disable"
    tx.change(host, disabled=disabled, disabled_reason=(reason or "").strip() if disabled else "")
    shown: dict[str, Any] = {"host": body["host"], "binary": body["binary"], "status": f"{action}d"}
    if ask.minor >= 83:
        shown["disabled_reason"] = reason if disabled else None
    return shown


def ensure_shares(ask: Ask, tx: Tx) -> object:
    """A host looks at all its shares again: its document counts as new."""
    named = ask.body.get("ensure_shares", ask.body)["host"]
    host = tx.get(HostRow, named.partition("@")[0])
    if host is None:
        raise NotFound("service", named[:80])
    tx.wake(host.name)
    return None


def pools(ask: Ask, tx: ReadTx) -> object:
    """Names of pools."""
    return {"pools": [_named(one) for one in _pools(ask, tx)]}


def pools_detail(ask: Ask, tx: ReadTx) -> object:
    """Pools and what they say of themselves."""
    return {"pools": [{**_named(one), "capabilities": scheduler.capabilities(one)} for one in _pools(ask, tx)]}


def _services(tx: ReadTx) -> list[dict[str, Any]]:
    drivers: dict[str, set[str]] = {}
    for pool in tx.all(PoolRow):
        drivers.setdefault(pool.host, set()).add(pool.driver)
    found = [
        {
            "id": derived("service", host.name, driver),
            "binary": "manila-share",
            "host": f"{host.name}@{driver}",
            "zone": host.zone,
            "status": "disabled" if host.disabled else "enabled",
            "state": "up" if host.seen_at is not None and tx.now - host.seen_at < ALIVE else "down",
            "updated_at": stamp(host.seen_at),
            "disabled_reason": host.disabled_reason or None,
            "ensuring": False,
        }
        for host in tx.all(HostRow)
        for driver in sorted(drivers.get(host.name, {scheduler.BACKEND}))
    ]
    return found + [
        {
            "id": derived("service", name),
            "binary": name,
            "host": "isthmus",
            "zone": ZONE,
            "status": "enabled",
            "state": "up",
            "updated_at": stamp(tx.now),
            "disabled_reason": None,
            "ensuring": False,
        }
        for name in ("manila-scheduler", "manila-data")
    ]


def _pools(ask: Ask, tx: ReadTx) -> list[scheduler.Candidate]:
    asked = ask.query
    found = sorted(scheduler.candidates(tx), key=lambda one: one.address)
    for name, part in (("pool", "pool"), ("host", "host"), ("backend", "backend")):
        if name in asked:
            found = [one for one in found if _matches(asked[name], _named(one)[part])]
    if "share_type" in asked and ask.minor >= 23:
        try:
            kind = types.find_type(tx, asked["share_type"])
        except NotFound as error:
            raise Invalid(f"Share type {asked['share_type'][:80]} not found.", field="share_type") from error
        found = [one for one in found if _takes(one, scheduler.Wish(kind, 0))]
    return found


def _takes(candidate: scheduler.Candidate, wish: scheduler.Wish) -> bool:
    tests = (scheduler.offers_filesystem, scheduler.offers_capabilities, scheduler.offers_powers)
    return not any(test(candidate, wish) for test in tests)


def _named(candidate: scheduler.Candidate) -> dict[str, str]:
    return {
        "name": candidate.address,
        "host": candidate.host.name,
        "backend": candidate.pool.driver,
        "pool": candidate.pool.name,
    }


def _matches(pattern: str, text: str) -> bool:
    """Filters of pools are regular expressions, as clients send ``.*``. What cannot be one is a name."""
    if len(pattern) > 128 or not re.fullmatch(r"[\w@#.*^$-]*", pattern):
        return pattern == text
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error:
        return pattern == text
