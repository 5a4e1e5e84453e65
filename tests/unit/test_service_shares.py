"""What may be asked of shares and snapshots, and what each answer is."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from isthmus.model.desired import Condition, Phase, ShareReport
from isthmus.model.errors import Conflict, Exhausted, Invalid, NotFound, Refused, Unavailable
from isthmus.model.names import MIB, SnapshotId, new_id, parse_title
from isthmus.model.share import Filesystem, Origin, Revert, ShareGone, SnapshotGone, SnapshotSpec
from isthmus.model.status import ShareStatus, SnapshotStatus
from isthmus.service.domain import pools, shares, snapshots
from isthmus.store import Store
from isthmus.store.rows import ShareRow, SnapshotRow
from tests import service_kit as kit

HOSTILE = (
    "../../etc",
    "a\nb",
    "a\0b",
    "\u202eevil",
    "\u200b",
    "\ud800",
    "x" * 10_000_000,
    "; rm -rf /",
    "'; DROP TABLE shares; --",
    "",
    " ",
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = kit.opened(tmp_path)
    kit.equip(store)
    yield store
    store.close()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One store for many examples."""
    store = kit.opened(tmp_path_factory.mktemp("lasting"))
    kit.equip(store)
    yield store
    store.close()


def snapshot_of(store: Store, share: ShareRow, **wanted: Any) -> SnapshotRow:
    with store.write() as tx:
        return snapshots.create_snapshot(tx, share=share.id, **wanted)


def snapped(store: Store, share: ShareRow) -> SnapshotRow:
    snapshot = snapshot_of(store, share)
    kit.all_well(store)
    return kit.row(store, snapshot)


def update(store: Store, share: ShareRow, **wanted: Any) -> ShareRow:
    with store.write() as tx:
        return shares.update_share(tx, share.id, **wanted)


def delete(store: Store, share: ShareRow) -> ShareRow:
    with store.write() as tx:
        return shares.delete_share(tx, share.id)


def revert(store: Store, share: ShareRow, snapshot: SnapshotRow) -> ShareRow:
    with store.write() as tx:
        return shares.revert_share(tx, share.id, snapshot.id)


def test_a_share_that_is_asked_for_is_in_the_document_of_its_host(store: Store) -> None:
    before = kit.desired(store).revision
    share = kit.ask(store, name="home")
    document = kit.desired(store)
    assert share.status == ShareStatus.CREATING
    assert [(spec.id, spec.size, spec.filesystem, spec.made) for spec in document.shares] == [
        (share.id, 100 * MIB, Filesystem.BTRFS, False)
    ]
    assert document.revision == share.wanted > before


class TestRetries:
    def test_the_same_request_with_the_same_id_finds_the_share(self, store: Store) -> None:
        wanted = {"share_id": new_id(), "name": "home"}
        first = kit.ask(store, **wanted)
        assert kit.ask(store, **wanted) == first
        assert kit.desired(store).revision == first.wanted

    @pytest.mark.parametrize("other", [{"name": "other"}, {"size": 200 * MIB}, {"project": "rival"}])
    def test_another_request_with_that_id_is_a_conflict(self, store: Store, other: dict[str, Any]) -> None:
        share = kit.ask(store)
        with pytest.raises(Conflict) as caught:
            kit.ask(store, share_id=share.id, **other)
        assert caught.value.code == "id-taken"

    def test_a_snapshot_s_retry_finds_it_and_another_s_does_not(self, store: Store) -> None:
        share = kit.made(store)
        first = snapshot_of(store, share, snapshot_id=new_id())
        assert snapshot_of(store, share, snapshot_id=first.id) == first
        with pytest.raises(Conflict, match="belongs to another"):
            snapshot_of(store, share, snapshot_id=first.id, name="another")


