"""How errors look on HTTP: one table from class to status, one envelope."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.responses import Response

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
from isthmus.wire.api import Fault, FaultEnvelope


class TooLarge(Invalid):
    """A body of more bytes than the route takes."""

    code = "body-too-large"


class UnreadableType(Invalid):
    """A body that does not say that it is JSON."""

    code = "unsupported-media-type"


# The first class that fits counts, so subclasses stand before their bases. 507 (RFC 4918, insufficient storage) and
# not 413 for Exhausted: it is the pool that is too small, not the request that is too large. 502 for HostFailure: this
# service is well, the host behind it said no.
STATUS: Mapping[type[IsthmusError], int] = {
    TooLarge: 413,
    UnreadableType: 415,
    Invalid: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    Refused: 422,
    Exhausted: 507,
    Unavailable: 503,
    DeadlineExpired: 504,
    HostFailure: 502,
    IsthmusError: 500,
}

SUMMARY: Mapping[int, str] = {
    400: "The request can never work as it is",
    401: "Nobody vouches for the caller",
    403: "The caller may not do this",
    404: "No such object, or none that the caller may know of",
    405: "The path does not have this method",
    409: "The present state forbids it",
    413: "The body is too large",
    415: "The body is not declared as JSON",
    422: "It could not be kept by this host, pool or guest, so it is not begun",
    500: "A fault of the service itself",
    502: "The host said no",
    503: "A party that is needed does not answer: try again",
    504: "It was not done in time",
    507: "No room",
}


def status_of(kind: type[IsthmusError]) -> int:
    """The HTTP status of an error of this class."""
    return next(status for known, status in STATUS.items() if issubclass(kind, known))


def answer(error: IsthmusError, request_id: str, challenge: str = "") -> Response:
    """The error as an answer; ``challenge`` says how a caller that nobody vouches for may authenticate."""
    status = status_of(type(error))
    fault = Fault(code=error.code, message=error.message, detail=dict(error.detail), request_id=request_id)
    return envelope(status, fault, {"WWW-Authenticate": challenge} if status == 401 and challenge else None)


def envelope(status: int, fault: Fault, headers: Mapping[str, str] | None = None) -> Response:
    """A fault in the shape that all faults have."""
    return Response(
        msgspec.json.encode(FaultEnvelope(error=fault)), status, dict(headers or {}), media_type="application/json"
    )
