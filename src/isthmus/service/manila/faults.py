"""From errors to the faults that Manila's clients know."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.model.errors import (
    Conflict,
    DeadlineExpired,
    Exhausted,
    Forbidden,
    HostFailure,
    Invalid,
    IsthmusError,
    NotFound,
    Refused,
    Unauthenticated,
    Unavailable,
)
from isthmus.service.faults import TooLarge, UnreadableType
from isthmus.service.manila.router import NoSuchAction, NoSuchMethod, NoSuchPath
from isthmus.wire.manila.version import NotAcceptable

STATUS: Mapping[type[IsthmusError], int] = {
    TooLarge: 413,
    UnreadableType: 415,
    NoSuchPath: 404,
    NoSuchMethod: 405,
    NoSuchAction: 400,
    NotAcceptable: 406,
    Invalid: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    Refused: 409,
    Exhausted: 413,
    Unavailable: 503,
    DeadlineExpired: 504,
    HostFailure: 502,
    IsthmusError: 500,
}
"""The first class that fits counts."""

BY_CODE: Mapping[str, int] = {
    "share-in-use": 403,
    "copies-in-the-making": 403,
    "snapshot-in-use": 403,
    "access-exists": 400,
    "snapshot-of-another-share": 400,
    "no-such-power": 400,
    "type-in-use": 400,
}
"""Where Manila answers otherwise than with what the class says."""


def status_of(error: IsthmusError) -> int:
    """The HTTP status of an error."""
    known = BY_CODE.get(error.code)
    return known if known is not None else next(status for kind, status in STATUS.items() if isinstance(error, kind))
