"""From what should be and what is to what must be done: pure, and the same from whatever state a crash has left.

A plan holds only what can be done now; what depends on it is planned when it has been observed. So a chain is short, an
interrupted one needs no memory, and chains of different subjects run side by side.

The order of things follows from what a plan asks to have been *observed*:

    up:    link whole -> gateway runs -> export        down:  export gone -> share unmounted -> share reverted, deleted
           link whole -> network card                         export gone -> gateway stopped
           share there -> share mounted -> export             gateway stopped, card let go -> link removed
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from isthmus.agent.steps import (
    Chain,
    CloneShare,
    CreateShare,
    DeleteShare,
    DropSnapshot,
    FillShare,
    Kind,
    MakeLink,
    MountShare,
    PlugNic,
    Present,
    ReleaseShare,
    RemoveLink,
    ResizeShare,
    RevertShare,
    StartGateway,
    Step,
    StopGateway,
    Subject,
    SweepPool,
    TakeSnapshot,
    UnplugNic,
)
from isthmus.model.attachment import AttachmentSpec, Export, GatewaySeen, LinkSeen, Mode
from isthmus.model.desired import Desired
from isthmus.model.guest import GuestSeen, GuestState, NicPlug
from isthmus.model.layout import Layout, mac_of
from isthmus.model.names import MIB, AttachmentId, GuestId, PoolName, ShareId
from isthmus.model.share import PoolSeen, ShareSeen, ShareSpec

REMOUNT_ROOM = 64 * MIB
"""A file system that a full pool has wounded is mounted again once the pool has this many bytes free."""


@dataclass(frozen=True, slots=True)
class Denied:
    """Attachments that have no valid grant. ``exports`` must not be presented; their shares are mounted only for those
    that are ``waiting``: nothing speaks against them, and a mount of the host's shows nothing to anybody."""

    exports: frozenset[AttachmentId] = frozenset()
    waiting: frozenset[AttachmentId] = frozenset()


NOTHING_DENIED = Denied()


@dataclass(frozen=True, slots=True)
class Observed:
    """What is on the host. None in place of a mapping, or a pool that is missing: it could not be observed, so
    nothing is planned about it and nothing that serves is taken away."""

    pools: Mapping[PoolName, PoolSeen] = field(default_factory=dict)
    links: Mapping[GuestId, LinkSeen] | None = field(default_factory=dict)
    gateways: Mapping[tuple[Mode, GuestId], GatewaySeen] | None = field(default_factory=dict)
    guests: Mapping[GuestId, GuestSeen] | None = field(default_factory=dict)


def plan(
    want: Desired,
    have: Observed,
    layout: Layout,
    running: Collection[Chain] = (),
    denied: Denied = NOTHING_DENIED,
) -> tuple[Chain, ...]:
    """Chains that bring ``have`` nearer to ``want``; empty if there is nothing to do, or nothing that can be done now.

    ``running`` chains change things while we look, perhaps by an earlier document: what was seen of their subjects is
    not relied upon, nothing is planned about them, and what they are about to use counts as used.

    Of what is ``denied`` nothing is ever presented; its guest's link and gateway are there all the same.
    """
    view = View(want, have, layout, running, denied)
    chains = [*_apart(view, tuple(_shares(view))), *_links(view), *_gateways(view), *_nics(view)]
    chains += _sweeps(view, chains)
    return tuple(chain for chain in chains if not chain.holds & view.busy)


