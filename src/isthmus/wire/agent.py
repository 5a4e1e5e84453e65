"""The two documents between service and agent, as JSON: field for field the dataclasses of ``model.desired``.

Unknown fields are ignored on both sides, so that service and agents can be upgraded one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from isthmus.model.desired import Desired, Report
from isthmus.wire.decode import decode


def encode_desired(document: Desired) -> bytes:
    """The document for an agent."""
    return _encode(document)


def decode_desired(body: bytes) -> Desired:
    """The document. Raises ``Invalid`` naming the field at fault."""
    return decode(body, Desired, "document")


def encode_report(report: Report) -> bytes:
    """The report for the service."""
    return _encode(report)


def decode_report(body: bytes) -> Report:
    """The report. Raises ``Invalid`` naming the field at fault."""
    return decode(body, Report, "report")


def _encode(document: Desired | Report) -> bytes:
    return msgspec.json.encode(document, enc_hook=_plain, order="deterministic")


def _plain(value: object) -> object:
    """The model promises a Mapping; msgspec knows only dict."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"cannot encode {type(value).__name__}")
