"""The seam between the API and whoever vouches for those that use it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from starlette.types import Scope

from isthmus.model.caller import Caller


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request brings. ``headers``: names in lower case; ``address``: where it came from, for the audit, "" over
    a unix socket; ``certificate``: the TLS client's (DER), whose chain the listener has verified."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    address: str = ""
    certificate: bytes | None = None


def headers_of(scope: Scope) -> dict[str, str]:
    """A request's headers, names in lower case; of one that comes twice, the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def presented_by(scope: Scope, headers: Mapping[str, str]) -> Presented:
    """What the request of this ASGI scope brings, whose headers are known."""
    client = scope.get("client")
    chain = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", ())
    certificate = ssl.PEM_cert_to_DER_cert(chain[0]) if chain else None
    return Presented(headers, (client[0] or "") if client else "", certificate)


class Voucher(Protocol):
    """Vouches for the callers of one listener."""

    @property
    def challenge(self) -> str:
        """How a client may authenticate: the value of WWW-Authenticate in a 401; "" for no such way."""
        ...

    async def caller(self, presented: Presented) -> Caller:
        """Who asks; a caller of ``Way.NOBODY`` if the request carries no credentials at all. Raises
        ``Unauthenticated`` for credentials that are wrong or have ended, ``HostRevoked`` for a host's certificate that
        is, ``Unavailable`` if that cannot be found out now."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...