class View:
    """Both documents with the indexes that the rules ask for."""

    def __init__(
        self,
        want: Desired,
        have: Observed,
        layout: Layout,
        running: Collection[Chain] = (),
        denied: Denied = NOTHING_DENIED,
    ) -> None:
        self.want, self.have, self.layout, self.denied = want, have, layout, denied
        self.busy = frozenset(subject for chain in running for subject in chain.holds)
        self.coming = tuple(
            export
            for step in (step for chain in running for step in chain.steps)
            if isinstance(step, Present | StartGateway)
            for export in step.exports
        )
        self.sources = frozenset(
            step.fill.share for chain in running for step in chain.steps if isinstance(step, FillShare)
        )
        self.specs: dict[ShareId, ShareSpec] = {spec.id: spec for spec in want.shares}
        self.doomed = {gone.id: gone.pool for gone in want.doomed_shares}
        self.seen: dict[ShareId, tuple[PoolName, ShareSeen]] = {
            share.id: (name, share) for name, pool in have.pools.items() for share in pool.shares.values()
        }
        self.attachments: dict[AttachmentId, AttachmentSpec] = {spec.id: spec for spec in want.attachments}
        self.by_gateway: dict[tuple[Mode, GuestId], list[AttachmentSpec]] = defaultdict(list)
        for spec in want.attachments:
            self.by_gateway[spec.mode, spec.guest].append(spec)
        self.attached = frozenset(spec.guest for spec in want.attachments)
        self.guests = {spec.id: spec for spec in want.guests}
        self.mounts = frozenset(
            spec.share for spec in want.attachments if spec.id not in denied.exports or spec.id in denied.waiting
        )
        self.in_use = self._shares_in_use()

    def _shares_in_use(self) -> frozenset[ShareId] | None:
        """Shares that some gateway holds open now or is about to; None if that cannot be known."""
        if self.have.gateways is None:
            return None
        sources = [export.source for export in self.coming]
        for gateway in self.have.gateways.values():
            sources += [export.source for export in gateway.exports.values()]
            sources += gateway.holds.values()
        shares = (self.layout.share_of_data(source) for source in sources)
        return frozenset(share for share in shares if share is not None)

    def is_visible(self, share: ShareId) -> bool:
        """The share's pool was observed, so that its absence there says something."""
        pool = self.specs[share].pool if share in self.specs else self.doomed.get(share)
        return pool is None or pool in self.have.pools

    def is_idle(self, share: ShareId) -> bool:
        """No gateway has the share, and it is not being copied, so it may be unmounted."""
        return self.is_unattended(share) and share not in self.sources

    def is_unattended(self, share: ShareId) -> bool:
        """No gateway has the share."""
        return self.in_use is not None and share not in self.in_use

    def filling(self, spec: ShareSpec, seen: ShareSeen) -> bool:
        """The share waits for the files of another."""
        return spec.fill is not None and spec.fill.generation > seen.generation

    def reverting(self, spec: ShareSpec, seen: ShareSeen) -> bool:
        """The share waits to be brought back to a snapshot."""
        return spec.revert is not None and spec.revert.generation > seen.generation

    def must_leave(self, share: ShareId) -> bool:
        """Gateways must let go of the share, whatever is attached: it is to be reverted, replaced, mounted anew or
        deleted."""
        if share in self.doomed or share not in self.specs:
            return True
        if share not in self.seen:
            return self.is_visible(share)
        spec, seen = self.specs[share], self.seen[share][1]
        return spec.frozen or self.reverting(spec, seen) or self.filling(spec, seen) or self._to_remount(share)

    def _to_remount(self, share: ShareId) -> bool:
        name, seen = self.seen[share]
        return seen.wounded and self.have.pools[name].free >= REMOUNT_ROOM

    def is_ready(self, share: ShareId) -> bool:
        """The share can be given to a gateway now."""
        if self.must_leave(share) or share not in self.seen or Subject(Kind.SHARE, share) in self.busy:
            return False
        return self.seen[share][1].mounted

    def wanted(self, share: ShareId) -> bool:
        """Some attachment wants the share mounted, and may have it or is likely to soon."""
        return share in self.mounts

    def serves(self, guest: GuestId) -> bool:
        """The guest should have a link and a gateway."""
        spec = self.guests.get(guest)
        return spec is not None and (spec.static or guest in self.attached)

    def modes(self, guest: GuestId) -> frozenset[Mode]:
        """The gateways that a guest should have."""
        if not self.serves(guest):
            return frozenset()
        return frozenset({Mode.NFS, *(mode for mode in Mode if (mode, guest) in self.by_gateway)})

    def exports(self, mode: Mode, guest: GuestId) -> tuple[Export, ...]:
        """What a gateway should present now: what is wanted and ready, and what it has and cannot be judged."""
        now = (self.have.gateways or {}).get((mode, guest))
        chosen = []
        for spec in self.by_gateway.get((mode, guest), ()):
            if spec.id in self.denied.exports:
                continue
            present = now is not None and spec.id in now.exports
            if self.is_ready(spec.share) or (present and not self.must_leave(spec.share)):
                chosen.append(self.export(spec))
        return tuple(sorted(chosen, key=lambda export: export.slot))

    def export(self, spec: AttachmentSpec) -> Export:
        """An attachment as its gateway presents it."""
        return Export(spec.id, spec.slot, self.layout.share_data(spec.share), spec.at, spec.access)

    def link_is_held(self, guest: GuestId) -> bool:
        """The guest's hypervisor holds the guest's end of the link as it is now."""
        link = (self.have.links or {}).get(guest)
        return link is not None and link.held

    def link_is_whole(self, guest: GuestId) -> bool:
        """The guest's link was seen, and nothing of it is missing."""
        link = (self.have.links or {}).get(guest)
        return link is not None and not link.missing and Subject(Kind.LINK, guest) not in self.busy


