"""The store on PostgreSQL: the same contract as on SQLite, and what only a server can do."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from isthmus.model.errors import Unavailable
from isthmus.service.domain.hosts import register_host
from isthmus.service.service import Service
from isthmus.store import Store
from isthmus.store.rows import HostRow
from tests.daemon.postgresql import postgresql, url  # noqa: F401 - fixtures
from tests.service_kit import HOST
from tests.store_contract import StoreContract


class TestPostgresql(StoreContract):
    def test_a_server_that_is_not_there_is_unavailable(self) -> None:
        with pytest.raises(Unavailable, match="cannot use the database"):
            Store.open("postgresql+psycopg://isthmus@/nothing?host=/nonexistent")

    def test_a_reader_cannot_write(self, peopled: Store) -> None:
        with pytest.raises(sa.exc.DBAPIError, match="read-only"), peopled.read() as tx:
            tx._connection.execute(sa.text("DELETE FROM pools"))

    def test_a_connection_that_the_server_dropped_is_replaced(self, peopled: Store) -> None:
        def use_a_connection_that_is_dropped_meanwhile() -> None:
            with peopled.read() as tx, peopled.read() as other:
                pid = other._connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
                tx._connection.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
                other.all(HostRow)

        with pytest.raises(Unavailable):
            use_a_connection_that_is_dropped_meanwhile()
        with peopled.read() as tx:
            assert [host.name for host in tx.all(HostRow)] == [HOST]

    async def test_a_long_poll_hears_what_another_process_changed(self, store: Store, url: str) -> None:  # noqa: F811
        other = Store.open(url)  # a second engine: no commit of it rings in this service
        service = Service(store)
        try:
            with other.write() as tx:
                before = register_host(tx, HOST).desired
            waiting = asyncio.create_task(service.desired(HOST, before, 30))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            with other.write() as tx:
                tx.wake(HOST)
            document = await waiting
            assert document is not None
            assert document.revision > before
        finally:
            await service.close()
            other.close()
