"""Parameters of paths and queries: what each may be, for the service and for its OpenAPI document."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from isthmus.model.errors import Invalid
from isthmus.model.names import parse_project, parse_slug, parse_title, parse_uuid
from isthmus.model.status import AttachmentStatus, ShareStatus, SnapshotStatus
from isthmus.wire.openapi import Parameter

MAX_LIMIT = 1000
MAX_TIMEOUT = 60.0
_MAX_NUMBER = (1 << 63) - 1
_NUMBER = re.compile(r"[0-9]{1,19}")
_SECONDS = re.compile(r"[0-9]{1,4}(\.[0-9]{1,9})?")
_UUID = {"type": "string", "format": "uuid"}
_SERIAL = {"type": "string", "pattern": "^[0-9a-f]{1,40}$"}
_WORD = {"type": "string", "pattern": "^[A-Za-z0-9_:./ -]{1,200}$"}
_SLUG = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"}
_KINDS = ("attachment", "guest", "host", "pool", "share", "share type", "snapshot")


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter: its reader, which raises ``Invalid``, and its description."""

    read: Callable[[str, str], object]
    described: Parameter


def number(low: int, high: int, text: str, field: str) -> int:
    """A whole number in decimal digits, from ``low`` to ``high``."""
    if not _NUMBER.fullmatch(text) or not low <= int(text) <= high:
        raise Invalid(f"cannot use this {field}: give a whole number from {low} to {high}", field=field)
    return int(text)


def seconds(text: str, field: str) -> float:
    """Seconds, from 0 to 60."""
    if not _SECONDS.fullmatch(text) or not math.isfinite(float(text)) or float(text) > MAX_TIMEOUT:
        raise Invalid(f"cannot use this {field}: give seconds from 0 to {MAX_TIMEOUT:g}", field=field)
    return float(text)


def one_of(words: Iterable[str], text: str, field: str) -> str:
    """One of these words."""
    known = sorted(words)
    if text not in known:
        raise Invalid(f"cannot use this {field}: choose one of {', '.join(known)}", field=field)
    return text


def subject(text: str, field: str) -> str:
    """A UUID, or the name of a host, pool or type."""
    try:
        return parse_uuid(text, field)
    except Invalid:
        return parse_slug(text, field)


def serial(text: str, field: str) -> str:
    """A certificate's serial number."""
    if not re.fullmatch(r"[0-9a-f]{1,40}", text):
        raise Invalid(f"cannot use this {field}: give a serial number in lower-case hex", field=field)
    return text


def word(text: str, field: str) -> str:
    """A word of the audit."""
    if not re.fullmatch(r"[A-Za-z0-9_:./ -]{1,200}", text):
        raise Invalid(f"cannot use this {field}: it is none that the audit has", field=field)
    return text


def _query(name: str, read: Callable[[str, str], object], schema: Mapping[str, Any], description: str) -> Query:
    return Query(read, Parameter(name, schema, description))


def _choice(name: str, words: Iterable[str], description: str) -> Query:
    known = sorted(set(words))
    return _query(name, partial(one_of, known), {"type": "string", "enum": known}, description)


def _count(name: str, low: int, high: int, description: str) -> Query:
    return _query(name, partial(number, low, high), {"type": "integer", "minimum": low, "maximum": high}, description)


QUERIES: Mapping[str, Query] = {
    "project": _query("project", parse_project, {"type": "string"}, "only those of this project"),
    "name": _query("name", parse_title, {"type": "string", "maxLength": 255}, "only those of exactly this name"),
    "pool": _query("pool", parse_slug, _SLUG, "only those in this pool"),
    "host": _query("host", parse_slug, _SLUG, "only those on this host"),
    "share": _query("share", parse_uuid, _UUID, "only those of this share"),
    "guest": _query("guest", parse_uuid, _UUID, "only those of this guest"),
    "share_status": _choice("status", set(ShareStatus) - {"gone"}, "only those in this status"),
    "snapshot_status": _choice("status", set(SnapshotStatus) - {"gone"}, "only those in this status"),
    "attachment_status": _choice("status", set(AttachmentStatus) - {"gone"}, "only those in this status"),
    "kind": _choice("kind", _KINDS, "only those about such a noun"),
    "subject": _query("subject", subject, {"type": "string"}, "only those about the object of this id or name"),
    "limit": _count("limit", 1, MAX_LIMIT, "at most so many, 100 if left out"),
    "marker_id": _query("marker", parse_uuid, _UUID, "``next`` of the part before this one"),
    "marker_name": _query("marker", parse_slug, _SLUG, "``next`` of the part before this one"),
    "after": _count("after", 0, _MAX_NUMBER, "wait until the object has a greater revision"),
    "after_document": _count("after", 0, _MAX_NUMBER, "wait until the document has another revision"),
    "after_event": _count("after", 0, _MAX_NUMBER, "only those with a greater id; with ``timeout``, wait for one"),
    "after_entry": _count("after", 0, _MAX_NUMBER, "only those with a greater id"),
    "marker_serial": _query("marker", serial, _SERIAL, "``next`` of the part before this one"),
    "attachment": _query("attachment", parse_uuid, _UUID, "only those of this attachment"),
    "reason": _query("reason", parse_title, {"type": "string", "maxLength": 255}, "why, for those who ask later"),
    "user": _query("user", parse_title, {"type": "string", "maxLength": 255}, "only what this user did, by id"),
    "action": _query("action", word, _WORD, "only acts under this rule, such as isthmus:shares:create"),
    "target": _query("target", word, _WORD, "only acts on this object, such as share/ID"),
    "request": _query("request", word, _WORD, "only the request of this id"),
    "timeout": _query(
        "timeout",
        seconds,
        {"type": "number", "minimum": 0, "maximum": MAX_TIMEOUT},
        "how many seconds to wait at most; nothing new by then is no error",
    ),
}

PATHS: Mapping[str, Query] = {
    **{
        noun: _query(noun, parse_uuid, _UUID, f"the {noun}'s id")
        for noun in ("share", "snapshot", "guest", "attachment")
    },
    "grant": _query("grant", serial, _SERIAL, "the grant's serial number, lower-case hex"),
    **{noun: _query(noun, parse_slug, _SLUG, f"the {noun}'s name") for noun in ("host", "pool", "type")},
}


def read_query(names: Sequence[str], given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The query's values. Raises ``Invalid`` for a parameter that is unknown, given twice or wrong."""
    known = {QUERIES[name].described.name: QUERIES[name] for name in names}
    values: dict[str, Any] = {}
    for name, text in given:
        if name not in known:
            able = ", ".join(known) or "none"
            raise Invalid(f"cannot read the query: {name[:80]!a} is no parameter of it (known: {able})", field="query")
        if name in values:
            raise Invalid(f"cannot read the query: {name} is given twice", field=name)
        values[name] = known[name].read(text, name)
    return values


def read_path(given: Mapping[str, str]) -> dict[str, str]:
    """The path's ids and names, canonical. Raises ``Invalid``."""
    return {noun: str(PATHS[noun].read(text, noun)) for noun, text in given.items()}
