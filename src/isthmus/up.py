"""The processes: service, agent, or both in one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from isthmus.agent.assemble import assemble, only_agent
from isthmus.agent.equipment import Orders
from isthmus.agent.loop import Agent, Tempo
from isthmus.agent.memory import FileMemory
from isthmus.agent.remote import RemoteOrders
from isthmus.model.config import Config
from isthmus.model.errors import Invalid
from isthmus.service.domain.hosts import register_host
from isthmus.service.server import Address, TcpAddress, listening
from isthmus.service.service import Service
from isthmus.store import Store

THREADS = 32

log = logging.getLogger(__name__)


async def up(config: Config) -> None:
    """Service and agent of this host in one process, until cancelled. The host registers itself."""
    with only_agent(config.layout):
        async with _service(config) as service:
            await service.write(lambda tx: register_host(tx, config.host))
            await _run_agent(config, service)


async def run_service(config: Config) -> None:
    """The service alone, until cancelled."""
    async with _service(config):
        await asyncio.Event().wait()


async def run_agent(config: Config) -> None:
    """The agent alone, until cancelled; what it has made goes on serving."""
    with only_agent(config.layout):
        async with RemoteOrders(config.service) as orders:
            await _run_agent(config, orders)


@asynccontextmanager
async def _service(config: Config) -> AsyncIterator[Service]:
    """Listening, over an open store."""
    address = parse_address(config.listen)
    for directory in (config.layout.state, config.layout.run):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = await asyncio.to_thread(Store.open, config.database)
    try:
        service = Service(store)
        try:
            async with listening(service, address):
                log.info("service: listening at %s", config.listen)
                yield service
        finally:
            await service.close()
    finally:
        await asyncio.to_thread(store.close)


def parse_address(listen: str) -> Address:
    """``unix:/path`` or ``http://127.0.0.1:PORT``. Raises ``Invalid``."""
    if listen.startswith("unix:/"):
        return Path(listen.removeprefix("unix:"))
    try:
        parts = urlsplit(listen)
        if parts.scheme == "http" and parts.hostname and parts.port is not None and parts.path in ("", "/"):
            return TcpAddress(parts.hostname, parts.port)
    except ValueError:
        pass
    raise Invalid(
        f"cannot listen at {listen!r}: write unix:/absolute/path or http://127.0.0.1:PORT", field="service.listen"
    )


async def _run_agent(config: Config, orders: Orders) -> None:
    # A call that a dead disk holds keeps its thread. By default there are so few of them on a small machine that one
    # pool's shares would stop everything else.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "isthmus"))
    config.qmp.mkdir(mode=0o700, parents=True, exist_ok=True)
    equipment = assemble(config)
    memory = FileMemory(config.layout.state / "desired.json")
    agent = Agent(config.host, config.layout, equipment, orders, memory, tempo=Tempo(audit=config.audit))
    log.info("agent: host %s, QMP sockets in %s", config.host, config.qmp)
    try:
        await agent.run()
    finally:
        await equipment.hypervisor.close()
