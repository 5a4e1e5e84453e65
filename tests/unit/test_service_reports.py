"""What a report does to every status: one table per noun, and the rules about what silence is worth."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.model.attachment import Access, Mode
from isthmus.model.desired import Condition, GuestReport, Notice, Phase, PoolReport, Report, ShareReport
from isthmus.model.errors import NotFound
from isthmus.model.guest import GuestState
from isthmus.model.names import MIB, AttachmentId, GuestId, HostName, ShareId, SnapshotId, new_id
from isthmus.model.status import AttachmentStatus as A
from isthmus.model.status import ShareStatus as S
from isthmus.model.status import SnapshotStatus as N
from isthmus.service.domain.hosts import register_host
from isthmus.service.domain.reports import apply_report
from isthmus.service.domain.shares import delete_share, update_share
from isthmus.store import Changed, Store
from isthmus.store.rows import AttachmentRow, GuestRow, HostRow, PoolRow, ShareRow, SnapshotRow
from tests import service_kit as kit

PRESENT, WORKING = Condition(Phase.PRESENT), Condition(Phase.WORKING, "busy")
WAITING, FAILED = Condition(Phase.WAITING, "not running"), Condition(Phase.FAILED, "no room", "exhausted")
START = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)


class Clock:
    now = START

    def __call__(self) -> datetime.datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    store = kit.opened(tmp_path, now=clock)
    kit.equip(store)
    yield store
    store.close()


def put_share(store: Store, status: S) -> ShareRow:
    """A share in this status, its intent in the newest document."""
    with store.write() as tx:
        share = tx.add(kit.blank_share(status=status, made=status != S.CREATING))
        tx.wake(kit.HOST)
    return share


SHARES = [
    (S.CREATING, PRESENT, S.AVAILABLE),
    (S.CREATING, WORKING, S.CREATING),
    (S.CREATING, FAILED, S.ERROR),
    (S.CREATING, None, S.CREATING),
    (S.AVAILABLE, PRESENT, S.AVAILABLE),
    (S.AVAILABLE, WORKING, S.AVAILABLE),
    (S.AVAILABLE, FAILED, S.ERROR),
    (S.AVAILABLE, None, S.ERROR),
    (S.EXTENDING, PRESENT, S.AVAILABLE),
    (S.EXTENDING, WORKING, S.EXTENDING),
    (S.EXTENDING, FAILED, S.ERROR),
    (S.EXTENDING, None, S.ERROR),
    (S.SHRINKING, PRESENT, S.AVAILABLE),
    (S.SHRINKING, FAILED, S.ERROR),
    (S.REVERTING, PRESENT, S.AVAILABLE),
    (S.REVERTING, FAILED, S.ERROR),
    (S.ERROR, PRESENT, S.AVAILABLE),
    (S.ERROR, WORKING, S.ERROR),
    (S.ERROR, FAILED, S.ERROR),
    (S.ERROR, None, S.ERROR),
    (S.DELETING, PRESENT, S.DELETING),
    (S.DELETING, WORKING, S.DELETING),
    (S.DELETING, FAILED, S.DELETING),
    (S.DELETING, None, S.GONE),
]


@pytest.mark.parametrize(("before", "said", "after"), SHARES)
def test_a_share(store: Store, before: S, said: Condition | None, after: S) -> None:
    share = put_share(store, before)
    kit.report(store, shares={share.id: ShareReport(said, size=share.size)} if said else {})
    if after == S.GONE:
        assert not kit.there(store, share)
        return
    found = kit.row(store, share)
    assert found.status == after
    if said == FAILED:
        assert (found.reason, found.code) == ("no room", "exhausted")
    elif after == S.AVAILABLE:
        assert (found.reason, found.code) == ("", "")
    elif said is None and before not in (S.CREATING, S.ERROR):
        assert found.code == "missing"


SNAPSHOTS = [
    (N.CREATING, PRESENT, N.AVAILABLE),
    (N.CREATING, WORKING, N.CREATING),
    (N.CREATING, FAILED, N.ERROR),
    (N.CREATING, None, N.CREATING),
    (N.AVAILABLE, PRESENT, N.AVAILABLE),
    (N.AVAILABLE, WORKING, N.AVAILABLE),
    (N.AVAILABLE, FAILED, N.ERROR),
    (N.AVAILABLE, None, N.ERROR),
    (N.ERROR, PRESENT, N.AVAILABLE),
    (N.ERROR, None, N.ERROR),
    (N.DELETING, PRESENT, N.DELETING),
    (N.DELETING, FAILED, N.DELETING),
    (N.DELETING, None, N.GONE),
]


@pytest.mark.parametrize(("before", "said", "after"), SNAPSHOTS)
def test_a_snapshot(store: Store, before: N, said: Condition | None, after: N) -> None:
    share = put_share(store, S.AVAILABLE)
    with store.write() as tx:
        snapshot = tx.add(SnapshotRow(SnapshotId(new_id()), share.id, kit.PROJECT, before))
        tx.wake(kit.HOST)
    shares = {share.id: ShareReport(PRESENT, size=share.size)}
    kit.report(store, shares=shares, snapshots={snapshot.id: said} if said else {})
    if after == N.GONE:
        assert not kit.there(store, snapshot)
    else:
        assert kit.row(store, snapshot).status == after
        assert kit.row(store, snapshot).reason == ("no room" if said == FAILED else kit.row(store, snapshot).reason)


ATTACHMENTS = [
    (A.ATTACHING, PRESENT, A.ATTACHED),
    (A.ATTACHING, WORKING, A.ATTACHING),
    (A.ATTACHING, WAITING, A.WAITING),
    (A.ATTACHING, FAILED, A.ERROR),
    (A.ATTACHING, None, A.ATTACHING),
    (A.WAITING, PRESENT, A.ATTACHED),
    (A.WAITING, WORKING, A.ATTACHING),
    (A.WAITING, FAILED, A.ERROR),
    (A.WAITING, None, A.ATTACHING),
    (A.ATTACHED, PRESENT, A.ATTACHED),
    (A.ATTACHED, WORKING, A.ATTACHING),
    (A.ATTACHED, WAITING, A.WAITING),
    (A.ATTACHED, FAILED, A.ERROR),
    (A.ATTACHED, None, A.ATTACHING),
    (A.ERROR, PRESENT, A.ATTACHED),
    (A.ERROR, WORKING, A.ERROR),
    (A.ERROR, WAITING, A.WAITING),
    (A.ERROR, FAILED, A.ERROR),
    (A.ERROR, None, A.ERROR),
    (A.DETACHING, PRESENT, A.DETACHING),
    (A.DETACHING, WORKING, A.DETACHING),
    (A.DETACHING, FAILED, A.DETACHING),
    (A.DETACHING, None, A.GONE),
]


def put_attachment(store: Store, status: A) -> AttachmentRow:
    with store.write() as tx:
        share = tx.add(kit.blank_share(status=S.AVAILABLE, made=True))
        row = AttachmentRow(
            AttachmentId(new_id()), share.id, kit.GUEST, kit.PROJECT, 1, "/x", Mode.NFS, "", Access.RW, status
        )
        attachment = tx.add(row)
        tx.wake(kit.HOST)
    return attachment


@pytest.mark.parametrize(("before", "said", "after"), ATTACHMENTS)
def test_an_attachment(store: Store, before: A, said: Condition | None, after: A) -> None:
    attachment = put_attachment(store, before)
    kit.report(store, attachments={attachment.id: said} if said else {})
    if after == A.GONE:
        assert not kit.there(store, attachment)
    else:
        assert kit.row(store, attachment).status == after


class TestSilence:
    """An absence or a failure counts only if the agent knew the present intent and could look."""

    def test_of_an_agent_with_an_older_document_means_nothing(self, store: Store) -> None:
        old = kit.desired(store).revision
        share, doomed, leaving = (
            put_share(store, S.AVAILABLE),
            put_share(store, S.DELETING),
            put_attachment(store, A.DETACHING),
        )
        kit.report(store, revision=old)
        assert kit.row(store, share).status == S.AVAILABLE
        assert kit.row(store, doomed).status == S.DELETING
        assert kit.row(store, leaving).status == A.DETACHING

    def test_older_than_the_last_that_was_heard_means_nothing(self, store: Store) -> None:
        share = put_share(store, S.AVAILABLE)
        old = kit.desired(store).revision
        put_share(store, S.CREATING)
        kit.report(store, shares={share.id: ShareReport(PRESENT, size=share.size)})
        kit.report(store, revision=old)
        assert kit.row(store, share).status == S.AVAILABLE

    def test_of_an_agent_with_a_document_that_was_never_given_out_means_nothing(self, store: Store) -> None:
        share = put_share(store, S.DELETING)  # the database came back from a backup, the agent did not
        kit.report(store, revision=10_000)
        assert kit.there(store, share)

    @pytest.mark.parametrize("blind", ["unmounted", "unsaid"])
    def test_about_a_pool_that_could_not_be_looked_into_means_nothing(self, store: Store, blind: str) -> None:
        share, doomed = put_share(store, S.AVAILABLE), put_share(store, S.DELETING)
        kit.report(store, pools={} if blind == "unsaid" else {kit.POOL: replace(kit.ABLE, error="not mounted")})
        assert kit.row(store, share).status == S.AVAILABLE
        assert kit.there(store, doomed)

    def test_a_failure_before_the_present_intent_means_nothing(self, store: Store) -> None:
        share = kit.made(store)
        old = kit.desired(store).revision
        with store.write() as tx:
            update_share(tx, share.id, size=200 * MIB)
        kit.report(store, revision=old, shares={share.id: ShareReport(FAILED, size=share.size)})
        assert kit.row(store, share).status == S.EXTENDING

    def test_being_there_in_the_old_size_or_state_is_not_yet_done(self, store: Store) -> None:
        share = kit.made(store)
        with store.write() as tx:
            update_share(tx, share.id, size=200 * MIB)
        kit.report(store, shares={share.id: ShareReport(PRESENT, size=share.size)})
        assert kit.row(store, share).status == S.EXTENDING
        assert kit.row(store, share).actual == share.size


class TestWrites:
    def test_nothing_new_writes_nothing(self, store: Store) -> None:
        attachment = put_attachment(store, A.ATTACHING)
        for _ in range(2):  # the first makes the share, which changes the document once more
            kit.all_well(store)
        heard: list[Changed] = []
        store.listen(heard.append)
        with store.read() as tx:
            before = tx.revision, tx.all(HostRow), tx.all(PoolRow), tx.all(ShareRow), tx.all(GuestRow)
        kit.all_well(store)
        with store.read() as tx:
            assert before == (tx.revision, tx.all(HostRow), tx.all(PoolRow), tx.all(ShareRow), tx.all(GuestRow))
        assert heard == []
        assert kit.row(store, attachment).status == A.ATTACHED

    def test_a_pool_that_was_seen_once_is_never_taken_for_a_new_one(self, store: Store) -> None:
        """What its agent is told, so that a mount point without its disk is no empty pool."""
        share = kit.ask(store)
        (pool,) = kit.desired(store).pools
        assert pool.made
        assert share.pool == pool.name
        kit.report(store, pools={pool.name: PoolReport(error="cannot use it: it is blank")})
        assert kit.desired(store).pools[0].made

    def test_moving_statuses_wakes_no_agent_but_a_share_that_was_made_does(self, store: Store) -> None:
        share = kit.ask(store)
        asked = kit.desired(store)
        kit.report(store, shares={share.id: ShareReport(FAILED)})
        assert kit.desired(store).revision == asked.revision
        kit.report(store, shares={share.id: ShareReport(PRESENT, size=share.size)})
        assert kit.desired(store).shares[0].made
        assert kit.desired(store).revision > asked.revision
        settled = kit.desired(store)
        kit.report(store, shares={share.id: ShareReport(FAILED)})
        kit.report(store, shares={share.id: ShareReport(PRESENT, size=share.size)})
        assert kit.desired(store) == settled

    def test_figures_of_pools_and_shares_are_kept(self, store: Store) -> None:
        share = kit.made(store)
        kit.report(
            store,
            pools={kit.POOL: replace(kit.ABLE, total=5, free=-1)},
            shares={share.id: ShareReport(PRESENT, size=share.size, used=1 << 70)},
        )
        with store.read() as tx:
            pool = tx.need(PoolRow, kit.POOL)
        assert (pool.total, pool.free) == (5, 0)
        assert kit.row(store, share).used == (1 << 63) - 1
        assert kit.row(store, share).revision == share.revision

    def test_a_pool_s_trouble_comes_and_goes_with_an_event(self, store: Store) -> None:
        kit.report(store, pools={kit.POOL: replace(kit.ABLE, error="I/O error\0\x1b[2J")})
        kit.report(store)
        with store.read() as tx:
            told = [event.message for event in tx.events(kind="pool")]
        assert told[-2:] == ["I/O error\\x00\\x1b[2J", "can be used again"]

    def test_when_a_host_was_seen_is_kept_roughly(self, store: Store, clock: Clock) -> None:
        kit.report(store)
        clock.now = START + datetime.timedelta(seconds=5)
        kit.report(store)
        with store.read() as tx:
            assert tx.need(HostRow, kit.HOST).seen_at == START
        clock.now = START + datetime.timedelta(seconds=20)
        kit.report(store)
        with store.read() as tx:
            assert tx.need(HostRow, kit.HOST).seen_at == clock.now

    def test_guests_come_and_go(self, store: Store) -> None:
        for seen in (GuestReport(GuestState.RUNNING, frozenset({"nic"})), None):
            kit.report(store, guests={kit.GUEST: seen} if seen else {})
            with store.read() as tx:
                guest = tx.need(GuestRow, kit.GUEST)
            assert guest.state == (seen.state if seen else None)
            assert guest.plugs == (seen.plugs if seen else frozenset())
        with store.read() as tx:
            assert [event.message for event in tx.events(subject=kit.GUEST)][-2:] == ["is running", "does not answer"]

    def test_notices_become_events_of_what_they_are_about(self, store: Store) -> None:
        notices = (Notice(kit.GUEST, "rebooted"), Notice("stranger\n", "x\0" + "y" * 10_000), *[Notice("", "n")] * 500)
        kit.report(store, notices=notices)
        with store.read() as tx:
            assert tx.events(subject=kit.GUEST)[-1].message == "rebooted"
            of_host = [event.message for event in tx.events(kind="host", limit=1000)]
        assert len(of_host) < 120
        strange = next(message for message in of_host if "stranger" in message)
        assert strange.startswith("stranger\\x0a: x\\x00yyy")
        assert len(strange) < 3000


class TestBorders:
    def test_an_unknown_host_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound):
            kit.report(store, host=HostName("nobody"))

    def test_a_host_cannot_speak_of_another_s_objects(self, store: Store) -> None:
        share = kit.ask(store)
        attachment = put_attachment(store, A.ATTACHING)
        with store.write() as tx:
            register_host(tx, "h2")
            apply_report(
                tx,
                Report(
                    HostName("h2"),
                    10_000,
                    pools={kit.POOL: replace(kit.ABLE, total=1)},
                    shares={share.id: ShareReport(PRESENT, size=share.size)},
                    guests={kit.GUEST: GuestReport(GuestState.RUNNING)},
                    attachments={attachment.id: FAILED},
                ),
            )
            assert tx.need(PoolRow, kit.POOL).total == kit.TOTAL
            assert tx.need(GuestRow, kit.GUEST).state is None
        assert kit.row(store, share).status == S.CREATING
        assert kit.row(store, attachment).status == A.ATTACHING

    def test_what_nobody_asked_for_is_ignored(self, store: Store) -> None:
        kit.report(
            store,
            shares={ShareId(new_id()): ShareReport(PRESENT, size=1)},
            guests={GuestId(new_id()): GuestReport(GuestState.RUNNING)},
        )
        with store.read() as tx:
            assert tx.all(ShareRow) == []
            assert len(tx.all(GuestRow)) == 1

    def test_a_failure_to_delete_is_told_and_the_intent_stays(self, store: Store) -> None:
        share = kit.made(store)
        with store.write() as tx:
            delete_share(tx, share.id)
        kit.report(store, shares={share.id: ShareReport(FAILED, size=share.size)})
        found = kit.row(store, share)
        assert (found.status, found.reason) == (S.DELETING, "no room")
        assert kit.desired(store).doomed_shares[0].id == share.id
