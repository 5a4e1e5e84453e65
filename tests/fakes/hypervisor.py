"""Guests in memory, held to the same contract as QEMU's (tests/hypervisor_contract.py)."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field

from isthmus.model.errors import NotFound, Refused
from isthmus.model.guest import GuestEvent, GuestEventKind, GuestSeen, GuestState, Plug
from isthmus.model.layout import Layout
from isthmus.model.names import GuestId


@dataclass(eq=False)
class FakeGuest:
    """A machine with ``places`` for devices. ``obliging``: it lets go of a device at once, else when it reboots.
    ``silent``: its process does not answer."""

    places: int = 4
    obliging: bool = False
    silent: bool = False
    state: GuestState = GuestState.RUNNING
    plugs: dict[str, Plug] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    on: bool = True


class FakeHost:
    """The guests of one host, and what can happen to them. They outlive the hypervisors that look at them."""

    def __init__(self) -> None:
        self.guests: dict[GuestId, FakeGuest] = {}
        self.queues: weakref.WeakSet[asyncio.Queue[GuestEvent]] = weakref.WeakSet()

    def start(self, guest: GuestId, machine: FakeGuest) -> None:
        """The machine runs."""
        self.guests[guest] = machine
        self.tell(GuestEvent(guest, GuestEventKind.STARTED))

    async def stop(self, guest: GuestId) -> None:
        """The machine's process has ended."""
        machine = self.guests.pop(guest)
        machine.on = False
        self.tell(GuestEvent(guest, GuestEventKind.STOPPED))
        async with machine.changed:
            machine.changed.notify_all()

    async def reboot(self, guest: GuestId) -> None:
        """The machine starts anew, without the devices that were to leave."""
        self.tell(GuestEvent(guest, GuestEventKind.REBOOTED))
        await self.let_go(guest)

    async def let_go(self, guest: GuestId) -> None:
        """The guest lets go of all devices that were to leave."""
        machine = self.guests[guest]
        for plug in sorted(machine.leaving):
            del machine.plugs[plug]
            self.tell(GuestEvent(guest, GuestEventKind.UNPLUGGED, plug))
        machine.leaving.clear()
        async with machine.changed:
            machine.changed.notify_all()

    def tell(self, event: GuestEvent) -> None:
        """All who listen hear of it."""
        for queue in self.queues:
            queue.put_nowait(event)


class FakeHypervisor:
    """``isthmus.hypervisor.base.Hypervisor`` on a ``FakeHost``."""

    def __init__(self, layout: Layout, host: FakeHost) -> None:
        self._prefix = f"{layout.prefix}-"
        self.host = host

    async def guests(self) -> Mapping[GuestId, GuestSeen]:
        """As the protocol says."""
        return {
            guest: GuestSeen(
                guest,
                machine.state,
                frozenset(name for name in machine.plugs if name.startswith(self._prefix)),
                frozenset(machine.leaving),
            )
            for guest, machine in self.host.guests.items()
            if not machine.silent
        }

    async def plug(self, guest: GuestId, plug: Plug) -> None:
        """As the protocol says."""
        machine = self.host.guests.get(guest)
        if machine is None:
            raise NotFound("guest", guest)
        await self._gone(machine, plug.id)
        if not machine.on:
            raise NotFound("guest", guest)
        if plug.id not in machine.plugs and len(machine.plugs) >= machine.places:
            raise Refused(f"cannot plug a network card into guest {guest}: no free PCI Express root port")
        machine.plugs[plug.id] = plug

    async def unplug(self, guest: GuestId, plug_id: str) -> None:
        """As the protocol says."""
        machine = self.host.guests.get(guest)
        if machine is None or plug_id not in machine.plugs:
            return
        machine.leaving.add(plug_id)
        if machine.obliging:
            await self.host.let_go(guest)
        await self._gone(machine, plug_id)

    def events(self) -> AsyncIterator[GuestEvent]:
        """As the protocol says."""
        queue: asyncio.Queue[GuestEvent] = asyncio.Queue()
        self.host.queues.add(queue)
        return _drain(queue)

    async def close(self) -> None:
        """As the protocol says."""

    async def _gone(self, machine: FakeGuest, plug_id: str) -> None:
        async with machine.changed:
            await machine.changed.wait_for(lambda: plug_id not in machine.leaving or not machine.on)


async def _drain(queue: asyncio.Queue[GuestEvent]) -> AsyncGenerator[GuestEvent, None]:
    while True:
        yield await queue.get()
