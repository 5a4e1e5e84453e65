"""Faults as Manila's clients read them: ``{"badRequest": {"code": 400, "message": "..."}}``."""

from __future__ import annotations

from collections.abc import Mapping

NAMES: Mapping[int, str] = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    406: "notAcceptable",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    422: "unprocessableEntity",
    500: "computeFault",
    501: "notImplemented",
    502: "badGateway",
    503: "serviceUnavailable",
    504: "gatewayTimeout",
}


def envelope(status: int, message: str) -> dict[str, dict[str, object]]:
    """The body of an answer that is a fault."""
    fault: dict[str, object] = {"code": status, "message": message}
    if status == 413:
        fault["retryAfter"] = "0"
    return {NAMES.get(status, "computeFault"): fault}
