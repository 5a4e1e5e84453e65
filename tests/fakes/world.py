"""A host in memory that steps act upon. It checks at each step what must hold in every order of things."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from isthmus.agent.plan import NOTHING_DENIED, Denied, Observed, View
from isthmus.agent.steps import (
    CloneShare,
    CreateShare,
    DeleteShare,
    DropSnapshot,
    FillShare,
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
    SweepPool,
    TakeSnapshot,
    UnplugNic,
)
from isthmus.model.attachment import Export, GatewaySeen, LinkSeen, Mode
from isthmus.model.desired import Desired
from isthmus.model.guest import GuestSeen, GuestState
from isthmus.model.layout import Layout
from isthmus.model.names import GIB, GuestId, PoolName, ShareId
from isthmus.model.share import PoolSeen, ShareSeen


class World:
    """State by part; ``apply`` is one step done at once."""

    def __init__(self, layout: Layout, pools: tuple[PoolName, ...]) -> None:
        self.layout = layout
        self.shares: dict[PoolName, dict[ShareId, ShareSeen]] = {pool: {} for pool in pools}
        self.debris: dict[PoolName, tuple[str, ...]] = dict.fromkeys(pools, ())
        self.links: dict[GuestId, LinkSeen] = {}
        self.gateways: dict[tuple[Mode, GuestId], GatewaySeen] = {}
        self.guests: dict[GuestId, GuestSeen] = {}

    def observed(self) -> Observed:
        """What an agent would see."""
        return Observed(
            {
                pool: PoolSeen(pool, 100 * GIB, 50 * GIB, dict(shares), self.debris[pool])
                for pool, shares in self.shares.items()
            },
            dict(self.links),
            dict(self.gateways),
            dict(self.guests),
        )

    def open_shares(self) -> set[ShareId]:
        """Shares that some gateway holds open."""
        held = [source for gateway in self.gateways.values() for source in gateway.holds.values()]
        held += [export.source for gateway in self.gateways.values() for export in gateway.exports.values()]
        return {share for source in held if (share := self.layout.share_of_data(source))}

    def apply(self, step: Step, want: Desired) -> None:  # noqa: C901, PLR0912, PLR0915
        """Do one step, and fail if its order is unsafe."""
        match step:
            case SweepPool():
                assert self.debris[step.pool]
                self.debris[step.pool] = ()
            case CreateShare() | CloneShare():
                spec = step.share
                assert not spec.made, "a lost share was made anew"
                self.shares[spec.pool][spec.id] = ShareSeen(spec.id, spec.size, spec.filesystem, spec.checksums)
            case FillShare():
                assert step.share not in self.open_shares(), "replaced beneath a gateway"
                source = next(spec for spec in want.shares if spec.id == step.share).fill
                assert source == step.fill
                frozen = any(spec.frozen for spec in want.shares if spec.id == step.fill.share)
                assert not frozen or step.fill.share not in self.open_shares(), "copied too early"
                self._change(step.fill.pool, step.fill.share, mounted=True, wounded=False)
                self._change(step.pool, step.share, generation=step.fill.generation, mounted=True, wounded=False)
            case ResizeShare():
                self._change(step.pool, step.share, size=step.size)
            case MountShare():
                self._change(step.pool, step.share, mounted=True, wounded=False)
            case ReleaseShare():
                assert step.share not in self.open_shares(), "unmounted beneath a gateway"
                self._change(step.pool, step.share, mounted=False, wounded=False)
            case RevertShare():
                seen = self.shares[step.pool][step.share]
                assert step.share not in self.open_shares(), "reverted beneath a gateway"
                assert not seen.mounted, "reverted while mounted"
                assert step.snapshot in (seen.snapshots or ())
                self._change(step.pool, step.share, generation=step.generation)
            case DeleteShare():
                assert step.share in {gone.id for gone in want.doomed_shares}, "data deleted without an intent"
                assert step.share not in self.open_shares()
                del self.shares[step.pool][step.share]
            case TakeSnapshot():
                seen = self.shares[step.pool][step.share]
                self._change(step.pool, step.share, snapshots=(seen.snapshots or frozenset()) | {step.snapshot})
            case DropSnapshot():
                assert step.snapshot in {gone.id for gone in want.doomed_snapshots}
                seen = self.shares[step.pool][step.share]
                self._change(step.pool, step.share, snapshots=(seen.snapshots or frozenset()) - {step.snapshot})
            case MakeLink():
                self.links[step.guest] = LinkSeen(step.guest, held=False)
            case RemoveLink():
                assert (Mode.NFS, step.guest) not in self.gateways, "namespace removed beneath a gateway"
                guest = self.guests.get(step.guest)
                assert guest is None or not guest.plugs, "tap removed beneath a guest"
                del self.links[step.guest]
            case StartGateway():
                assert not self.links[step.guest].missing
                self._present(step.mode, step.guest, step.exports)
            case Present():
                assert self.gateways[step.mode, step.guest].running
                self._present(step.mode, step.guest, step.exports)
            case StopGateway():
                del self.gateways[step.mode, step.guest]
            case PlugNic():
                assert not self.links[step.guest].missing
                seen_guest = self.guests[step.guest]
                self.guests[step.guest] = replace(seen_guest, plugs=seen_guest.plugs | {step.plug.id})
                self.links[step.guest] = replace(self.links[step.guest], held=True)
            case UnplugNic():
                seen_guest = self.guests[step.guest]
                left = frozenset({step.plug_id})
                self.guests[step.guest] = replace(
                    seen_guest, plugs=seen_guest.plugs - left, leaving=seen_guest.leaving - left
                )
                if step.guest in self.links:
                    self.links[step.guest] = replace(self.links[step.guest], held=False)

    def _change(self, pool: PoolName, share: ShareId, **changes: object) -> None:
        self.shares[pool][share] = replace(self.shares[pool][share], **changes)  # type: ignore[arg-type]

    def _present(self, mode: Mode, guest: GuestId, exports: tuple[Export, ...]) -> None:
        mounted = {
            self.layout.share_data(share.id)
            for pool in self.shares.values()
            for share in pool.values()
            if share.mounted
        }
        before = self.gateways.get((mode, guest))
        kept = dict(before.holds) if before and before.running else {}
        for export in exports:
            assert export.source in mounted or export.attachment in kept, "a directory without its mount was exported"
        shown = {export.attachment: export for export in exports}
        holds = {export.attachment: export.source for export in exports}
        self.gateways[mode, guest] = GatewaySeen(guest, mode, True, shown, holds)

    def disagreements(self, want: Desired, denied: Denied = NOTHING_DENIED) -> list[str]:
        """In what the world differs from what should be, as far as it can be brought about."""
        view = View(want, self.observed(), self.layout, (), denied)
        found = [*self._about_shares(view), *self._about_guests(view)]
        return [*found, "debris"] if any(self.debris.values()) else found

    @staticmethod
    def _about_shares(view: View) -> Iterator[str]:
        for spec in view.want.shares:
            if spec.id in view.seen:
                share = view.seen[spec.id][1]
                if view.filling(spec, share) or spec.frozen:
                    if spec.fill is not None and view.filling(spec, share) and spec.fill.share in view.seen:
                        yield f"share {spec.id} is not filled"
                    continue
                if share.size != spec.size or view.reverting(spec, share) or share.wounded:
                    yield f"share {spec.id} is not as wanted"
                if share.mounted != view.wanted(spec.id):
                    yield f"share {spec.id} mounted: {share.mounted}"
            elif not spec.made and (spec.origin is None or spec.origin.share in view.seen):
                yield f"share {spec.id} is missing"
        yield from (f"share {gone.id} is still there" for gone in view.want.doomed_shares if gone.id in view.seen)

    def _about_guests(self, view: View) -> Iterator[str]:
        serving = {guest for guest in view.guests if view.serves(guest)}
        if set(self.links) != serving or any(link.missing for link in self.links.values()):
            yield "links differ"
        if {guest for _, guest in self.gateways} != serving:
            yield "gateways differ"
        for guest in serving:
            specs = [spec for spec in view.want.attachments if spec.guest == guest]
            able = {share for share in set(view.seen) & set(view.specs) if not view.must_leave(share)}
            expected = {
                spec.id: view.export(spec)
                for spec in specs
                if spec.share in able and spec.id not in view.denied.exports
            }
            if dict(self.gateways[Mode.NFS, guest].exports) != expected:
                yield f"exports of {guest} differ"
        for guest, seen in self.guests.items():
            if seen.state is not GuestState.STOPPED and bool(seen.plugs | seen.leaving) != (guest in serving):
                yield f"card of {guest}: {seen.plugs}"
            if seen.state is not GuestState.STOPPED and guest in serving and not self.links[guest].held:
                yield f"the card of {guest} is plugged into a tap that is gone"
