"""What Isthmus's certificates look like, and the tuple of a grant as bytes.

All of them are X.509 v3 (RFC 5280) on ECDSA P-256 with SHA-256. A grant carries its tuple in one critical extension:
canonical JSON in UTF-8 (keys sorted, no white space, no escape that is not needed), so that one tuple has one encoding.
Format: docs/reference/grant.md.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from typing import Any

from cryptography import x509

from isthmus.model.attachment import Access, Mode
from isthmus.model.errors import Invalid
from isthmus.model.grant import MAX_PATH, MAX_RULES, MAX_SEQUENCE, Grant
from isthmus.model.names import (
    parse_place,
    parse_project,
    parse_slug,
    parse_uuid,
)

# 2.25.<UUID as a number> (ITU-T X.667) needs no registration.
GRANT_OID = x509.ObjectIdentifier("2.25.339118742023602022506298887136966204428")
"""The extension that holds the tuple."""
GRANT_USE_OID = x509.ObjectIdentifier("2.25.280417874786072014627077448301362560615")
"""The extended key usage of a grant: good for nothing else."""

VERSION = 1
MAX_TUPLE = 8 * 1024
MAX_CERTIFICATE = 16 * 1024
MOST_AUTHORITIES = 64
"""Roots, links and issuers that are looked at in one list."""
MAX_LIMIT = (1 << 53) - 1
"""The greatest whole number that every JSON reader takes as it is."""

BACKDATED = datetime.timedelta(minutes=5)
"""How far a host's clock may be behind the service's."""
ROOT_LIFE = datetime.timedelta(days=3653)
ISSUER_LIFE = datetime.timedelta(days=730)
HOST_LIFE = datetime.timedelta(days=90)
SERVER_LIFE = datetime.timedelta(days=90)

HOST_URI = "isthmus:host:"
"""Begins the URI in a host certificate's subject alternative name; the host's name follows."""


def encode_grant(grant: Grant) -> bytes:
    """The tuple as canonical JSON. Raises ``Invalid`` for a value that no grant may hold."""
    body = _bytes(
        {
            "version": VERSION,
            "attachment": grant.attachment,
            "sequence": grant.sequence,
            "project": grant.project,
            "share": grant.share,
            "place": grant.place,
            "pool": grant.pool,
            "volume": grant.volume,
            "sub_path": grant.sub_path,
            "guest": grant.guest,
            "host": grant.host,
            "mode": str(grant.mode),
            "access": str(grant.access),
            "id_map": list(grant.id_map),
            "qos": dict(grant.qos),
        }
    )
    decode_grant(body)
    return body


def decode_grant(body: bytes) -> Grant:
    """The tuple. Raises ``Invalid`` naming the field for anything but the one encoding of a good tuple."""
    if len(body) > MAX_TUPLE:
        raise Invalid(f"cannot read the grant: its tuple has more than {MAX_TUPLE} bytes")
    values = _object(body)
    version = values.get("version")
    if type(version) is not int or version != VERSION:
        raise Invalid(f"cannot read the grant: its version is not {VERSION}: upgrade this agent", field="version")
    wrong = sorted(values.keys() ^ _FIELDS.keys() ^ {"version"})
    if wrong:
        raise Invalid(f"cannot read the grant: unknown or missing field {wrong[0][:40]!a}", field=wrong[0][:40])
    read: dict[str, Any] = {name: check(values[name], name) for name, check in _FIELDS.items()}
    return Grant(**read)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        values = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise Invalid("cannot read the grant: its tuple is not JSON in UTF-8") from error
    if not isinstance(values, dict):
        raise Invalid("cannot read the grant: its tuple is not a JSON object")
    try:
        canonical = _bytes(values) == body  # a second key of one name is lost in reading, so it is found here
    except (ValueError, RecursionError) as error:
        raise Invalid("cannot read the grant: its tuple is not JSON in UTF-8") from error
    if not canonical:
        raise Invalid("cannot read the grant: its tuple is not in the canonical form")
    return values


def _bytes(values: Mapping[str, object]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _text(value: object, field: str, limit: int = MAX_PATH) -> str:
    if not isinstance(value, str) or len(value.encode()) > limit or not (value.isprintable() or not value):
        raise Invalid(f"cannot read the grant: {field} is no printable text of at most {limit} bytes", field=field)
    return value


def _by(parse: Callable[[str, str], str]) -> Callable[[object, str], str]:
    def check(value: object, field: str) -> str:
        text = _text(value, field)
        if parse(text, field) != text:
            raise Invalid(f"cannot read the grant: {field} is not in its canonical form", field=field)
        return text

    return check


def _whole(value: object, field: str, most: int = MAX_SEQUENCE) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise Invalid(f"cannot read the grant: {field} is no whole number from 0 to {most}", field=field)
    return value


def _word(words: type[Mode] | type[Access]) -> Callable[[object, str], str]:
    def check(value: object, field: str) -> str:
        if not isinstance(value, str) or value not in set(words):
            raise Invalid(f"cannot read the grant: {field} is none of {', '.join(words)}", field=field)
        return words(value)

    return check


def _inner_path(value: object, field: str) -> str:
    text = _text(value, field)
    if text and any(part in ("", ".", "..") for part in text.split("/")):
        raise Invalid(f"cannot read the grant: {field} is no path beneath the share", field=field)
    return text


def _rules(value: object, field: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_RULES:
        raise Invalid(f"cannot read the grant: {field} is no list of at most {MAX_RULES} rules", field=field)
    return tuple(_text(rule, field, 128) for rule in value)


def _limits(value: object, field: str) -> dict[str, int]:
    if not isinstance(value, dict) or len(value) > MAX_RULES:
        raise Invalid(f"cannot read the grant: {field} is no object of at most {MAX_RULES} limits", field=field)
    return {parse_slug(name, field): _whole(limit, field, MAX_LIMIT) for name, limit in value.items()}


_FIELDS: Mapping[str, Callable[[object, str], Any]] = {
    "attachment": _by(parse_uuid),
    "sequence": _whole,
    "project": _by(parse_project),
    "share": _by(parse_uuid),
    "place": _by(parse_place),
    "pool": _by(parse_slug),
    "volume": _text,
    "sub_path": _inner_path,
    "guest": _by(parse_uuid),
    "host": _by(parse_slug),
    "mode": _word(Mode),
    "access": _word(Access),
    "id_map": _rules,
    "qos": _limits,
}