class TestCapacity:
    def test_promises_end_at_the_pool_s_size(self, store: Store) -> None:
        kit.ask(store, size=1000 * MIB)
        with pytest.raises(Exhausted, match="may promise 0 MiB more, not 8 MiB"):
            kit.ask(store, size=8 * MIB)

    def test_a_reserve_and_a_ratio_move_that_end(self, store: Store) -> None:
        with store.write() as tx:
            pools.update_pool(tx, kit.POOL, overcommit=2.0, reserve=100 * MIB)
        kit.ask(store, size=1800 * MIB)
        with pytest.raises(Exhausted):
            kit.ask(store, size=8 * MIB)

    def test_a_pool_with_no_more_than_its_reserve_free_promises_nothing(self, store: Store) -> None:
        kit.report(store, pools={kit.POOL: replace(kit.ABLE, free=0)})
        with pytest.raises(Exhausted, match="0 MiB free"):
            kit.ask(store, size=8 * MIB)

    def test_growing_needs_room_and_shrinking_gives_it_back_when_it_is_done(self, store: Store) -> None:
        big = kit.made(store, size=900 * MIB)
        with pytest.raises(Exhausted):
            update(store, big, size=1001 * MIB)
        small = update(store, big, size=100 * MIB)
        with pytest.raises(Exhausted):
            kit.ask(store, size=200 * MIB)
        kit.all_well(store)
        assert kit.row(store, small).status == ShareStatus.AVAILABLE
        kit.ask(store, size=900 * MIB)

    def test_a_pool_whose_host_has_not_reported_promises_nothing(self, store: Store) -> None:
        with store.write() as tx:
            pools.register_pool(tx, name="p2", host=kit.HOST, path="/srv/p2")
        with pytest.raises(Unavailable, match="host h1 has not reported pool p2 yet"):
            kit.ask(store, pool="p2")

    def test_a_pool_that_cannot_be_used_says_why(self, store: Store) -> None:
        kit.report(store, pools={kit.POOL: replace(kit.ABLE, error="the disk is not mounted")})
        with pytest.raises(Unavailable, match="the disk is not mounted"):
            kit.ask(store)


class TestPowers:
    @pytest.fixture
    def plain(self, store: Store) -> ShareRow:
        with store.write() as tx:
            pools.register_type(tx, name="plain", filesystem=Filesystem.XFS)
        return kit.made(store, type_name="plain")

    def test_a_file_system_that_the_host_cannot_make_is_refused(self, store: Store) -> None:
        with store.write() as tx:
            pools.register_type(tx, name="old", filesystem=Filesystem.EXT4)
        with pytest.raises(Refused, match=r"cannot make ext4 \(it can make: btrfs, xfs\)"):
            kit.ask(store, type_name="old")

    def test_checksums_need_the_power(self, store: Store) -> None:
        with store.write() as tx:
            pools.register_type(tx, name="careful", checksums=True)
        kit.report(store, pools={kit.POOL: replace(kit.ABLE, powers={Filesystem.BTRFS: frozenset()})})
        with pytest.raises(Refused, match="btrfs in pool p1 has no checksums"):
            kit.ask(store, type_name="careful")

    def test_each_power_is_refused_by_name(self, store: Store, plain: ShareRow) -> None:
        with pytest.raises(Refused, match="xfs in pool p1 has no snapshot"):
            snapshot_of(store, plain)
        with pytest.raises(Refused, match="xfs in pool p1 has no shrink"):
            update(store, plain, size=64 * MIB)
        with pytest.raises(Refused, match="xfs in pool p1 has no clone"):
            kit.ask(store, type_name="plain", source_share=plain.id)
        update(store, plain, size=128 * MIB)

    def test_what_never_grew_can_be_given_its_size_back_without_the_power_to_shrink(
        self, store: Store, plain: ShareRow
    ) -> None:
        full = replace(kit.ABLE, free=0)
        wanted = update(store, plain, size=200 * MIB)
        failed = ShareReport(Condition(Phase.FAILED, "no room", "no-room"), size=100 * MIB)
        kit.report(store, shares={plain.id: failed}, pools={kit.POOL: full})
        with pytest.raises(Refused, match="no shrink"):
            update(store, wanted, size=99 * MIB)
        update(store, wanted, size=100 * MIB)
        kit.all_well(store)
        assert kit.row(store, plain).status == ShareStatus.AVAILABLE

    def test_too_small_is_invalid_and_says_the_least(self, store: Store) -> None:
        with pytest.raises(Invalid, match="needs at least 8 MiB") as caught:
            kit.ask(store, size=7 * MIB)
        assert caught.value.field == "size"