def _shares(view: View) -> Iterator[Chain]:
    for spec in view.want.shares:
        if spec.pool not in view.have.pools:
            continue
        if spec.id not in view.seen:
            yield from _make(view, spec)
        else:
            steps = tuple(_tend(view, spec, view.seen[spec.id][1]))
            if steps:
                yield _share_chain(spec.pool, spec.id, *steps)
    for share, (pool, seen) in view.seen.items():
        if share in view.specs or not view.is_idle(share):
            continue
        if share in view.doomed:
            yield _share_chain(pool, share, DeleteShare(pool, share))
        elif seen.mounted:
            yield _share_chain(pool, share, ReleaseShare(pool, share))


def _apart(view: View, chains: tuple[Chain, ...]) -> Iterator[Chain]:
    """Nothing is copied while it changes: not in the same moment as it may be unmounted, reverted or deleted."""
    changing = view.busy | {chain.subject for chain in chains}
    for chain in chains:
        sources = {Subject(Kind.SHARE, step.fill.share) for step in chain.steps if isinstance(step, FillShare)}
        if not sources & changing:
            yield chain


def _make(view: View, spec: ShareSpec) -> Iterator[Chain]:
    if spec.made:
        return
    if spec.origin is None:
        yield _share_chain(spec.pool, spec.id, CreateShare(spec))
    elif spec.origin.share in view.seen:
        chain = _share_chain(spec.pool, spec.id, CloneShare(spec))
        origin = Subject(Kind.SHARE, spec.origin.share)
        yield Chain(chain.subject, chain.steps, chain.holds | {origin}, chain.pool)


def _put_right(view: View, spec: ShareSpec, seen: ShareSeen) -> Iterator[Step]:
    """The steps for which the share had to be left by everybody."""
    if view.filling(spec, seen):
        yield from _fill(view, spec, seen)
        return
    if seen.mounted:
        yield ReleaseShare(spec.pool, spec.id)
    if spec.revert is not None and view.reverting(spec, seen):
        yield from _snapshots(view, spec, seen)
        yield RevertShare(spec.pool, spec.id, spec.revert.snapshot, spec.revert.generation)
        if view.wanted(spec.id):
            yield MountShare(spec.pool, spec.id)


def _tend(view: View, spec: ShareSpec, seen: ShareSeen) -> Iterator[Step]:
    """The steps of a share that is there."""
    if spec.adopt:
        return
    if view.must_leave(spec.id):
        if view.is_idle(spec.id):
            yield from _put_right(view, spec, seen)
        if spec.frozen or view.filling(spec, seen) or view.reverting(spec, seen) or not view.is_idle(spec.id):
            return
    wanted = view.wanted(spec.id)
    mounted = seen.mounted and not view.must_leave(spec.id)
    if wanted and not mounted:
        yield MountShare(spec.pool, spec.id)
    if seen.size != spec.size:
        yield ResizeShare(spec.pool, spec.id, spec.size)
    changes = tuple(_snapshots(view, spec, seen))
    yield from changes
    if not wanted and mounted and not changes and view.is_idle(spec.id):
        yield ReleaseShare(spec.pool, spec.id)


def _fill(view: View, spec: ShareSpec, seen: ShareSeen) -> Iterator[Step]:
    """One that nobody may have any more is copied once nobody has it: what is copied then is final."""
    fill = spec.fill
    if fill is None or fill.share not in view.seen:
        return
    source = view.specs.get(fill.share)
    if source is not None and source.frozen and not view.is_unattended(fill.share):
        return
    if seen.size != spec.size:
        yield ResizeShare(spec.pool, spec.id, spec.size)
    yield FillShare(spec.pool, spec.id, fill)


