"""Shapes: which fields a resource shows in which version, and what a request may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from isthmus.wire.manila.version import MAX

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """``name`` in the answer, from the fact ``source`` (default: of the same name), from version 2.``since`` on and up
    to 2.``until``; ``admin``: for operators alone."""

    name: str
    since: int = 0
    until: int = MAX
    source: str = ""
    admin: bool = False


@dataclass(frozen=True, eq=False)
class Shape:
    """A resource as answers show it."""

    fields: tuple[Field, ...]

    def show(self, facts: Mapping[str, Any], minor: int, *, admin: bool = False) -> dict[str, Any]:
        """The facts that this version shows, under its names."""
        return {name: facts[source] for name, source in _names(self, minor, admin)}


@cache
def _names(shape: Shape, minor: int, admin: bool) -> tuple[tuple[str, str], ...]:
    return tuple(
        (one.name, one.source or one.name)
        for one in shape.fields
        if one.since <= minor <= one.until and (admin or not one.admin)
    )


def shape(*fields: Field | str) -> Shape:
    """A shape; a text is a field that is always there."""
    return Shape(tuple(Field(one) if isinstance(one, str) else one for one in fields))


@dataclass(frozen=True, slots=True)
class Part:
    """A field of a request: a JSON schema, and from which version on it counts (before, it is ignored)."""

    name: str
    schema: Schema
    since: int = 0
    required: bool = False
    until: int = MAX


@dataclass(frozen=True, eq=False)
class Body:
    """What a request holds below ``root`` (an action's name, a resource), or without one if that is "". ``empty``:
    the value below the root may be null. ``schema``: in place of parts."""

    root: str
    parts: tuple[Part, ...] = ()
    empty: bool = False
    schema: Schema | None = None
    also: tuple[str, ...] = ()
    """Other names of the root, as older versions have them."""

    def at(self, minor: int) -> dict[str, Any]:
        """The JSON schema of the whole body in a version."""
        live = [part for part in self.parts if part.since <= minor <= part.until]
        inner: dict[str, Any] = {
            "type": ["object", "null"] if self.empty else "object",
            "properties": {part.name: dict(part.schema) for part in live},
            "required": [part.name for part in live if part.required],
        }
        if self.schema is not None:
            inner = dict(self.schema)
        if not self.root:
            return inner
        return {"type": "object", "properties": {self.root: inner}, "required": [self.root]}

    def step(self, minor: int) -> int:
        """The oldest version that has the same schema."""
        bounds = {bound for part in self.parts for bound in (part.since, part.until + 1) if bound <= minor}
        return max(bounds, default=0)

    def ignored(self, minor: int) -> tuple[str, ...]:
        """Fields of other versions: ignored in this one."""
        return tuple(part.name for part in self.parts if not part.since <= minor <= part.until)


_WORDS = ("true", "false", "1", "0", "yes", "no", "on", "off", "t", "f", "y", "n")


def _any_case(word: str) -> str:
    """A pattern for the word, in every dialect of regular expressions."""
    return "".join(f"[{letter.upper()}{letter}]" if letter.isalpha() else letter for letter in word)


TEXT: Schema = {"type": "string", "maxLength": 255}
TEXT_OR_NONE: Schema = {"type": ["string", "null"], "maxLength": 255}
LONG: Schema = {"type": ["string", "null"], "maxLength": 1023}
UUID: Schema = {"type": "string", "format": "uuid"}
UUID_OR_NONE: Schema = {"type": ["string", "null"], "maxLength": 64}
FLAG: Schema = {
    "oneOf": [
        {"type": "boolean"},
        {"type": "string", "pattern": f"^({'|'.join(map(_any_case, _WORDS))})$"},
        {"type": "integer", "minimum": 0, "maximum": 1},
    ]
}
FLAG_OR_NONE: Schema = {"oneOf": [*FLAG["oneOf"], {"type": "null"}]}
GIB: Schema = {
    "oneOf": [
        {"type": "integer", "minimum": 1, "maximum": 1048576},
        {"type": "string", "pattern": "^[1-9][0-9]{0,6}$"},
    ]
}
LIMIT: Schema = {
    "oneOf": [
        {"type": "integer", "minimum": -1, "maximum": 2147483647},
        {"type": "string", "pattern": "^(-1|[0-9]{1,9})$"},
        {"type": "null"},
    ]
}
LABELS: Schema = {
    "type": "object",
    "maxProperties": 128,
    "propertyNames": {"minLength": 1, "maxLength": 255},
    "additionalProperties": {"type": ["string", "number", "boolean"], "maxLength": 1023},
}
LABELS_OR_NONE: Schema = {"oneOf": [LABELS, {"type": "null"}]}
SPECS: Schema = {
    "type": "object",
    "maxProperties": 128,
    "propertyNames": {"pattern": "^[A-Za-z0-9_.:-]{1,255}$"},
    "additionalProperties": {"type": ["string", "number", "boolean"], "maxLength": 255},
}
OBJECT_OR_NONE: Schema = {"type": ["object", "null"]}
TEXTS_OR_NONE: Schema = {"type": ["array", "null"], "items": {"type": "string", "maxLength": 255}, "maxItems": 1000}

_TRUE = frozenset({"true", "1", "yes", "on", "t", "y"})


def flag(value: object, default: bool = False) -> bool:
    """What a ``FLAG`` means."""
    return default if value is None else str(value).lower() in _TRUE


def labels(value: Mapping[str, object] | None) -> dict[str, str]:
    """What ``LABELS`` or ``SPECS`` hold, as texts; none for null."""
    return {name: str(one) for name, one in (value or {}).items()}
