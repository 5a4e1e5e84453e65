"""The store on SQLite."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from isthmus.model.errors import Unavailable
from isthmus.model.names import ProjectId
from isthmus.store import Store
from isthmus.store.reach import Reach
from isthmus.store.rows import HostRow, ShareRow
from tests.ownership_contract import OwnershipContract
from tests.service_kit import HOST
from tests.store_contract import StoreContract


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state/isthmus.db"


class TestSqlite(StoreContract):
    def test_the_file_is_for_its_owner_alone(self, store: Store, tmp_path: Path) -> None:
        assert stat.S_IMODE((tmp_path / "state/isthmus.db").stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700

    def test_readers_do_not_wait_and_answers_survive_power_failures(self, store: Store) -> None:
        with store.read() as tx:
            settings = {
                name: tx._connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            }
        assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}

    def test_a_file_that_is_no_database_is_unavailable(self, tmp_path: Path) -> None:
        (tmp_path / "bad.db").write_bytes(b"not a database at all" * 100)
        with pytest.raises(Unavailable, match="not a database"):
            Store.open(f"sqlite:///{tmp_path}/bad.db")

    def test_a_directory_that_cannot_be_made_is_unavailable(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(Unavailable, match="cannot open the database"):
            Store.open(f"sqlite:///{tmp_path}/file/isthmus.db")

    def test_what_was_committed_is_there_after_opening_again(self, store: Store, url: str) -> None:
        with store.write() as tx:
            tx.add(HostRow(HOST))
        store.close()
        again = Store.open(url)
        with again.read() as tx:
            assert tx.need(HostRow, HOST).revision == 1
        again.close()


class TestSqliteOwnership(OwnershipContract):
    def test_an_entry_of_the_audit_is_not_replaced(self, store: Store) -> None:
        with store.write() as tx:
            tx.audit(self.ENTRY)
        replacing = "INSERT OR REPLACE INTO audit SELECT id, '', '', '', '', '', '', '', '', '[]', 'x', 0 FROM audit"
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), store._engine.begin() as connection:
            connection.execute(sa.text(replacing))
        with store.read() as tx:
            assert [entry.outcome for entry in tx.entries()] == ["done"]

    def test_what_is_one_project_s_is_found_by_indexes(self, owned: Store) -> None:
        """A list takes as long as what is in it, and not as long as what others have."""
        asked: list[tuple[str, Any]] = []

        def note(_connection: object, _cursor: object, query: str, values: Any, _context: object, _many: bool) -> None:
            asked.append((query, values))

        with owned.read(Reach(ProjectId("acme"))) as tx:
            sa.event.listen(tx._connection, "before_cursor_execute", note)
            tx.all(ShareRow, limit=10)
            tx.events()
            sa.event.remove(tx._connection, "before_cursor_execute", note)
            plans = [
                " ".join(step.detail for step in tx._connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values))
                for query, values in asked
                if query.startswith("SELECT")
            ]
        assert len(plans) == 2
        for plan in plans:
            assert "SEARCH" in plan
            assert "SCAN" not in plan
            assert "project=?" in plan
