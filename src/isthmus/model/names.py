"""Identifiers, and the one place that says what a good name, path, size or id is.

Every ``parse_*`` returns the canonical value or raises ``Invalid`` with the field and the mend.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from typing import NewType

from isthmus.model.errors import Invalid

ShareId = NewType("ShareId", str)
SnapshotId = NewType("SnapshotId", str)
GuestId = NewType("GuestId", str)
AttachmentId = NewType("AttachmentId", str)
PoolName = NewType("PoolName", str)
HostName = NewType("HostName", str)
TypeName = NewType("TypeName", str)
ProjectId = NewType("ProjectId", str)

GIB = 1 << 30
MIB = 1 << 20
MAX_SHARE_SIZE = 1 << 50
MAX_TITLE = 255
MAX_DESCRIPTION = 1023
MAX_PLACE = 1024
MAX_COMPONENT = 255
MAX_DEPTH = 32

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_PROJECT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,63})")
_SIZE = re.compile(r"(\d{1,18})\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE)
_PLACE_CHARACTER = re.compile(r"[A-Za-z0-9._+@=,: -]|[^\x00-\x7f]")


def new_id() -> str:
    """A random (version 4) UUID in canonical lower-case form."""
    return str(uuid.uuid4())


def parse_uuid(text: str, field: str) -> str:
    """The canonical lower-case form of a UUID; braces, URN prefixes and bare hex digits are refused."""
    try:
        value = str(uuid.UUID(text))
    except (ValueError, AttributeError, TypeError):
        value = ""
    if not value or value != text.lower():
        raise Invalid(f"cannot use {_shown(text)} as {field}: not a UUID like {uuid.UUID(int=0)}", field=field)
    return value


def parse_slug(text: str, field: str) -> str:
    """The name of a pool, host or share type: 1 to 63 of ``a-z 0-9 . _ -``, a letter or digit at both ends."""
    if not _SLUG.fullmatch(text):
        raise Invalid(
            f"cannot use {_shown(text)} as {field}: use 1 to 63 of a-z 0-9 . _ - "
            "that begin and end with a letter or digit",
            field=field,
        )
    return text


def parse_project(text: str, field: str = "project") -> ProjectId:
    """A project (tenant) id as Keystone makes them: 1 to 64 of ``A-Z a-z 0-9 _ -``."""
    if not _PROJECT.fullmatch(text):
        raise Invalid(
            f"cannot use {_shown(text)} as {field}: use 1 to 64 of A-Z a-z 0-9 _ - that begin with a letter or digit",
            field=field,
        )
    return ProjectId(text)


def parse_title(text: str, field: str = "name", *, most: int = MAX_TITLE) -> str:
    """A tenant's free name: at most ``most`` (255) characters, nothing that a terminal or a log would act upon."""
    text = unicodedata.normalize("NFC", text)
    if len(text) > most:
        raise Invalid(f"cannot use {_shown(text)} as {field}: longer than {most} characters", field=field)
    for character in text:
        if not _harmless(character):
            raise Invalid(
                f"cannot use {_shown(text)} as {field}: it holds U+{ord(character):04X}, "
                "a control, format or line-breaking character",
                field=field,
            )
    return text


def parse_place(text: str, field: str = "at") -> str:
    """A place in the guest's name space: an absolute, normal path such as ``/data/models``.

    No ``.`` or ``..``, no empty component, no quote, backslash, glob or control character: the place
    goes into a gateway's configuration and into the guest's mount command.
    """
    text = unicodedata.normalize("NFC", text)  # first: it makes U+037E a semicolon, and U+1FEF a backquote
    if not text.startswith("/"):
        raise Invalid(f"cannot use {_shown(text)} as {field}: a place begins with /", field=field)
    if len(text.encode("utf-8", "surrogatepass")) > MAX_PLACE:
        raise Invalid(f"cannot use {_shown(text)} as {field}: longer than {MAX_PLACE} bytes", field=field)
    if text == "/":
        return text
    parts = text[1:].split("/")
    if len(parts) > MAX_DEPTH:
        raise Invalid(f"cannot use {_shown(text)} as {field}: deeper than {MAX_DEPTH} levels", field=field)
    for part in parts:
        _check_component(part, text, field)
    return text


def places_overlap(one: str, other: str) -> bool:
    """Whether two places are the same or one lies beneath the other."""
    a, b = one.rstrip("/") + "/", other.rstrip("/") + "/"
    return a.startswith(b) or b.startswith(a)


def parse_size(text: str | int, field: str = "size") -> int:
    """Bytes, from a number or from ``10G``, ``10GiB``, ``512M`` (powers of 1024)."""
    if isinstance(text, int):
        return check_size(text, field)
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise Invalid(f"cannot use {_shown(text)} as {field}: write bytes, or a number with M, G or T", field=field)
    power = " KMGTP".index(match[2].upper() or " ")
    return check_size(int(match[1]) << (10 * power), field)


def check_size(size: int, field: str = "size") -> int:
    """A share's size in bytes: whole MiB, from 1 MiB up to 1 PiB. The pool's driver may ask for more than 1 MiB."""
    if not MIB <= size <= MAX_SHARE_SIZE or size % MIB:
        raise Invalid(
            f"cannot use {size} as {field}: give a whole number of MiB between 1 MiB and {MAX_SHARE_SIZE // GIB} GiB",
            field=field,
        )
    return size


def _check_component(part: str, text: str, field: str) -> None:
    if part in ("", ".", ".."):
        raise Invalid(f"cannot use {_shown(text)} as {field}: it has the component {part!r}", field=field)
    if len(part.encode("utf-8", "surrogatepass")) > MAX_COMPONENT:
        raise Invalid(f"cannot use {_shown(text)} as {field}: a component is over {MAX_COMPONENT} bytes", field=field)
    if part != part.strip():
        raise Invalid(f"cannot use {_shown(text)} as {field}: a component begins or ends with white space", field=field)
    for character in part:
        if not _PLACE_CHARACTER.fullmatch(character) or not _harmless(character):
            raise Invalid(
                f"cannot use {_shown(text)} as {field}: U+{ord(character):04X} is not allowed in a place", field=field
            )


def _harmless(character: str) -> bool:
    """Not a control, format (bidi, zero-width), surrogate, private or line-separating character."""
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _shown(text: object) -> str:
    """A value for an error message: quoted, escaped, cut short."""
    shown = ascii(text)
    return shown if len(shown) <= 80 else shown[:77] + "..."
