"""The planner, from every state that a crash, an operator or a guest can leave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.agent.plan import Denied, Observed, plan
from isthmus.agent.steps import (
    Chain,
    CreateShare,
    DropSnapshot,
    FillShare,
    Kind,
    MountShare,
    Present,
    ReleaseShare,
    RevertShare,
    StartGateway,
    Step,
    Subject,
    UnplugNic,
)
from isthmus.model.attachment import Access, AttachmentSpec, GatewaySeen, LinkSeen, Mode
from isthmus.model.desired import Desired
from isthmus.model.guest import GuestSeen, GuestSpec, GuestState
from isthmus.model.layout import Layout
from isthmus.model.names import GIB, AttachmentId, GuestId, HostName, PoolName, ProjectId, ShareId, SnapshotId
from isthmus.model.share import (
    Filesystem,
    Fill,
    Origin,
    Pool,
    Revert,
    ShareGone,
    ShareSeen,
    ShareSpec,
    SnapshotGone,
    SnapshotSpec,
)
from tests.fakes.world import World

LAYOUT = Layout("t", Path("/run/t"), Path("/var/lib/t"))
POOL, HOST = PoolName("p"), HostName("h")
SHARES = [ShareId(f"00000000-0000-4000-8000-00000000000{n}") for n in range(3)]
SNAPSHOTS = [SnapshotId(f"50000000-0000-4000-8000-00000000000{n}") for n in range(3)]
GUESTS = [GuestId(f"a000000{n}-0000-4000-8000-000000000000") for n in range(3)]
POOLS = (Pool(POOL, "local", HOST, "/srv"),)


def attachment(number: int, share: ShareId, guest: GuestId) -> AttachmentSpec:
    ident = AttachmentId(f"b0000000-0000-4000-8000-{number:012d}")
    return AttachmentSpec(ident, share, guest, number + 1, f"/s{number}")


def desired(**parts: object) -> Desired:
    return Desired(HOST, 7, POOLS, **parts)  # type: ignore[arg-type]


def guest_spec(guest: GuestId, *, static: bool = False) -> GuestSpec:
    return GuestSpec(guest, ProjectId("demo"), HOST, static=static)


@st.composite
def wishes(draw: st.DrawFn) -> Desired:
    """Any document that the service may send."""
    fates = [draw(st.sampled_from(["wanted", "made", "doomed", "unknown"])) for _ in SHARES]
    specs, doomed, snapshots, dropped = [], [], [], []
    for number, (share, fate) in enumerate(zip(SHARES, fates, strict=True)):
        if fate == "doomed":
            doomed.append(ShareGone(share, POOL))
        if fate not in ("wanted", "made"):
            continue
        if draw(st.booleans()):
            snapshots.append(SnapshotSpec(SNAPSHOTS[number], share, made=draw(st.booleans())))
            revert = draw(st.none() | st.builds(Revert, st.just(SNAPSHOTS[number]), st.integers(1, 2)))
            revert = revert if not snapshots[-1].made else None
        else:
            dropped.append(SnapshotGone(SNAPSHOTS[number], share))
            revert = None
        sources = [Origin(SHARES[n]) for n in range(number) if fates[n] in ("wanted", "made")]
        origin = draw(st.none() | st.sampled_from(sources)) if sources else None
        size = draw(st.sampled_from([GIB, 2 * GIB]))
        fill = None
        if number and revert is None and origin is None:
            fills = st.builds(Fill, st.sampled_from(SHARES[:number]), st.just(POOL), st.integers(1, 3))
            fill = draw(st.none() | fills)
        specs.append(
            ShareSpec(
                share,
                POOL,
                size,
                origin=origin,
                revert=revert,
                made=fate == "made",
                fill=fill,
                frozen=revert is None and draw(st.integers(0, 5)) == 5,
            )
        )
    guests = [guest_spec(guest, static=draw(st.booleans())) for guest in GUESTS if draw(st.booleans())]
    pairs = [(spec.id, guest.id) for spec in specs for guest in guests]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=5)) if pairs else []
    return desired(
        shares=tuple(specs),
        doomed_shares=tuple(doomed),
        snapshots=tuple(snapshots),
        doomed_snapshots=tuple(dropped),
        guests=tuple(guests),
        attachments=tuple(attachment(n, share, guest) for n, (share, guest) in enumerate(chosen)),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Any state of the host, however it came about."""
    world = World(LAYOUT, (POOL,))
    for number, share in enumerate(SHARES):
        if draw(st.booleans()):
            mounted = draw(st.booleans())
            world.shares[POOL][share] = ShareSeen(
                share,
                draw(st.sampled_from([GIB, 2 * GIB, 3 * GIB])),
                Filesystem.BTRFS,
                generation=draw(st.integers(0, 2)),
                mounted=mounted,
                wounded=mounted and draw(st.booleans()),
                snapshots=frozenset(draw(st.sets(st.just(SNAPSHOTS[number])))),
            )
    mounts = [share for share, seen in world.shares[POOL].items() if seen.mounted]
    for guest in GUESTS:
        if draw(st.booleans()):
            missing = draw(st.sampled_from([(), ("tap",), ("filter", "address")]))
            world.links[guest] = LinkSeen(guest, missing, held=draw(st.booleans()))
            if draw(st.booleans()):
                chosen = draw(st.lists(st.sampled_from(mounts), unique=True)) if mounts else []
                odd = {
                    spec.id: replace(export(spec), access=draw(st.sampled_from(list(Access))))
                    for spec in (attachment(n, share, guest) for n, share in enumerate(chosen))
                }
                running = draw(st.booleans())
                answers = running and draw(st.booleans())
                holds = {spec: one.source for spec, one in odd.items()} if running else {}
                world.gateways[Mode.NFS, guest] = GatewaySeen(guest, Mode.NFS, running, odd if answers else {}, holds)
        if draw(st.booleans()):
            held = frozenset(draw(st.sets(st.just(LAYOUT.nic())))) if guest in world.links else frozenset()
            world.guests[guest] = GuestSeen(guest, draw(st.sampled_from(list(GuestState))), held)
    world.debris[POOL] = draw(st.sampled_from([(), ("x.new",)]))
    return world


