"""From errors to the faults that Manila's clients know."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.model.errors import Exhausted, IsthmusError, Refused
from isthmus.service import faults
from isthmus.service.manila.router import NoSuchAction, NoSuchMethod, NoSuchPath
from isthmus.wire.manila.version import NotAcceptable

STATUS: Mapping[type[IsthmusError], int] = {
    NoSuchPath: 404,
    NoSuchMethod: 405,
    NoSuchAction: 400,
    NotAcceptable: 406,
    Refused: 409,
    Exhausted: 413,
}
"""Where Manila answers otherwise than Isthmus's own API, by class."""

BY_CODE: Mapping[str, int] = {
    "share-in-use": 403,
    "copies-in-the-making": 403,
    "snapshot-in-use": 403,
    "access-exists": 400,
    "snapshot-of-another-share": 400,
    "no-such-power": 400,
    "type-in-use": 400,
}
"""And by code, whatever the class says."""


def status_of(error: IsthmusError) -> int:
    """The HTTP status of an error."""
    known = BY_CODE.get(error.code)
    if known is None:
        known = next((status for kind, status in STATUS.items() if isinstance(error, kind)), None)
    return faults.status_of(type(error)) if known is None else known
