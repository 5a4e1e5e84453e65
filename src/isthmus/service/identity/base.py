"""The seam between the API and whoever vouches for its users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from isthmus.model.caller import Caller


class Voucher(Protocol):
    """Vouches for users that come over TCP. ``challenge`` is the value of WWW-Authenticate in a 401."""

    @property
    def challenge(self) -> str:
        """How a client may authenticate."""
        ...

    async def caller(self, headers: Mapping[str, str], address: str) -> Caller:
        """Who asks, by the request's headers (names in lower case); a caller of ``Way.NOBODY`` if they carry no
        credentials at all. Raises ``Unauthenticated`` for credentials that are wrong or have ended, ``Unavailable`` if
        that cannot be found out now."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...
