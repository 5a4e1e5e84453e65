"""What handlers of several resources have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from isthmus.model.errors import Invalid, NotFound
from isthmus.model.names import MAX_DESCRIPTION, parse_title
from isthmus.service.manila.ask import Ask
from isthmus.store.records import GroupRow, GroupSnapshotRow
from isthmus.store.rows import CopyRow, ShareRow, SnapshotRow
from isthmus.store.tx import Tx
from isthmus.wire.manila.shape import labels

Shown = TypeVar("Shown", ShareRow, SnapshotRow, CopyRow, GroupRow, GroupSnapshotRow)


def first(body: Mapping[str, Any], *names: str) -> str | None:
    """The text by the first of these names that the body has, "" for a null there; None if it has none."""
    return next((body[name] or "" for name in names if name in body), None)


def titled(body: Mapping[str, Any]) -> dict[str, str]:
    """The name and the description, as far as the body has them. Raises ``Invalid``."""
    found = {}
    if "name" in body:
        found["name"] = parse_title(body["name"] or "")
    if "description" in body:
        found["description"] = parse_title(body["description"] or "", "description", most=MAX_DESCRIPTION)
    return found


def reset(ask: Ask, tx: Tx, row: Shown) -> Shown:
    """The row shows the status that the body asks for; ``available``, or the one that it is in, shows the truth."""
    wanted = ask.body.get("status") or ask.body.get("os-status")
    return tx.change(row, shown="" if wanted in ("available", str(getattr(row, "status", ""))) else wanted)


def item(found: Mapping[str, str], key: str, noun: str) -> dict[str, str]:
    """One item of specs or metadata. Raises ``NotFound``."""
    if key not in found:
        raise NotFound(noun, key[:80])
    return {key: found[key]}


def without(found: Mapping[str, str], key: str, noun: str) -> dict[str, str]:
    """All but this item. Raises ``NotFound``."""
    item(found, key, noun)
    return {name: value for name, value in found.items() if name != key}


def single(ask: Ask) -> dict[str, str]:
    """The one spec of the body, which is that of the path. Raises ``Invalid``."""
    key = ask.path["key"]
    if set(ask.body) != {key}:
        raise Invalid(f"cannot set {key[:80]}: the body names other specs than the path", field=key[:80])
    return labels(ask.body)
