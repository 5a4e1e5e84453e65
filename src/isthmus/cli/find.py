"""From what a person types to one object: a UUID, a unique name, or a unique beginning of an id."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping

from isthmus.cli.client import ATTACHMENTS, NOT_FOUND, Answered, Client, NotFoundHere, Noun, View
from isthmus.model.errors import Conflict, Invalid
from isthmus.model.names import parse_slug, parse_title, parse_uuid

MOST_SHOWN = 6
DIGITS = 32
_BEGINNING = re.compile(r"[0-9a-f]{4}[0-9a-f-]{0,32}")


class Ambiguous(Conflict):
    """Several objects have this name, or an id that begins so."""

    code = "ambiguous"


def find(api: Client, noun: Noun[View], text: str, within: Mapping[str, str] | None = None) -> View:
    """The one object that ``text`` means, among those that pass the filters ``within``. Asks for a few objects however
    many there are. Raises ``NotFoundHere``; ``Ambiguous`` with the candidates; ``Invalid`` for what names nothing."""
    if noun.key == "name":
        return _get(api, noun, parse_slug(text, noun.word))
    key = _whole_id(text)
    if key:
        return _get(api, noun, key)
    found = {noun.key_of(view): view for view in _named(api, noun, text, within or {})}
    found |= {noun.key_of(view): view for view in _beginning(api, noun, text.lower(), within or {})}
    if len(found) == 1:
        return found.popitem()[1]
    if not found:
        raise NotFoundHere(
            f"cannot find {noun.word} {_shown(text)}: give {_ways(noun)}; `isthmus {noun.word} list` shows all"
        )
    shown = "; ".join(_candidate(noun, view) for view in [*found.values()][:MOST_SHOWN])
    more = "; and others" if len(found) > MOST_SHOWN else ""
    raise Ambiguous(f"cannot tell which {noun.word} {_shown(text)} is: give the id of one\n{shown}{more}")


def _named(api: Client, noun: Noun[View], text: str, within: Mapping[str, str]) -> list[View]:
    if not text or noun.word == ATTACHMENTS.word:
        return []
    name = parse_title(text, noun.word)
    return api.page(noun, {**within, "name": name, "limit": str(MOST_SHOWN + 1)}).items


def _beginning(api: Client, noun: Noun[View], text: str, within: Mapping[str, str]) -> list[View]:
    """Lists are in the order of ids, so those that begin alike follow one another."""
    digits = text.replace("-", "")
    if not _BEGINNING.fullmatch(text) or len(digits) > DIGITS:
        return []
    first = int(digits.ljust(DIGITS, "0"), 16)
    marker = {"marker": str(uuid.UUID(int=first - 1))} if first else {}
    views = api.page(noun, {**within, **marker, "limit": str(MOST_SHOWN + 1)}).items
    return [view for view in views if noun.key_of(view).startswith(text)]


def _get(api: Client, noun: Noun[View], key: str) -> View:
    try:
        return api.get(noun, key)
    except Answered as error:
        if error.status != NOT_FOUND:
            raise
        raise NotFoundHere(f"cannot find {noun.word} {key}: `isthmus {noun.word} list` shows all") from error


def _whole_id(text: str) -> str | None:
    try:
        return parse_uuid(text.lower(), "id")
    except Invalid:
        return None


def _candidate(noun: Noun[View], view: View) -> str:
    name, project = getattr(view, "name", ""), getattr(view, "project", "")
    about = [name] if name else []
    about += [f"project {project}"] if project else []
    return f"{noun.key_of(view)} ({', '.join(about)})" if about else noun.key_of(view)


def _ways(noun: Noun[View]) -> str:
    ways = "an id or 4 of the digits that begin it"
    return ways if noun.word == ATTACHMENTS.word else f"a name, {ways}"


def _shown(text: str) -> str:
    shown = ascii(text)
    return shown if len(shown) <= 80 else shown[:77] + "..."
