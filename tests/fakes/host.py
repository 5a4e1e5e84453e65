"""An agent's equipment over a ``World``, with faults on demand, and a service that hands out one document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping

from isthmus.agent.equipment import Equipment
from isthmus.agent.steps import (
    CreateShare,
    DeleteShare,
    DropSnapshot,
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
from isthmus.model.desired import Desired, Report
from isthmus.model.errors import HostRevoked, IsthmusError, Unavailable
from isthmus.model.guest import GuestEvent, GuestSeen, NicPlug, Plug
from isthmus.model.layout import mac_of
from isthmus.model.names import MIB, AttachmentId, GuestId, HostName, PoolName, ShareId, SnapshotId
from isthmus.model.share import Filesystem, Pool, PoolSeen, Power, ShareSpec
from isthmus.storage.driver import PathSource, StorageDriver
from tests.fakes.authority import WEEK, signed, with_grants
from tests.fakes.world import World

Fault = Callable[[Step], Awaitable[None]]


async def hang(step: Step) -> None:
    """A fault: never ends."""
    await asyncio.Event().wait()


def fail_with(error: IsthmusError, times: int = 1) -> Fault:
    """A fault: raises ``error`` the first ``times`` times."""
    left = times

    async def fault(step: Step) -> None:
        nonlocal left
        if left > 0:
            left -= 1
            raise error

    return fault


class Host:
    """The world with hands: every call of the equipment is a step done, listed in ``done``."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.want: Desired | None = None
        self.done: list[Step] = []
        self.faults: dict[type[Step], Fault] = {}
        self.blind: set[str] = set()
        self.redefined: list[Pool] = []
        self.ends: asyncio.Queue[str] = asyncio.Queue()
        self.happenings: asyncio.Queue[GuestEvent] = asyncio.Queue()
        self.sight = asyncio.Event()

    def equipment(self) -> Equipment:
        """As ``assemble`` makes it for a real host."""
        return Equipment(
            link=_Link(self),
            gateways={Mode.NFS: _Gateway(self)},
            hypervisor=_Hypervisor(self),
            make_driver=lambda pool: _Driver(self, pool),
            exits=self._exits,
        )

    async def act(self, step: Step) -> None:
        """Do a step, unless a fault comes first."""
        fault = self.faults.get(type(step))
        if fault is not None:
            await fault(step)
        assert self.want is not None
        self.world.apply(step, self.want)
        self.done.append(step)

    async def see(self, part: str) -> None:
        """Waits while the part is hidden."""
        if part in self.blind:
            await self.sight.wait()

    async def _exits(self) -> AsyncIterator[str]:
        while True:
            yield await self.ends.get()


class _Link:
    def __init__(self, host: Host) -> None:
        self._host = host

    async def observe(self) -> Mapping[GuestId, LinkSeen]:
        await self._host.see("link")
        return dict(self._host.world.links)

    async def make(self, guest: GuestId) -> None:
        await self._host.act(MakeLink(guest))

    async def remove(self, guest: GuestId) -> None:
        await self._host.act(RemoveLink(guest))

    def plug(self, guest: GuestId) -> Plug:
        layout = self._host.world.layout
        return NicPlug(layout.nic(), mac_of(guest), layout.netns(guest), layout.tap(guest))


class _Gateway:
    mode = Mode.NFS
    port = 2049

    def __init__(self, host: Host) -> None:
        self._host = host

    async def observe(self) -> Mapping[GuestId, GatewaySeen]:
        await self._host.see("gateway")
        return {guest: seen for (_, guest), seen in self._host.world.gateways.items()}

    async def start(self, guest: GuestId, exports: Collection[Export]) -> None:
        await self._host.act(StartGateway(Mode.NFS, guest, tuple(exports)))

    async def present(self, guest: GuestId, exports: Collection[Export]) -> Mapping[AttachmentId, IsthmusError]:
        await self._host.act(Present(Mode.NFS, guest, tuple(exports)))
        return {}

    async def stop(self, guest: GuestId) -> None:
        await self._host.act(StopGateway(Mode.NFS, guest))


class _Hypervisor:
    def __init__(self, host: Host) -> None:
        self._host = host

    async def guests(self) -> Mapping[GuestId, GuestSeen]:
        await self._host.see("guests")
        return dict(self._host.world.guests)

    async def plug(self, guest: GuestId, plug: Plug) -> None:
        await self._host.act(PlugNic(guest, plug))

    async def unplug(self, guest: GuestId, plug_id: str) -> None:
        await self._host.act(UnplugNic(guest, plug_id))

    async def events(self) -> AsyncIterator[GuestEvent]:
        while True:
            yield await self._host.happenings.get()

    async def close(self) -> None:
        return


