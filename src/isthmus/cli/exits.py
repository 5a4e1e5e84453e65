"""Exit codes: one table, documented in docs/reference/cli.md."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from isthmus.cli.client import Answered, NotFoundHere
from isthmus.cli.wait import WaitExpired
from isthmus.model.errors import (
    Conflict,
    Exhausted,
    Forbidden,
    Invalid,
    IsthmusError,
    NotFound,
    Refused,
    Unauthenticated,
    Unavailable,
)


class Exit(IntEnum):
    """What the program ends with."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    REFUSED = 5
    EXHAUSTED = 6
    UNAVAILABLE = 7
    WAIT_EXPIRED = 8
    NOT_ALLOWED = 9
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it


BY_STATUS: Mapping[int, Exit] = {
    400: Exit.USAGE,
    401: Exit.NOT_ALLOWED,
    403: Exit.NOT_ALLOWED,
    404: Exit.NOT_FOUND,
    409: Exit.CONFLICT,
    413: Exit.USAGE,
    415: Exit.USAGE,
    422: Exit.REFUSED,
    503: Exit.UNAVAILABLE,
    507: Exit.EXHAUSTED,
}
BY_CLASS: Mapping[type[IsthmusError], Exit] = {
    Invalid: Exit.USAGE,
    Unauthenticated: Exit.NOT_ALLOWED,
    Forbidden: Exit.NOT_ALLOWED,
    NotFoundHere: Exit.NOT_FOUND,
    NotFound: Exit.NOT_FOUND,
    Conflict: Exit.CONFLICT,
    Refused: Exit.REFUSED,
    Exhausted: Exit.EXHAUSTED,
    Unavailable: Exit.UNAVAILABLE,
    WaitExpired: Exit.WAIT_EXPIRED,
}


def exit_of(error: IsthmusError) -> Exit:
    """The exit code of an error, wherever it arose."""
    if isinstance(error, Answered):
        return BY_STATUS.get(error.status, Exit.FAILED)
    return next((code for known, code in BY_CLASS.items() if isinstance(error, known)), Exit.FAILED)
