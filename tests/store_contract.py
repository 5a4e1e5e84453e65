"""What every database must do for the store. A subclass gives ``url``: of an empty database."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from isthmus.model.attachment import Access, Mode
from isthmus.model.errors import Conflict, Exhausted, IsthmusError, NotFound, Refused, Unavailable
from isthmus.model.guest import GuestState
from isthmus.model.names import MIB, AttachmentId, GuestId, HostName, PoolName, SnapshotId, TypeName, new_id
from isthmus.model.share import Filesystem, Power
from isthmus.model.status import ShareStatus
from isthmus.service.domain.shares import create_share
from isthmus.store import Changed, Store, Tx, migrations
from isthmus.store.columns import METADATA
from isthmus.store.query import Query
from isthmus.store.rows import (
    AttachmentRow,
    GuestRow,
    HostRow,
    KeptRow,
    PoolRow,
    ShareRow,
    SnapshotRow,
    TypeRow,
    key_of,
)
from tests.service_kit import HOST, POOL, PROJECT, blank_share, equip

NOW = datetime.datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=datetime.UTC)


def _wake_and_fail(tx: Tx) -> None:
    tx.wake(HOST)
    tx.need(HostRow, "nobody")


def _add_and_fail(tx: Tx) -> None:
    tx.add(HostRow(HostName("h2")))
    tx.need(HostRow, "nobody")


class Opened:
    """A store on ``url``, and one with a host and a pool."""

    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        store = Store.open(url, now=lambda: NOW)
        yield store
        store.close()

    @pytest.fixture
    def peopled(self, store: Store) -> Store:
        with store.write() as tx:
            tx.add(HostRow(HOST))
            tx.add(PoolRow(POOL, HOST, "local", "/srv/p1"))
        return store


class StoreContract(Opened):
    def test_a_new_database_knows_the_default_type_and_nothing_else(self, store: Store) -> None:
        with store.read() as tx:
            assert [kind.name for kind in tx.all(TypeRow)] == ["default"]
            assert tx.all(ShareRow) == []
            assert tx.revision == 0

    def test_the_migrations_make_the_tables_of_the_schema(self, store: Store, url: str) -> None:
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            difference = compare_metadata(context, METADATA)
        engine.dispose()
        assert difference == []

    def test_opening_again_changes_nothing(self, peopled: Store, url: str) -> None:
        again = Store.open(url)
        with again.read() as tx:
            assert [host.name for host in tx.all(HostRow)] == [HOST]
        again.close()

    def test_several_processes_may_open_an_empty_database_at_once(self, url: str) -> None:
        with ThreadPoolExecutor(4) as pool:
            stores = list(pool.map(lambda _: Store.open(url), range(4)))
        for store in stores:
            with store.read() as tx:
                assert len(tx.all(TypeRow)) == 1
            store.close()

    def test_a_database_of_a_newer_isthmus_is_refused(self, store: Store, url: str) -> None:
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        engine.dispose()
        with pytest.raises(Refused, match="a newer Isthmus wrote it"):
            Store.open(url)

    def test_every_kind_of_row_comes_back_as_it_went_in(self, peopled: Store) -> None:
        share = blank_share(name="Ünï ☃", size=1 << 50, used=(1 << 63) - 1, reverts=3, status=ShareStatus.ERROR)
        guest = GuestRow(
            GuestId(new_id()), PROJECT, HOST, state=GuestState.PAUSED, plugs=frozenset({"nic", "a"}), last_slot=65535
        )
        rows: list[KeptRow] = [
            HostRow(HostName("h2"), seen_at=NOW),
            PoolRow(
                PoolName("p2"),
                HOST,
                "local",
                "/srv/p2",
                overcommit=1.25,
                total=1 << 60,
                free=0,
                powers={Filesystem.XFS: frozenset(Power), Filesystem.EXT4: frozenset()},
                minimum={Filesystem.XFS: 1 << 40},
            ),
            TypeRow(TypeName("careful"), Filesystem.EXT4, checksums=True),
            share,
            SnapshotRow(SnapshotId(new_id()), share.id, PROJECT, made=True),
            guest,
            AttachmentRow(
                AttachmentId(new_id()), share.id, guest.id, PROJECT, 1, "/a b/ü", Mode.NFS, "", Access.RO, reason="why"
            ),
        ]
        with peopled.write() as tx:
            added = [tx.add(row) for row in rows]
        with peopled.read() as tx:
            assert [tx.get(type(row), key_of(row)) for row in added] == added
        assert all(row.created_at == NOW for row in added)
        assert len({row.revision for row in added}) == 1

    def test_a_writing_transaction_takes_one_revision_and_an_idle_one_none(self, peopled: Store) -> None:
        with peopled.read() as tx:
            before = tx.revision
        with peopled.write() as tx:
            host = tx.need(HostRow, HOST)
            assert tx.change(host, applied=0) is host
        with peopled.read() as tx:
            assert tx.revision == before
        with peopled.write() as tx:
            tx.change(tx.need(HostRow, HOST), applied=7)
            tx.change(tx.need(PoolRow, POOL), error="x")
        with peopled.read() as tx:
            assert tx.revision == tx.need(HostRow, HOST).revision == tx.need(PoolRow, POOL).revision == before + 1

    def test_figures_are_no_change_of_the_object(self, peopled: Store) -> None:
        heard: list[Changed] = []
        peopled.listen(heard.append)
        with peopled.write() as tx:
            before = tx.need(PoolRow, POOL)
            tx.measure(before, free=5)
        with peopled.read() as tx:
            after = tx.need(PoolRow, POOL)
        assert (after.free, after.revision) == (5, before.revision)
        assert heard == []

    def test_listeners_hear_of_commits_and_not_of_rollbacks(self, peopled: Store) -> None:
        heard: list[Changed] = []
        stop = peopled.listen(heard.append)
        with pytest.raises(NotFound), peopled.write() as tx:
            _wake_and_fail(tx)
        assert heard == []
        with peopled.write() as tx:
            tx.wake(HOST)
        assert [changed.topics for changed in heard] == [{"desired/h1", "host/h1"}]
        with peopled.read() as tx:
            assert heard[0].revision == tx.revision == tx.need(HostRow, HOST).desired
        stop()
        with peopled.write() as tx:
            tx.wake(HOST)
        assert len(heard) == 1

    def test_an_exception_rolls_everything_back(self, peopled: Store) -> None:
        with pytest.raises(NotFound), peopled.write() as tx:
            _add_and_fail(tx)
        with peopled.read() as tx:
            assert tx.get(HostRow, "h2") is None
            assert [event.subject for event in tx.events()] == [HOST, POOL]

    def test_a_status_moves_by_the_table_and_leaves_an_event(self, peopled: Store) -> None:
        with peopled.write() as tx:
            share = tx.add(blank_share())
            with pytest.raises(Conflict) as caught:
                tx.move(share, ShareStatus.REVERTING)
            assert caught.value.code == "illegal-status"
            broken = tx.move(share, ShareStatus.ERROR, "the disk is full", "exhausted")
            assert tx.get(ShareRow, share.id) == broken
            assert tx.move(broken, ShareStatus.ERROR, "the disk is full", "exhausted") is broken
            tx.move(broken, ShareStatus.ERROR, "it burns")
            events = [(event.before, event.after, event.message) for event in tx.events(subject=share.id)]
        assert events == [
            ("", "creating", "added"),
            ("creating", "error", "the disk is full"),
            ("error", "error", "it burns"),
        ]

    def test_what_is_gone_has_no_row_but_its_events_stay(self, peopled: Store) -> None:
        with peopled.write() as tx:
            share = tx.move(tx.add(blank_share()), ShareStatus.DELETING)
            assert tx.move(share, ShareStatus.GONE).status == ShareStatus.GONE
        with peopled.read() as tx:
            assert tx.get(ShareRow, share.id) is None
            assert [event.after for event in tx.events(subject=share.id)] == ["creating", "deleting", "gone"]
            assert {event.project for event in tx.events(subject=share.id)} == {PROJECT}

    def test_lists_are_in_the_order_of_keys_and_continue_after_one(self, peopled: Store) -> None:
        with peopled.write() as tx:
            shares = sorted((tx.add(blank_share(name=str(number % 2))) for number in range(9)), key=lambda row: row.id)
        with peopled.read() as tx:
            assert tx.all(ShareRow) == shares
            assert tx.all(ShareRow, after=shares[3].id, limit=2) == shares[4:6]
            assert tx.all(ShareRow, name="1") == [share for share in shares if share.name == "1"]
            assert tx.all(ShareRow, id=[shares[2].id, shares[7].id]) == [shares[2], shares[7]]
            assert tx.all(ShareRow, id=[]) == []

    def test_any_number_of_keys_is_looked_for_at_once(self, peopled: Store) -> None:
        """More than a statement may have parameters (32,766 of SQLite, 65,535 of PostgreSQL)."""
        with peopled.write() as tx:
            share = tx.add(blank_share())
            tx.label(share.id, {"a": "'b\"\\"})
        wanted = [*(str(number) for number in range(70_000)), share.id]
        with peopled.read() as tx:
            assert tx.all(ShareRow, id=wanted) == [share]
            assert tx.page(ShareRow, Query(equal={"id": wanted, "status": ["creating", "error"]})) == [share]
            assert tx.labels(wanted) == {share.id: {"a": "'b\"\\"}}

    def test_a_reader_sees_one_moment(self, peopled: Store) -> None:
        with peopled.read() as reader:
            before = reader.revision
            with peopled.write() as tx:
                tx.add(blank_share())
            assert reader.all(ShareRow) == []
            assert reader.revision == before

    def test_foreign_keys_hold(self, peopled: Store) -> None:
        with pytest.raises(sa.exc.IntegrityError), peopled.write() as tx:
            tx.add(blank_share(pool="nowhere"))

    def test_two_who_ask_at_once_never_get_more_than_there_is(self, store: Store) -> None:
        equip(store)  # 1000 MiB
        start = threading.Barrier(8)

        def ask(_: int) -> str:
            start.wait()
            try:
                with store.write() as tx:
                    create_share(tx, project=PROJECT, pool=POOL, size=300 * MIB)
            except Exhausted:
                return "full"
            return "made"

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(ask, range(8)))
        assert sorted(answers) == ["full"] * 5 + ["made"] * 3
        with store.read() as tx:
            assert tx.promised(POOL) == 900 * MIB
            numbers = [event.revision for event in tx.events(kind="share")]
        assert numbers == sorted(set(numbers))

    def test_a_writer_waits_for_its_turn_but_not_for_ever(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("isthmus.store.store.BUSY_SECONDS", 0.05)
        with store.write(), ThreadPoolExecutor(1) as other:
            waited = other.submit(lambda: store.write().__enter__()).exception()
        assert isinstance(waited, Unavailable)
        assert waited.code == "database-unavailable"
        with store.write() as tx:
            tx.add(HostRow(HOST))

    def test_events_of_many_writers_are_numbered_in_the_order_of_their_commits(self, peopled: Store) -> None:
        def add(number: int) -> None:
            with peopled.write() as tx:
                tx.add(HostRow(HostName(f"x{number}")))

        with ThreadPoolExecutor(6) as threads:
            list(threads.map(add, range(30)))
        with peopled.read() as tx:
            revisions = [event.revision for event in tx.events()]
            assert revisions == sorted(revisions)
            assert tx.revision == 31

    def test_the_newest_migration_is_the_one_that_the_code_knows(self) -> None:
        found = sorted(path.name[:4] for path in (migrations.HERE / "versions").glob("[0-9]*.py"))
        assert found[-1] == migrations.HEAD

    def test_a_database_that_is_not_one_is_a_clear_error(self, store: Store) -> None:
        for wrong in ("", "nonsense", "mysql://x/y", "sqlite://", "sqlite:///:memory:"):
            with pytest.raises(IsthmusError, match="cannot open the database"):
                Store.open(wrong)