class _Driver(StorageDriver):
    def __init__(self, host: Host, pool: Pool) -> None:
        self._host, self._pool = host, pool.name

    @property
    def powers(self) -> Mapping[Filesystem, frozenset[Power]]:
        return {Filesystem.BTRFS: frozenset(Power)}

    @property
    def minimum(self) -> Mapping[Filesystem, int]:
        return {Filesystem.BTRFS: MIB}

    def redefine(self, pool: Pool) -> None:
        self._host.redefined.append(pool)

    async def observe(self) -> PoolSeen:
        await self._host.see(f"pool {self._pool}")
        return self._host.world.observed().pools[self._pool]

    async def create(self, share: ShareSpec) -> None:
        await self._host.act(CreateShare(share))

    async def delete(self, share: ShareId) -> None:
        await self._host.act(DeleteShare(self._pool, share))

    async def resize(self, share: ShareId, size: int) -> None:
        await self._host.act(ResizeShare(self._pool, share, size))

    async def source(self, share: ShareId) -> PathSource:
        await self._host.act(MountShare(self._pool, share))
        return PathSource(self._host.world.layout.share_data(share))

    async def release(self, share: ShareId) -> None:
        await self._host.act(ReleaseShare(self._pool, share))

    async def sweep(self) -> None:
        await self._host.act(SweepPool(self._pool))

    async def snapshot(self, share: ShareId, snapshot: SnapshotId) -> None:
        await self._host.act(TakeSnapshot(self._pool, share, snapshot))

    async def delete_snapshot(self, share: ShareId, snapshot: SnapshotId) -> None:
        await self._host.act(DropSnapshot(self._pool, share, snapshot))

    async def revert(self, share: ShareId, snapshot: SnapshotId, generation: int) -> None:
        await self._host.act(RevertShare(self._pool, share, snapshot, generation))


class Desk:
    """The service's side: hands out the last document, signs what it is asked for, keeps every report, and may be away
    (``away``), not sign (``unwilling``: why), or take the host for revoked."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._news = asyncio.Condition()
        self.document: Desired | None = None
        self.away = False
        self.reports: list[Report] = []
        self.unwilling = ""
        self.revoked = False
        self.grants: dict[AttachmentId, bytes] = {}
        self.asked: list[frozenset[AttachmentId]] = []
        self.life = WEEK
        self._sequence = 0
        self._handed: Desired | None = None

    async def order(self, document: Desired) -> None:
        """From now on this is what should be."""
        async with self._news:
            self.document = with_grants(document, self.grants, revoked=document.revoked)
            self._host.want = self.document
            self._news.notify_all()

    async def desired(self, host: HostName, after: int, timeout: float) -> Desired | None:  # noqa: ASYNC109
        self._answer()
        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(lambda: self.revoked or self._is_news(after))
        except TimeoutError:
            return None
        self._answer()
        self._handed = self.document
        return self.document

    async def sign(self, host: HostName, requests: Mapping[AttachmentId, bytes]) -> Mapping[AttachmentId, str]:
        self._answer()
        self.asked.append(frozenset(requests))
        assert self.document is not None
        if self.unwilling:
            return dict.fromkeys(requests, self.unwilling)
        self._sequence += 1
        self.grants |= signed(self.document, requests, sequence=self._sequence, life=self.life)
        await self.order(self.document)
        return {}

    def _answer(self) -> None:
        if self.revoked:
            raise HostRevoked("cannot take the certificate of host h: revoked")
        if self.away:
            raise Unavailable("cannot reach the service: it is away")

    def _is_news(self, after: int) -> bool:
        """As the service would count up its revision for a grant, which these tests give by hand."""
        if self.document is None:
            return False
        fresh = bool(self.document.grants) and self.document != self._handed
        return self.document.revision > after or fresh

    async def report(self, report: Report) -> None:
        self._answer()
        async with self._news:
            self.reports.append(report)
            self._news.notify_all()

    async def told(self, condition: Callable[[Report], bool]) -> Report:
        """The first report, of those that came and will come, for which the condition holds."""
        seen = 0
        async with asyncio.timeout(10), self._news:
            while True:
                for report in self.reports[seen:]:
                    if condition(report):
                        return report
                seen = len(self.reports)
                await self._news.wait()


class Notebook:
    """An agent's memory, in memory."""

    def __init__(self, kept: Desired | None = None) -> None:
        self.kept = kept

    def load(self) -> Desired | None:
        return self.kept

    def save(self, desired: Desired) -> None:
        self.kept = desired


__all__ = ["Desk", "Fault", "Host", "Notebook", "PoolName", "fail_with", "hang"]
