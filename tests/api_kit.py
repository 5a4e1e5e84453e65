"""The API for callers of every kind: a header of the tests' own says who asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from isthmus.model.caller import Caller, Role, Way, with_implied
from isthmus.model.errors import Unauthenticated
from isthmus.model.names import HostName, ProjectId
from isthmus.service.app import build
from isthmus.service.identity.base import Presented
from isthmus.service.policy import Policy
from isthmus.service.service import Service


def user(project: str, role: Role) -> Caller:
    """A user of a project."""
    name = f"{role}-of-{project}"
    return Caller(Way.LOCAL, name, name, ProjectId(project), with_implied(frozenset({role})))


def operator(role: Role = Role.ADMIN) -> Caller:
    """A user with a role on the whole system."""
    return Caller(Way.LOCAL, f"system-{role}", f"system-{role}", None, with_implied(frozenset({role})), system=True)


def agent(host: str) -> Caller:
    """The agent of a host."""
    return Caller(Way.CERTIFICATE, host, host, host=HostName(host))


CALLERS = {
    "owner": user("acme", Role.MEMBER),
    "reader": user("acme", Role.READER),
    "other project": user("other", Role.MEMBER),
    "other's admin": user("other", Role.ADMIN),
    "operator": operator(),
    "observer": operator(Role.READER),
    "agent": agent("h1"),
    "other agent": agent("h2"),
    "unscoped": Caller(Way.KEYSTONE, "u", "u"),
}
EXPIRED = "expired token"
ANONYMOUS = "anonymous"


class HeaderVoucher:
    """Believes the header ``x-test-caller``."""

    challenge = 'Test realm="isthmus"'

    async def caller(self, presented: Presented) -> Caller:
        """See ``Voucher``."""
        name = presented.headers.get("x-test-caller")
        if name is None:
            return Caller()
        if name == EXPIRED:
            raise Unauthenticated("cannot let you in: the time of this token is over")
        return CALLERS[name]

    async def close(self) -> None:
        """Nothing is held."""


@asynccontextmanager
async def client_of(service: Service, policy: Policy | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """Requests to the service, in this process."""
    app = build(service, HeaderVoucher(), policy or Policy())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://isthmus") as client:
        yield client


def as_caller(name: str) -> dict[str, str]:
    """The headers of a caller of this kind."""
    return {} if name == ANONYMOUS else {"x-test-caller": name}
