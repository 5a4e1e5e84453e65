"""JSON in, typed values out, and a sentence that names the field when it cannot be done."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from isthmus.model.errors import Invalid

Value = TypeVar("Value")

# msgspec keeps no structure of its errors. These are its texts (0.18 to 0.22; tests/unit/test_wire_documents.py):
#   Expected `str`, got `int` - at `$.project`
#   Object contains unknown field `bogus`
#   Object missing required field `pool` - at `$.shares[...]`
_PATH = re.compile(r" - at `(?:key in )?\$(?P<path>[^`]*)`$")
_NAMED = re.compile(r"^Object (?:contains unknown|missing required) field `(?P<name>[^`]*)`")


def decode(body: bytes, kind: type[Value], noun: str = "request") -> Value:
    """The value that ``body`` holds. Raises ``Invalid`` with the dotted name of the field at fault."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        cause, field = explain(str(error))
        raise Invalid(f"cannot read the {noun}: {cause}", field=field) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"cannot read the {noun}: not JSON in UTF-8: {_short(str(error))}") from error
    except RecursionError as error:
        raise Invalid(f"cannot read the {noun}: it is nested too deeply") from error


def explain(message: str) -> tuple[str, str]:
    """What msgspec found, as a sentence's end, and the dotted name of the field ("" for the whole document)."""
    path = _PATH.search(message)
    cause = message[: path.start()] if path else message
    field = path["path"].lstrip(".") if path else ""
    named = _NAMED.match(cause)
    if named:
        field = f"{field}.{named['name']}" if field else named["name"]
    cause = cause[:1].lower() + cause[1:]
    where = f" in {_short(field)}" if field and not named else ""
    return _short(cause) + where, _short(field)


def _short(text: str, limit: int = 200) -> str:
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:limit])
    return shown + ("..." if len(text) > limit else "")