class TestDeleting:
    def test_a_deleted_share_is_doomed_and_then_gone(self, store: Store) -> None:
        share = delete(store, kit.made(store))
        document = kit.desired(store)
        assert document.shares == ()
        assert document.doomed_shares == (ShareGone(share.id, kit.POOL),)
        assert delete(store, share).wanted == share.wanted
        kit.all_well(store)
        assert not kit.there(store, share)

    def test_one_that_was_never_made_may_be_deleted(self, store: Store) -> None:
        assert delete(store, kit.ask(store)).status == ShareStatus.DELETING

    def test_attachments_and_snapshots_forbid_it_by_name(self, store: Store) -> None:
        share = kit.made(store)
        snapshot = snapped(store, share)
        attachment = kit.given(store, share)
        with pytest.raises(Conflict) as caught:
            delete(store, share)
        assert snapshot.id in caught.value.message
        assert attachment.id in caught.value.message

    def test_a_copy_in_the_making_forbids_it(self, store: Store) -> None:
        origin = kit.made(store)
        copy = kit.ask(store, source_share=origin.id)
        with pytest.raises(Conflict, match="as a copy of it"):
            delete(store, origin)
        kit.all_well(store)
        delete(store, origin)
        assert kit.row(store, copy).origin_share == origin.id

    def test_a_deleting_share_takes_no_orders(self, store: Store) -> None:
        share = kit.made(store)
        snapshot = snapped(store, share)
        with store.write() as tx:
            snapshots.delete_snapshot(tx, snapshot.id)
        kit.all_well(store)
        delete(store, share)
        with pytest.raises(Conflict, match="deleting"):
            snapshot_of(store, share)
        with pytest.raises(Conflict, match="deleting"):
            update(store, share, size=200 * MIB)
        with pytest.raises(Conflict, match="deleting"):
            kit.given(store, share)


class TestReverting:
    def test_it_counts_generations_and_ends_when_the_host_has_seen_the_last(self, store: Store) -> None:
        share = kit.made(store)
        snapshot = snapped(store, share)
        for generation in (1, 2):
            assert revert(store, share, snapshot).status == ShareStatus.REVERTING
            assert kit.desired(store).shares[0].revert == Revert(snapshot.id, generation)
            kit.all_well(store)
            assert kit.row(store, share).status == ShareStatus.AVAILABLE

    def test_only_to_a_snapshot_of_that_share_that_is_there(self, store: Store) -> None:
        share, other = kit.made(store), kit.made(store)
        foreign = snapped(store, other)
        with pytest.raises(Refused, match=f"is of share {other.id}"):
            revert(store, share, foreign)
        pending = snapshot_of(store, share)
        with pytest.raises(Conflict, match="is creating"):
            revert(store, share, pending)

    def test_a_snapshot_of_another_project_does_not_exist(self, store: Store) -> None:
        mine, theirs = kit.made(store), kit.made(store, project="rival")
        foreign = snapped(store, theirs)
        with pytest.raises(NotFound) as hidden:
            revert(store, mine, foreign)
        with pytest.raises(NotFound) as absent:
            revert(store, mine, replace(foreign, id=SnapshotId(new_id())))
        assert hidden.value.code == absent.value.code

    def test_the_snapshot_stays_until_the_revert_is_done(self, store: Store) -> None:
        share = kit.made(store)
        snapshot = snapped(store, share)
        revert(store, share, snapshot)
        with store.write() as tx, pytest.raises(Conflict, match="being reverted"):
            snapshots.delete_snapshot(tx, snapshot.id)
        kit.all_well(store)
        with store.write() as tx:
            assert snapshots.delete_snapshot(tx, snapshot.id).status == SnapshotStatus.DELETING

    def test_a_failed_revert_may_be_asked_for_again(self, store: Store) -> None:
        share = kit.made(store)
        snapshot = snapped(store, share)
        revert(store, share, snapshot)
        failed = {share.id: ShareReport(Condition(Phase.FAILED, "no room"), size=share.size)}
        kit.report(store, shares=failed, snapshots={snapshot.id: Condition(Phase.PRESENT)})
        assert kit.row(store, share).status == ShareStatus.ERROR
        assert revert(store, share, snapshot).reverts == 2


