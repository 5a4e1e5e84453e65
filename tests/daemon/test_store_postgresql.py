"""The store on PostgreSQL: the same contract as on SQLite, and what only a server can do."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from isthmus.model.errors import Unavailable
from isthmus.pki.request import make_request, new_key
from isthmus.service.domain.grants import issue
from isthmus.service.domain.hosts import desired_document, register_host
from isthmus.service.service import Service
from isthmus.store import Store
from isthmus.store.rows import AttachmentRow, GrantRow, HostRow
from tests.daemon.postgresql import postgresql, url  # noqa: F401 - fixtures
from tests.fakes.authority import WEEK, authority
from tests.ownership_contract import OwnershipContract
from tests.service_kit import HOST, equip, given, made
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

    def test_two_services_that_sign_for_one_attachment_leave_one_grant(self, store: Store, url: str) -> None:  # noqa: F811
        equip(store)
        attachment = given(store, made(store))
        stores = [Store.open(url), Store.open(url)]
        start = threading.Barrier(8)
        request = make_request(new_key())

        def sign(number: int) -> None:
            start.wait()
            for _ in range(5):
                with stores[number % 2].write() as tx:
                    assert issue(tx, authority(), HOST, {attachment.id: request}, WEEK) == {}

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(sign, range(8)))
        with store.read() as tx:
            sequences = [grant.sequence for grant in tx.all(GrantRow)]
            (live,) = tx.all(GrantRow, ended_at=None)
            assert len(set(sequences)) == len(sequences) == 40
            assert live.sequence == max(sequences) == tx.need(AttachmentRow, attachment.id).sequence
            assert desired_document(tx, HOST).grants == {attachment.id: live.certificate}
        for other in stores:
            other.close()


class TestPostgresqlOwnership(OwnershipContract):
    def test_the_audit_is_not_emptied_at_once(self, store: Store) -> None:
        with store.write() as tx:
            tx.audit(self.ENTRY)
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), store._engine.begin() as connection:
            connection.execute(sa.text("TRUNCATE audit"))
        with store.read() as tx:
            assert [entry.outcome for entry in tx.entries()] == ["done"]
