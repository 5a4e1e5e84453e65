"""The processes: service, agent, or both in one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from isthmus.agent import identity
from isthmus.agent.admission import Admission
from isthmus.agent.assemble import assemble, only_agent
from isthmus.agent.equipment import Orders
from isthmus.agent.ledger import Ledger
from isthmus.agent.loop import Agent, Tempo
from isthmus.agent.memory import FileMemory
from isthmus.agent.remote import RemoteOrders
from isthmus.listeners import Listeners
from isthmus.model.address import TcpAddress, parse_address
from isthmus.model.config import Config
from isthmus.model.errors import HostRevoked, IsthmusError, Unavailable
from isthmus.model.names import HostName
from isthmus.pki.facts import facts_of, host_of
from isthmus.pki.trust import Trust
from isthmus.service.chores import keep
from isthmus.service.domain.hosts import register_host
from isthmus.service.keeper import Keeper
from isthmus.service.service import Service
from isthmus.store import Store
from isthmus.store.store import utc_now

THREADS = 32
RETRY = 1.0
RENEWAL_LOOK = 3600.0
"""Seconds between two looks at whether the host's certificate is due."""

log = logging.getLogger(__name__)


async def up(config: Config) -> None:
    """Service and agent of this host in one process, until cancelled. The host registers itself."""
    with only_agent(config.layout):
        async with _service(config) as (service, keeper):
            await service.write(lambda tx: register_host(tx, config.host))
            place = _place(config)
            if set(place.roots()) != set(keeper.roots):
                place.write_roots(keeper.roots)
            await _run_agent(config, config.host, service, _admission(place, config.host))


async def run_service(config: Config) -> None:
    """The service alone, until cancelled."""
    async with _service(config):
        await asyncio.Event().wait()


async def run_agent(config: Config) -> None:
    """The agent alone, until cancelled; what it has made goes on serving."""
    address = parse_address(config.service, "agent.service")
    place = _place(config)
    certificate = place.certificate()
    host = config.host
    if certificate is not None and isinstance(address, TcpAddress) and address.tls:
        host = host_of(certificate)
        if host != config.host:
            log.info("agent: this is host %s by its certificate; the configuration's %s is not used", host, config.host)
    with only_agent(config.layout):
        encrypted = isinstance(address, TcpAddress) and address.tls
        if not encrypted:
            await _learn_roots(place, lambda: identity.fetch_roots(address))
        admission = _admission(place, host)
        async with RemoteOrders(address, place.context) as orders, asyncio.TaskGroup() as group:
            if encrypted:
                group.create_task(_renew(place, host, orders, admission), name="renew")
            group.create_task(_run_agent(config, host, orders, admission), name="agent")


async def _learn_roots(place: identity.Place, fetch: Callable[[], tuple[bytes, ...]]) -> None:
    """The roots of a service on this machine are in the agent's directory. What is there counts until it answers."""
    while True:
        try:
            roots = await asyncio.to_thread(fetch)
        except Unavailable as error:
            if place.roots():
                return
            log.warning("%s", error)
            await asyncio.sleep(RETRY)
            continue
        if set(roots) != set(place.roots()):
            place.write_roots(roots)
        return


async def _renew(place: identity.Place, host: HostName, orders: RemoteOrders, admission: Admission) -> None:
    """The host's certificate is renewed in time."""
    while True:
        certificate = place.certificate()
        if certificate is not None and identity.is_due(certificate, utc_now()):
            try:
                key, asked = identity.renewal()
                done = await orders.certify(host, asked)
                place.write_host(key, done.certificate)
                admission.renewed(facts_of(done.certificate).serial)
                await orders.reopen()
                log.info("agent: the certificate of host %s is renewed", host)
            except HostRevoked:
                pass  # the agent's other calls have met it too
            except IsthmusError as error:
                log.warning("agent: cannot renew the certificate of host %s: %s", host, error)
                await asyncio.sleep(60 * RETRY)
                continue
        await asyncio.sleep(RENEWAL_LOOK)


@asynccontextmanager
async def _service(config: Config) -> AsyncIterator[tuple[Service, Keeper]]:
    """Listening, over an open store."""
    for directory in (config.layout.state, config.layout.run):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    keeper = Keeper(authority_directory(config))
    await asyncio.to_thread(keeper.ensure, utc_now)
    store = await asyncio.to_thread(Store.open, config.database)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, store.close)
        service = Service(store, signer=keeper, lifetime=config.grants.span)
        stack.push_async_callback(service.close)
        await service.publish()
        await stack.enter_async_context(Listeners(config, service, keeper).listening())
        chores = asyncio.create_task(keep(service), name="chores")
        stack.callback(chores.cancel)
        if config.grants.keystone:
            await stack.enter_async_context(_credentials(config, service))
        yield service, keeper


@asynccontextmanager
async def _credentials(config: Config, service: Service) -> AsyncIterator[None]:
    """Keystone's credential store follows the grants meanwhile."""
    from isthmus.service.credentials import CredentialKeeper  # noqa: PLC0415 - a heavy library

    running = asyncio.create_task(CredentialKeeper(service, config.keystone).run(), name="credentials")
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def authority_directory(config: Config) -> Path:
    """Where the service's authority is."""
    return config.layout.state / "ca"


def _place(config: Config) -> identity.Place:
    return identity.Place(config.layout.state / "agent")


def _admission(place: identity.Place, host: HostName) -> Admission:
    certificate = place.certificate()
    serial = facts_of(certificate).serial if certificate is not None else ""
    admission = Admission(host, Trust(place.roots()), Ledger(place.directory), utc_now, certificate=serial)
    admission.on_roots(place.write_roots)
    return admission


async def _run_agent(config: Config, host: HostName, orders: Orders, admission: Admission) -> None:
    # A call that a dead disk holds keeps its thread. By default there are so few of them on a small machine that one
    # pool's shares would stop everything else.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "isthmus"))
    config.qmp.mkdir(mode=0o700, parents=True, exist_ok=True)
    equipment = assemble(config)
    memory = FileMemory(config.layout.state / "desired.json")
    agent = Agent(host, config.layout, equipment, orders, memory, admission=admission, tempo=Tempo(audit=config.audit))
    log.info("agent: host %s, QMP sockets in %s", host, config.qmp)
    try:
        await agent.run()
    finally:
        await equipment.hypervisor.close()