class TestCopies:
    def test_a_copy_names_its_origin_in_the_document(self, store: Store) -> None:
        origin = kit.made(store)
        snapshot = snapped(store, origin)
        of_snapshot = kit.ask(store, source_snapshot=snapshot.id)
        of_share = kit.ask(store, source_share=origin.id)
        specs = {spec.id: spec.origin for spec in kit.desired(store).shares}
        assert specs[of_snapshot.id] == Origin(origin.id, snapshot.id)
        assert specs[of_share.id] == Origin(origin.id, None)

    def test_what_another_project_has_does_not_exist(self, store: Store) -> None:
        origin = kit.made(store)
        with pytest.raises(NotFound):
            kit.ask(store, project="rival", source_share=origin.id)

    def test_smaller_than_the_origin_is_invalid(self, store: Store) -> None:
        origin = kit.made(store)
        with pytest.raises(Invalid, match="at least as large"):
            kit.ask(store, source_share=origin.id, size=50 * MIB)

    def test_an_origin_that_is_not_ready_is_a_conflict(self, store: Store) -> None:
        origin = kit.ask(store)
        with pytest.raises(Conflict, match="is creating"):
            kit.ask(store, source_share=origin.id)

    def test_both_origins_are_invalid(self, store: Store) -> None:
        with pytest.raises(Invalid, match="one of them"):
            kit.ask(store, source_share=new_id(), source_snapshot=new_id())


def test_a_deleted_snapshot_is_doomed_and_then_gone(store: Store) -> None:
    share = kit.made(store)
    snapshot = snapped(store, share)
    assert kit.desired(store).snapshots == (SnapshotSpec(snapshot.id, share.id, made=True),)
    with store.write() as tx:
        snapshots.delete_snapshot(tx, snapshot.id)
    assert kit.desired(store).doomed_snapshots == (SnapshotGone(snapshot.id, share.id),)
    kit.all_well(store)
    assert not kit.there(store, snapshot)


def test_a_new_name_wakes_no_agent(store: Store) -> None:
    share = kit.made(store)
    before = kit.desired(store).revision
    renamed = update(store, share, name="Größe")
    assert renamed.name == "Größe"
    assert renamed.revision > share.revision
    assert kit.desired(store).revision == before


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda text: ascii(text[:12]))
@pytest.mark.parametrize("field", ["project", "pool", "type_name", "share_id", "source_share", "source_snapshot"])
def test_hostile_ids_are_refused_with_a_short_sentence(store: Store, field: str, hostile: str) -> None:
    with pytest.raises((Invalid, NotFound)) as caught:
        kit.ask(store, **{field: hostile})
    assert len(caught.value.message) < 400
    assert caught.value.message.isprintable()


@given(st.text())
@example("\u202e")
@example("\0")
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_is_kept_or_refused(lasting: Store, name: str) -> None:
    try:
        parse_title(name)
    except Invalid:
        with pytest.raises(Invalid):
            kit.ask(lasting, name=name)
        return
    share = kit.ask(lasting, name=name, size=8 * MIB)
    assert kit.row(lasting, share).name == unicodedata.normalize("NFC", name)
    with lasting.write() as tx:
        tx.move(tx.move(share, ShareStatus.DELETING), ShareStatus.GONE)


@given(st.integers() | st.integers(-1, 10).map(lambda n: n * MIB))
@settings(max_examples=100, deadline=None)
def test_any_size_is_kept_or_refused(lasting: Store, size: int) -> None:
    try:
        share = kit.ask(lasting, size=size)
    except Invalid:
        assert size < 8 * MIB or size % MIB or size > 1 << 50
    except Exhausted:
        assert size > 1000 * MIB
    else:
        assert share.size == size >= 8 * MIB
        with lasting.write() as tx:
            tx.move(tx.move(share, ShareStatus.DELETING), ShareStatus.GONE)