def _snapshots(view: View, spec: ShareSpec, seen: ShareSeen) -> Iterator[Step]:
    have = seen.snapshots or frozenset()
    for snapshot in view.want.snapshots:
        if snapshot.share == spec.id and snapshot.id not in have and not snapshot.made:
            yield TakeSnapshot(spec.pool, spec.id, snapshot.id)
    origins = {
        other.origin.snapshot
        for other in view.want.shares
        if other.origin and not other.made and other.id not in view.seen
    }
    for gone in view.want.doomed_snapshots:
        if gone.share == spec.id and gone.id in have and gone.id not in origins:
            yield DropSnapshot(spec.pool, spec.id, gone.id)


def _share_chain(pool: PoolName, share: ShareId, *steps: Step) -> Chain:
    subject = Subject(Kind.SHARE, share)
    return Chain(subject, steps, frozenset({subject}), pool)


def _sweeps(view: View, chains: list[Chain]) -> list[Chain]:
    """A pool is swept when nothing else is to be done or being done in it."""
    working = {chain.pool for chain in chains}
    working |= {spec.pool for spec in view.want.shares if Subject(Kind.SHARE, spec.id) in view.busy}
    working |= {pool for share, (pool, _) in view.seen.items() if Subject(Kind.SHARE, share) in view.busy}
    found = []
    for name, pool in view.have.pools.items():
        if pool.debris and name not in working:
            subject = Subject(Kind.POOL, name)
            found.append(Chain(subject, (SweepPool(name),), frozenset({subject}), name, whole_pool=True))
    return found


def _links(view: View) -> Iterator[Chain]:
    if view.have.links is None:
        return
    for guest in view.guests:
        if not view.serves(guest):
            continue
        link = view.have.links.get(guest)
        if link is None or link.missing:
            yield _guest_chain(Kind.LINK, guest, MakeLink(guest))
    for guest in view.have.links:
        if not view.serves(guest) and _let_go(view, guest):
            yield _guest_chain(Kind.LINK, guest, RemoveLink(guest))


def _let_go(view: View, guest: GuestId) -> bool:
    """No gateway stands in the guest's namespace or is about to, and the guest does not hold its end of the wire."""
    if view.have.gateways is None or view.have.guests is None or Subject(Kind.NIC, guest) in view.busy:
        return False
    if any((mode, guest) in view.have.gateways or _gateway_subject(mode, guest) in view.busy for mode in Mode):
        return False
    seen = view.have.guests.get(guest)
    return seen is None or view.layout.nic() not in seen.plugs | seen.leaving


def _gateways(view: View) -> Iterator[Chain]:
    if view.have.gateways is None:
        return
    for guest in view.guests:
        for mode in sorted(view.modes(guest)):
            seen = view.have.gateways.get((mode, guest))
            exports = view.exports(mode, guest)
            if seen is None or not seen.running:
                if view.link_is_whole(guest):
                    yield _gateway_chain(mode, guest, StartGateway(mode, guest, exports))
            elif not _presents(seen, exports):
                yield _gateway_chain(mode, guest, Present(mode, guest, exports))
    for mode, guest in view.have.gateways:
        if mode not in view.modes(guest):
            yield _gateway_chain(mode, guest, StopGateway(mode, guest))


def _presents(seen: GatewaySeen, exports: tuple[Export, ...]) -> bool:
    """It serves exactly these, and holds nothing else."""
    wanted = {export.attachment: export for export in exports}
    return dict(seen.exports) == wanted and seen.holds.keys() <= wanted.keys()


def _gateway_subject(mode: Mode, guest: GuestId) -> Subject:
    return Subject(Kind.GATEWAY, f"{mode}-{guest}")


def _gateway_chain(mode: Mode, guest: GuestId, step: Step) -> Chain:
    subject = _gateway_subject(mode, guest)
    return Chain(subject, (step,), frozenset({subject}))


def _nics(view: View) -> Iterator[Chain]:
    nic = view.layout.nic()
    for guest, seen in (view.have.guests or {}).items():
        if view.serves(guest):
            plugged = nic in seen.plugs and view.link_is_held(guest)
            if not plugged and nic not in seen.leaving and view.link_is_whole(guest):
                plug = NicPlug(nic, mac_of(guest), view.layout.netns(guest), view.layout.tap(guest))
                if seen.state is not GuestState.STOPPED:
                    yield _guest_chain(Kind.NIC, guest, PlugNic(guest, plug))
            continue
        for device in sorted(seen.plugs | seen.leaving):
            yield _guest_chain(Kind.NIC, guest, UnplugNic(guest, device))


def _guest_chain(kind: Kind, guest: GuestId, step: Step) -> Chain:
    subject = Subject(kind, guest)
    return Chain(subject, (step,), frozenset({subject}))