def export(spec: AttachmentSpec):  # type: ignore[no-untyped-def]
    from isthmus.agent.plan import View

    return View(desired(), Observed(), LAYOUT).export(spec)


@settings(max_examples=300, deadline=None)
@given(world=worlds(), want=wishes(), order=st.randoms(use_true_random=False))
def test_every_state_converges_and_every_order_is_safe(world: World, want: Desired, order) -> None:  # type: ignore[no-untyped-def]
    """Steps are done one at a time, in any order of chains, and the plan is made anew after each: each is a cut."""
    for _ in range(200):
        chains = plan(want, world.observed(), LAYOUT)
        if not chains:
            break
        chain = order.choice(chains)
        world.apply(chain.steps[0], want)
    else:
        pytest.fail(f"no end: {chains}")
    assert world.disagreements(want) == []


@settings(max_examples=200, deadline=None)
@given(world=worlds(), want=wishes(), later=wishes(), order=st.randoms(use_true_random=False))
def test_chains_that_overlap_are_safe(world: World, want: Desired, later: Desired, order) -> None:  # type: ignore[no-untyped-def]
    """Chains run side by side, step by step, while the document changes in the middle; a chain goes on by the document
    that it was planned by."""
    running: list[tuple[Chain, list[Step], Desired]] = []
    for turn in range(400):
        now = want if turn < 5 else later
        for chain in plan(now, world.observed(), LAYOUT, [chain for chain, _, _ in running]):
            if all(chain.may_run_beside(other) for other, _, _ in running):
                running.append((chain, list(chain.steps), now))
        if not running:
            if turn >= 5:
                break
            continue
        chosen = order.choice(running)
        world.apply(chosen[1].pop(0), chosen[2])
        if not chosen[1]:
            running.remove(chosen)
    else:
        pytest.fail("no end")
    assert world.disagreements(later) == []


def test_a_lost_share_is_not_made_anew() -> None:
    want = desired(shares=(ShareSpec(SHARES[0], POOL, GIB, made=True),))
    assert plan(want, World(LAYOUT, (POOL,)).observed(), LAYOUT) == ()


