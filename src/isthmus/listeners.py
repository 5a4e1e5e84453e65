"""Where the service listens, by its configuration: one application for each way to come in."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.types import ASGIApp

from isthmus.model.address import Address, TcpAddress, UnixAddress, parse_address
from isthmus.model.config import Auth, Config
from isthmus.model.errors import Invalid, IsthmusError, Refused
from isthmus.service.app import build
from isthmus.service.identity.base import Voucher
from isthmus.service.identity.certificate import CertificateVoucher
from isthmus.service.identity.kernel import OpenVoucher, SocketVoucher
from isthmus.service.identity.local import LocalVoucher
from isthmus.service.keeper import Keeper
from isthmus.service.manila.app import Faces, Manila
from isthmus.service.policy import Policy
from isthmus.service.routes import ROUTES, Access, Route
from isthmus.service.seal import Seal
from isthmus.service.server import listening
from isthmus.service.service import Service
from isthmus.service.tls import OwnTls, given
from isthmus.store.store import utc_now

LOOK = 10.0
"""Seconds between two looks at the authority's directory and the certificates."""

log = logging.getLogger(__name__)


def is_for_agents(route: Route) -> bool:
    """Whether the agents' port answers it."""
    return route.access in (Access.AGENT, Access.ANYONE)


class Listeners:
    """Of one service."""

    def __init__(self, config: Config, service: Service, keeper: Keeper) -> None:
        """Raises ``Invalid`` for a policy or an address that cannot be used, ``Refused`` for a way in that would let
        everybody in."""
        self._config, self._service, self._keeper = config, service, keeper
        self._policy = Policy(config.policy)
        self._own: list[OwnTls] = []
        self._vouchers: list[Voucher] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """All addresses of the configuration are answered meanwhile."""
        config = self._config
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close)
            address = parse_address(config.listen, "service.listen")
            voucher: Voucher = SocketVoucher() if isinstance(address, UnixAddress) else self._users()
            await self._add(stack, address, voucher, tls=None)
            if config.public:
                await self._add(stack, self._https(config.public, "service.public"), self._strict(), self._public_tls())
            if config.agents:
                hosts = CertificateVoucher(self._service)
                tls = self._own_tls(self._https(config.agents, "service.agents"), clients=True)
                await self._add(stack, self._https(config.agents, "service.agents"), hosts, tls, agents=True)
            watching = asyncio.create_task(self._watch(), name="authority")
            stack.callback(watching.cancel)
            yield

    async def _add(
        self,
        stack: AsyncExitStack,
        address: Address,
        voucher: Voucher,
        tls: ssl.SSLContext | None,
        *,
        agents: bool = False,
    ) -> None:
        if isinstance(address, TcpAddress) and address.tls and tls is None:
            raise Invalid(f"cannot listen at {address}: service.listen is for this machine: write http", field="listen")
        self._vouchers.append(voucher)
        routes = filter(is_for_agents, ROUTES) if agents else ROUTES
        app: ASGIApp = build(self._service, voucher, self._policy, tuple(routes))
        if not agents:
            gateway = self._config.network.partition("/")[0]
            app = Faces(
                app,
                Manila(
                    self._service,
                    voucher,
                    self._policy,
                    gateway=gateway,
                    seal=Seal.at(self._config.layout.state / "seal.key"),
                ),
            )
        await stack.enter_async_context(listening(self._service, address, app=app, tls=tls))
        log.info("service: listening at %s", address)

    def _users(self) -> Voucher:
        """Who vouches for users on TCP."""
        if self._config.auth is Auth.LOCAL:
            return LocalVoucher(self._config.users)
        if self._config.auth is Auth.KEYSTONE:
            from isthmus.service.identity.keystone import KeystoneVoucher  # noqa: PLC0415 - a heavy library

            return KeystoneVoucher(self._config.keystone, utc_now)
        return OpenVoucher()

    def _strict(self) -> Voucher:
        voucher = self._users()
        if isinstance(voucher, OpenVoucher):
            raise Refused(
                'cannot listen at service.public with auth = "none": everybody would be the operator: use local or '
                "keystone",
                code="no-authentication",
            )
        return voucher

    def _https(self, text: str, field: str) -> TcpAddress:
        address = parse_address(text, field)
        if not isinstance(address, TcpAddress) or not address.tls:
            raise Invalid(f"cannot listen at {text!a}: {field} is https://ADDRESS:PORT", field=field)
        return address

    def _public_tls(self) -> ssl.SSLContext:
        if self._config.certificate:
            return given(self._config.certificate, self._config.key)
        return self._own_tls(self._https(self._config.public, "service.public"), clients=False)

    def _own_tls(self, address: TcpAddress, *, clients: bool) -> ssl.SSLContext:
        names = list(self._config.names) or [socket.getfqdn(), socket.gethostname()]
        if address.host not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
            names.append(address.host)
        made = OwnTls(self._keeper, list(dict.fromkeys(names)), self._config.layout.run, clients=clients)
        made.refresh(utc_now())
        self._own.append(made)
        return made.context

    async def _watch(self) -> None:
        """Agents hear of a rotated authority, and certificates are renewed, without a restart."""
        stamp = self._keeper.stamp
        while True:
            await asyncio.sleep(LOOK)
            try:
                for tls in self._own:
                    tls.refresh(utc_now())
                if self._keeper.stamp != stamp:
                    await self._service.publish()
                    stamp = self._keeper.stamp
                    log.info("service: the authority has changed; agents are told")
            except (IsthmusError, OSError) as error:
                log.warning("service: cannot take in the authority: %s", error)

    async def _close(self) -> None:
        for voucher in self._vouchers:
            await voucher.close()
