"""The store on SQLite."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from isthmus.model.errors import Unavailable
from isthmus.store import Store
from isthmus.store.rows import HostRow
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