@pytest.mark.parametrize(("made", "dropped"), [(False, False), (True, True)])
def test_a_snapshot_stays_for_the_share_that_is_yet_to_be_made_of_it(made: bool, dropped: bool) -> None:
    """A copy that was lost will not be made again, and holds nothing back."""
    origin, copy, snapshot = SHARES[0], SHARES[1], SNAPSHOTS[0]
    want = desired(
        shares=(ShareSpec(origin, POOL, GIB), ShareSpec(copy, POOL, GIB, origin=Origin(origin, snapshot), made=made)),
        doomed_snapshots=(SnapshotGone(snapshot, origin),),
    )
    world = World(LAYOUT, (POOL,))
    world.shares[POOL][origin] = ShareSeen(origin, GIB, Filesystem.BTRFS, snapshots=frozenset({snapshot}))
    steps = [step for chain in plan(want, world.observed(), LAYOUT) for step in chain.steps]
    assert (DropSnapshot(POOL, origin, snapshot) in steps) is dropped


def test_a_share_that_no_document_names_is_not_deleted() -> None:
    world = World(LAYOUT, (POOL,))
    world.shares[POOL][SHARES[0]] = ShareSeen(SHARES[0], GIB, Filesystem.BTRFS)
    assert plan(desired(), world.observed(), LAYOUT) == ()


def test_nothing_that_serves_is_taken_away_because_its_pool_cannot_be_seen() -> None:
    world = World(LAYOUT, (POOL,))
    spec = attachment(0, SHARES[0], GUESTS[0])
    world.links[GUESTS[0]] = LinkSeen(GUESTS[0])
    world.gateways[Mode.NFS, GUESTS[0]] = GatewaySeen(GUESTS[0], Mode.NFS, True, {spec.id: export(spec)})
    want = desired(
        shares=(ShareSpec(SHARES[0], POOL, GIB, made=True),), guests=(guest_spec(GUESTS[0]),), attachments=(spec,)
    )
    have = replace(world.observed(), pools={})
    assert plan(want, have, LAYOUT) == ()


def test_what_cannot_be_observed_is_not_changed() -> None:
    want = desired(guests=(guest_spec(GUESTS[0], static=True),))
    assert plan(want, Observed({}, None, None, None), LAYOUT) == ()


def test_a_busy_share_is_not_given_to_a_gateway() -> None:
    """It may be on its way out: a directory without its mount would be exported."""
    world = World(LAYOUT, (POOL,))
    world.shares[POOL][SHARES[0]] = ShareSeen(SHARES[0], GIB, Filesystem.BTRFS, mounted=True)
    world.links[GUESTS[0]] = LinkSeen(GUESTS[0])
    world.gateways[Mode.NFS, GUESTS[0]] = GatewaySeen(GUESTS[0], Mode.NFS, True)
    spec = attachment(0, SHARES[0], GUESTS[0])
    want = desired(shares=(ShareSpec(SHARES[0], POOL, GIB),), guests=(guest_spec(GUESTS[0]),), attachments=(spec,))
    share = Subject(Kind.SHARE, SHARES[0])
    release = Chain(share, (ReleaseShare(POOL, SHARES[0]),), frozenset({share}), POOL)
    assert plan(want, world.observed(), LAYOUT, [release]) == ()
    (chain,) = plan(want, world.observed(), LAYOUT)
    assert chain.steps == (Present(Mode.NFS, GUESTS[0], (export(spec),)),)


