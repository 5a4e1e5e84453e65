"""Callers that the machine itself vouches for: whoever can open the unix socket, or connect from this machine."""

from __future__ import annotations

from urllib.parse import urlsplit

from isthmus.model.caller import Caller, Role, Way, with_implied
from isthmus.model.errors import Forbidden
from isthmus.service.identity.base import Presented

_EVERYTHING = with_implied(frozenset({Role.ADMIN}))
_HERE = frozenset({"localhost", "127.0.0.1", "::1"})


class SocketVoucher:
    """The unix socket opens for root alone: whoever asks is root, and the operator."""

    challenge = ""

    async def caller(self, presented: Presented) -> Caller:
        """Root."""
        return Caller(Way.SOCKET, "root", "root", roles=_EVERYTHING, system=True, address=presented.address)

    async def close(self) -> None:
        """Nothing is held."""


class OpenVoucher:
    """``service.auth = "none"``: everybody on this machine is the operator."""

    challenge = ""

    async def caller(self, presented: Presented) -> Caller:
        """The operator. Raises ``Forbidden`` if the request is for another host: a web page that a browser on this
        machine shows could otherwise be told by its name server to be us."""
        host = presented.headers.get("host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if name not in _HERE:
            raise Forbidden(f"cannot take a request for host {host[:80]!a}: this is localhost", code="foreign-host")
        return Caller(Way.OPEN, roles=_EVERYTHING, system=True, address=presented.address)

    async def close(self) -> None:
        """Nothing is held."""
