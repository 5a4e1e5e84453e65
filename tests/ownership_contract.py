"""What every database must do for ownership, for the audit, and for what an older Isthmus left in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from isthmus.model.errors import Conflict, Forbidden, NotFound
from isthmus.model.names import ProjectId
from isthmus.model.status import ShareStatus
from isthmus.store import Store, Tx, migrations
from isthmus.store import store as store_module
from isthmus.store.reach import Reach
from isthmus.store.rows import AttachmentRow, AuditRow, HostRow, PoolRow, ShareRow
from tests.service_kit import POOL, blank_share
from tests.store_contract import NOW, Opened


class OwnershipContract(Opened):
    @pytest.fixture
    def owned(self, peopled: Store) -> Store:
        """Shares of projects ``acme`` and ``other``, one of each public."""
        with peopled.write() as tx:
            for project in ("acme", "other"):
                for public in (False, True):
                    tx.add(blank_share(project=project, name=f"{project}-{public}", public=public))
        return peopled

    def test_a_reader_sees_his_own_and_what_is_public(self, owned: Store) -> None:
        with owned.read(Reach(ProjectId("acme"))) as tx:
            mine = {share.name for share in tx.all(ShareRow)}
            assert mine == {"acme-False", "acme-True", "other-True"}
            assert tx.all(ShareRow, name="other-False") == []
            assert {event.project for event in tx.events(limit=1000)} == {"acme"}
        with owned.read() as tx:
            assert len(tx.all(ShareRow)) == 4
            hidden = next(share for share in tx.all(ShareRow) if share.name == "other-False")
        with owned.read(Reach(ProjectId("acme"))) as tx:
            assert tx.get(ShareRow, hidden.id) is None
            with pytest.raises(NotFound):
                tx.need(ShareRow, hidden.id)
            assert [pool.name for pool in tx.all(PoolRow)] == [POOL], "what nobody owns is everybody's to load"

    def test_a_writer_reaches_his_own_alone(self, owned: Store) -> None:
        with owned.write(Reach(ProjectId("acme"))) as tx:
            assert {share.name for share in tx.all(ShareRow)} == {"acme-False", "acme-True"}

    def test_a_row_that_was_come_by_otherwise_is_refused(self, owned: Store) -> None:
        with owned.read() as tx:
            foreign = next(share for share in tx.all(ShareRow) if share.name == "other-True")
        acts: list[Callable[[Tx], object]] = [
            lambda tx: tx.change(foreign, name="mine"),
            lambda tx: tx.measure(foreign, used=1),
            lambda tx: tx.want(foreign),
            lambda tx: tx.move(foreign, ShareStatus.ERROR, "because"),
            lambda tx: tx.remove(foreign),
            lambda tx: tx.add(blank_share(project="other")),
        ]
        for act in acts:
            with pytest.raises(Forbidden), owned.write(Reach(ProjectId("acme"))) as tx:
                act(tx)
        with owned.read() as tx:
            assert tx.need(ShareRow, foreign.id) == foreign
            assert len(tx.all(ShareRow)) == 4

    def test_a_row_that_says_another_owner_than_the_database_is_not_found(self, owned: Store) -> None:
        with owned.read() as tx:
            foreign = next(share for share in tx.all(ShareRow) if share.name == "other-True")
        forged = replace(foreign, project=ProjectId("acme"))
        acts: list[Callable[[Tx], object]] = [
            lambda tx: tx.change(forged, name="mine"),
            lambda tx: tx.measure(forged, used=1),
            lambda tx: tx.move(forged, ShareStatus.ERROR, "because"),
            lambda tx: tx.remove(forged),
        ]
        for act in acts:
            with pytest.raises(NotFound), owned.write(Reach(ProjectId("acme"))) as tx:
                act(tx)
        with owned.read() as tx:
            assert tx.need(ShareRow, foreign.id) == foreign

    def test_an_id_of_another_s_is_taken(self, owned: Store) -> None:
        with owned.read() as tx:
            foreign = next(share for share in tx.all(ShareRow) if share.name == "other-False")
        with pytest.raises(Conflict, match="the id is taken"), owned.write(Reach(ProjectId("acme"))) as tx:
            tx.add(blank_share(id=foreign.id, project="acme"))

    # --- the audit ---

    ENTRY = AuditRow("req-1", "local", "u1", "alice", "acme", "", "192.0.2.1", "isthmus:x:y", ("share/1",), "done")

    def test_the_audit_is_kept_in_order_and_found_by_what_it_says(self, store: Store) -> None:
        with store.write() as tx:
            tx.audit(self.ENTRY)
            tx.audit(replace(self.ENTRY, user="u2", project="other", targets=("share/12", "host/h1")))
        with store.read() as tx:
            assert [entry.user for entry in tx.entries()] == ["u1", "u2"]
            assert [entry.user for entry in tx.entries(after=1)] == ["u2"]
            assert [entry.user for entry in tx.entries(target="share/1")] == ["u1"]
            assert [entry.user for entry in tx.entries(target="host/h1")] == ["u2"]
            assert [entry.user for entry in tx.entries(user="u2", project="other")] == ["u2"]
            assert tx.entries()[0] == replace(self.ENTRY, id=1, created_at=NOW)
            assert tx.revision == 0, "the audit is no change of anything"

    def test_no_entry_without_its_change(self, store: Store) -> None:
        def fail(tx: Tx) -> None:
            tx.audit(self.ENTRY)
            tx.need(HostRow, "nobody")

        with pytest.raises(NotFound), store.write() as tx:
            fail(tx)
        with store.read() as view:
            assert view.entries() == []

    @pytest.mark.parametrize("change", ["UPDATE audit SET outcome = 'x'", "DELETE FROM audit"])
    def test_the_audit_is_append_only(self, store: Store, change: str) -> None:
        with store.write() as tx:
            tx.audit(self.ENTRY)
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), store._engine.begin() as connection:
            connection.execute(sa.text(change))
        with store.read() as tx:
            assert [entry.outcome for entry in tx.entries()] == ["done"]

    # --- migrating ---

    def test_a_database_of_the_first_version_keeps_what_it_holds(self, url: str) -> None:
        engine = store_module._engine(url, 1)
        try:
            with engine.connect().execution_options(writer=True) as connection, connection.begin():
                migrations.migrate(connection, "0001")
                connection.execute(sa.text("INSERT INTO hosts VALUES ('h1', 1, 0, NULL, 1, 0)"))
                connection.execute(
                    sa.text(
                        "INSERT INTO pools VALUES ('p1', 'h1', 'local', '/p', 1.0, 0, NULL, NULL, '{}', '{}', '', 1, 0)"
                    )
                )
                values = "'s1', 'acme', 'p1', 'default', 'btrfs', :no, 1048576, 'available', 'n', '', '', 0, 0, :no"
                connection.execute(
                    sa.text(f"INSERT INTO shares VALUES ({values}, NULL, NULL, NULL, 0, 0, 1, 1, 0)").bindparams(  # noqa: S608
                        no=False
                    )
                )
                connection.execute(
                    sa.text("INSERT INTO guests VALUES ('g1', 'acme', 'h1', '', :no, NULL, '[]', 1, 1, 0)").bindparams(
                        no=False
                    )
                )
                connection.execute(
                    sa.text(
                        "INSERT INTO attachments VALUES "
                        "('a1', 's1', 'g1', 'acme', 1, '/n', 'nfs', '', 'rw', 'attached', '', '', 1, 1, 0)"
                    )
                )
        finally:
            engine.dispose()
        store = Store.open(url)
        with store.write() as tx:
            share = tx.need(ShareRow, "s1")
            assert (share.name, share.public) == ("n", False)
            assert tx.change(share, public=True).public
            given = tx.need(AttachmentRow, "a1")
            assert (given.place, given.user, given.sequence, given.barred) == ("/n", "", 0, "")
        store.close()