def test_a_revert_takes_the_share_from_its_guests_first_and_gives_it_back() -> None:
    world = World(LAYOUT, (POOL,))
    spec = attachment(0, SHARES[0], GUESTS[0])
    world.shares[POOL][SHARES[0]] = ShareSeen(
        SHARES[0], GIB, Filesystem.BTRFS, mounted=True, snapshots=frozenset({SNAPSHOTS[0]})
    )
    world.links[GUESTS[0]] = LinkSeen(GUESTS[0])
    world.gateways[Mode.NFS, GUESTS[0]] = GatewaySeen(GUESTS[0], Mode.NFS, True, {spec.id: export(spec)})
    want = desired(
        shares=(ShareSpec(SHARES[0], POOL, GIB, revert=Revert(SNAPSHOTS[0], 1), made=True),),
        snapshots=(SnapshotSpec(SNAPSHOTS[0], SHARES[0], made=True),),
        guests=(guest_spec(GUESTS[0]),),
        attachments=(spec,),
    )
    done = []
    while chains := plan(want, world.observed(), LAYOUT):
        for step in chains[0].steps:
            world.apply(step, want)
            done.append(step)
    assert done == [
        Present(Mode.NFS, GUESTS[0], ()),
        ReleaseShare(POOL, SHARES[0]),
        RevertShare(POOL, SHARES[0], SNAPSHOTS[0], 1),
        MountShare(POOL, SHARES[0]),
        Present(Mode.NFS, GUESTS[0], (export(spec),)),
    ]


def test_a_guest_that_does_not_let_go_loses_its_access_all_the_same() -> None:
    world = World(LAYOUT, (POOL,))
    spec = attachment(0, SHARES[0], GUESTS[0])
    world.shares[POOL][SHARES[0]] = ShareSeen(SHARES[0], GIB, Filesystem.BTRFS, mounted=True)
    world.links[GUESTS[0]] = LinkSeen(GUESTS[0])
    world.gateways[Mode.NFS, GUESTS[0]] = GatewaySeen(GUESTS[0], Mode.NFS, True, {spec.id: export(spec)})
    world.guests[GUESTS[0]] = GuestSeen(GUESTS[0], GuestState.RUNNING, leaving=frozenset({LAYOUT.nic()}))
    want = desired(shares=(ShareSpec(SHARES[0], POOL, GIB, made=True),), guests=(guest_spec(GUESTS[0]),))
    while True:
        steps = [step for chain in plan(want, world.observed(), LAYOUT) for step in chain.steps]
        rest = [step for step in steps if not isinstance(step, UnplugNic)]
        if not rest:
            break
        world.apply(rest[0], want)
    assert not world.gateways
    assert not world.shares[POOL][SHARES[0]].mounted
    assert steps == [UnplugNic(GUESTS[0], LAYOUT.nic())]
    assert GUESTS[0] in world.links


def test_a_dead_gateway_comes_back_with_all_that_it_had() -> None:
    world = World(LAYOUT, (POOL,))
    specs = [attachment(n, share, GUESTS[0]) for n, share in enumerate(SHARES)]
    for share in SHARES:
        world.shares[POOL][share] = ShareSeen(share, GIB, Filesystem.BTRFS, mounted=True)
    world.links[GUESTS[0]] = LinkSeen(GUESTS[0])
    world.gateways[Mode.NFS, GUESTS[0]] = GatewaySeen(GUESTS[0], Mode.NFS, running=False)
    want = desired(
        shares=tuple(ShareSpec(share, POOL, GIB, made=True) for share in SHARES),
        guests=(guest_spec(GUESTS[0]),),
        attachments=tuple(specs),
    )
    (chain,) = plan(want, world.observed(), LAYOUT)
    assert chain.steps == (StartGateway(Mode.NFS, GUESTS[0], tuple(export(spec) for spec in specs)),)


def test_a_sweep_waits_until_nothing_else_is_to_be_done_in_its_pool() -> None:
    world = World(LAYOUT, (POOL,))
    world.debris[POOL] = ("x.new",)
    want = desired(shares=(ShareSpec(SHARES[0], POOL, GIB),))
    (create,) = plan(want, world.observed(), LAYOUT)
    assert isinstance(create.steps[0], CreateShare)
    assert plan(want, world.observed(), LAYOUT, [create]) == ()
    world.apply(create.steps[0], want)
    (sweep,) = plan(want, world.observed(), LAYOUT)
    assert sweep.whole_pool
    assert not sweep.may_run_beside(create)


