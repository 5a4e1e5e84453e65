"""An agent and its service, apart: over a real socket, and a service that is away."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from isthmus.agent.memory import FileMemory
from isthmus.agent.remote import RemoteOrders
from isthmus.model.address import UnixAddress
from isthmus.model.desired import Desired, Report
from isthmus.model.errors import NotFound, Unavailable
from isthmus.model.names import HostName
from isthmus.service.domain.hosts import register_host
from isthmus.service.domain.pools import register_pool
from isthmus.service.server import listening
from isthmus.service.service import Service
from isthmus.store import Store
from isthmus.store.rows import HostRow

HOST = HostName("h1")


@pytest.fixture
def socket() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f"istest{secrets.token_hex(3)}") as directory:
        yield Path(directory) / "api.sock"  # short: a unix socket's path has 107 bytes


@pytest.fixture
async def service(socket: Path, tmp_path: Path) -> AsyncIterator[Service]:
    store = Store.open(f"sqlite:///{tmp_path}/db")
    made = Service(store)
    await made.write(lambda tx: register_host(tx, HOST))
    async with listening(made, UnixAddress(socket)):
        yield made
    await made.close()
    store.close()


async def test_a_document_comes_and_a_change_wakes(service: Service, socket: Path) -> None:
    async with RemoteOrders(UnixAddress(socket)) as orders:
        first = await orders.desired(HOST, 0, 5)
        assert first is not None
        assert (first.host, first.pools) == (HOST, ())
        assert await orders.desired(HOST, first.revision, 0.05) is None
        waiting = asyncio.create_task(orders.desired(HOST, first.revision, 10))
        await service.write(lambda tx: register_pool(tx, name="p", host=HOST, path="/srv/p"))
        second = await waiting
        assert second is not None
        assert [pool.name for pool in second.pools] == ["p"]
        assert second.revision > first.revision


async def test_a_report_arrives(service: Service, socket: Path) -> None:
    async with RemoteOrders(UnixAddress(socket)) as orders:
        await orders.report(Report(HOST, 1))
    assert (await service.read(lambda tx: tx.need(HostRow, HOST))).seen_at is not None


async def test_a_host_that_the_service_does_not_know(service: Service, socket: Path) -> None:
    async with RemoteOrders(UnixAddress(socket)) as orders:
        with pytest.raises(NotFound):
            await orders.desired(HostName("h2"), 0, 0)


async def test_a_service_that_is_away(socket: Path) -> None:
    async with RemoteOrders(UnixAddress(socket)) as orders:
        with pytest.raises(Unavailable, match="cannot reach the service at unix:"):
            await orders.desired(HOST, 0, 0)
        with pytest.raises(Unavailable):
            await orders.report(Report(HOST, 1))


def test_the_last_document_is_kept_whole(tmp_path: Path) -> None:
    memory = FileMemory(tmp_path / "state" / "desired.json")
    assert memory.load() is None
    memory.save(Desired(HOST, 7))
    assert FileMemory(tmp_path / "state" / "desired.json").load() == Desired(HOST, 7)
    assert (tmp_path / "state" / "desired.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "state" / "desired.json").write_text('{"host": ')
    assert memory.load() is None, "a damaged one helps nobody"
