"""Callers: who asks the service for something, and who vouches for them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from isthmus.model.names import HostName, ProjectId


class Way(StrEnum):
    """Who vouches for a caller."""

    NOBODY = "nobody"
    SOCKET = "socket"
    """The kernel: the service's unix socket opens for the machine's root alone."""
    OPEN = "open"
    """The configuration: everybody on this machine is the operator (``service.auth = "none"``)."""
    LOCAL = "local"
    """The file of local users."""
    KEYSTONE = "keystone"
    CERTIFICATE = "certificate"
    """A host's certificate, in mutual TLS."""


class Role(StrEnum):
    """Keystone's default roles, weakest first. Each implies those before it, and a caller carries all of them."""

    READER = "reader"
    MEMBER = "member"
    MANAGER = "manager"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ``user`` is an id, "" if nobody is known; ``system``: the roles hold for the whole system and not for
    a ``project``; ``host``: an agent, by its certificate; ``address``: where the request came from, for the audit."""

    way: Way = Way.NOBODY
    user: str = ""
    name: str = ""
    project: ProjectId | None = None
    roles: frozenset[str] = frozenset()
    system: bool = False
    host: HostName | None = None
    address: str = ""


def with_implied(roles: frozenset[str]) -> frozenset[str]:
    """The roles, and those that they imply."""
    order = list(Role)
    highest = max((order.index(Role(role)) for role in roles if role in set(order)), default=-1)
    return roles | {str(role) for role in order[: highest + 1]}