@settings(max_examples=200, deadline=None)
@given(world=worlds(), want=wishes(), data=st.data(), order=st.randoms(use_true_random=False))
def test_what_is_denied_is_never_presented_and_the_rest_converges(
    world: World,
    want: Desired,
    data: st.DataObject,
    order: Any,
) -> None:
    """From every state, with any attachments denied: none of them is in a step that presents, those that were there are
    withdrawn, their guests keep link and gateway, and all else comes about."""
    ids = [spec.id for spec in want.attachments]
    exports = frozenset(data.draw(st.sets(st.sampled_from(ids)))) if ids else frozenset()
    waiting = frozenset(data.draw(st.sets(st.sampled_from(sorted(exports))))) if exports else frozenset()
    denied = Denied(exports, waiting)
    for _ in range(200):
        chains = plan(want, world.observed(), LAYOUT, (), denied)
        for step in (step for chain in chains for step in chain.steps):
            if isinstance(step, Present | StartGateway):
                assert not {export.attachment for export in step.exports} & exports
        if not chains:
            break
        world.apply(order.choice(chains).steps[0], want)
    else:
        pytest.fail(f"no end: {chains}")
    assert world.disagreements(want, denied) == []


def test_a_share_is_filled_while_its_source_is_in_use_and_finally_when_nobody_has_it() -> None:
    world = World(LAYOUT, (POOL,))
    spec = attachment(0, SHARES[0], GUESTS[0])
    world.shares[POOL][SHARES[0]] = ShareSeen(SHARES[0], GIB, Filesystem.BTRFS, mounted=True)
    world.links[GUESTS[0]] = LinkSeen(GUESTS[0])
    world.gateways[Mode.NFS, GUESTS[0]] = GatewaySeen(GUESTS[0], Mode.NFS, True, {spec.id: export(spec)})
    source = ShareSpec(SHARES[0], POOL, GIB, made=True)
    copy = ShareSpec(SHARES[1], POOL, GIB, fill=Fill(SHARES[0], POOL, 1))

    def done(want: Desired) -> list[Step]:
        found: list[Step] = []
        while chains := plan(want, world.observed(), LAYOUT):
            for step in chains[0].steps:
                world.apply(step, want)
                found.append(step)
        return found

    want = desired(shares=(source, copy), guests=(guest_spec(GUESTS[0]),), attachments=(spec,))
    assert done(want) == [
        CreateShare(copy),
        FillShare(POOL, SHARES[1], Fill(SHARES[0], POOL, 1)),
        ReleaseShare(POOL, SHARES[1]),
    ]
    final = Fill(SHARES[0], POOL, 2)
    want = replace(want, shares=(replace(source, frozen=True), replace(copy, fill=final)))
    assert done(want) == [
        Present(Mode.NFS, GUESTS[0], ()),
        ReleaseShare(POOL, SHARES[0]),
        FillShare(POOL, SHARES[1], final),
        ReleaseShare(POOL, SHARES[0]),
        ReleaseShare(POOL, SHARES[1]),
    ]


def test_what_is_being_copied_is_not_unmounted() -> None:
    world = World(LAYOUT, (POOL,))
    for share in SHARES[:2]:
        world.shares[POOL][share] = ShareSeen(share, GIB, Filesystem.BTRFS, mounted=True)
    target = Subject(Kind.SHARE, SHARES[1])
    filling = Chain(target, (FillShare(POOL, SHARES[1], Fill(SHARES[0], POOL, 1)),), frozenset({target}), POOL)
    for want in (
        desired(shares=(ShareSpec(SHARES[0], POOL, GIB, made=True),)),
        desired(doomed_shares=(ShareGone(SHARES[0], POOL),)),
        desired(shares=(ShareSpec(SHARES[0], POOL, GIB, made=True, frozen=True),)),
    ):
        assert plan(want, world.observed(), LAYOUT)
        assert [chain for chain in plan(want, world.observed(), LAYOUT, [filling]) if chain.subject != target] == []


def test_a_share_that_is_to_be_found_is_left_as_it_is() -> None:
    world = World(LAYOUT, (POOL,))
    world.shares[POOL][SHARES[0]] = ShareSeen(SHARES[0], GIB, Filesystem.XFS)
    for share in SHARES[:2]:
        want = desired(shares=(ShareSpec(share, POOL, 2 * GIB, made=True, adopt=True),))
        assert plan(want, world.observed(), LAYOUT) == ()
