"""What every hypervisor keeps, fake or real. A test module subclasses ``HypervisorContract`` and gives a ``world``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import pytest

from isthmus.hypervisor.base import Hypervisor
from isthmus.model.errors import NotFound, Refused
from isthmus.model.guest import GuestEvent, GuestEventKind, GuestSeen, GuestState, NicPlug
from isthmus.model.names import GuestId, new_id

DEADLINE = 20.0


class HypervisorWorld(Protocol):
    """A host to try a hypervisor on. Its guests let go of a device only when they reboot."""

    hypervisor: Hypervisor

    async def start(self, *, places: int = 2) -> GuestId:
        """A guest runs, with room for so many devices."""
        ...

    async def stop(self, guest: GuestId) -> None:
        """The guest's process is killed."""
        ...

    async def reboot(self, guest: GuestId) -> None:
        """The guest is reset."""
        ...

    async def reopen(self) -> None:
        """``hypervisor`` is another one, which knows nothing of what the first did."""
        ...

    def card(self, number: int = 0) -> NicPlug:
        """A card whose tap is there; each number is another one."""
        ...


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Return once it holds."""
    async with asyncio.timeout(DEADLINE):
        while not await holds():  # noqa: ASYNC110 - it is about another process
            await asyncio.sleep(0.01)


class HypervisorContract:
    """The suite."""

    async def test_no_guests(self, world: HypervisorWorld) -> None:
        assert await world.hypervisor.guests() == {}

    async def test_guest_is_seen(self, world: HypervisorWorld) -> None:
        guest = await world.start()
        assert await world.hypervisor.guests() == {guest: GuestSeen(guest, GuestState.RUNNING)}

    async def test_stopped_guest_is_not_seen(self, world: HypervisorWorld) -> None:
        guest, other = await world.start(), await world.start()
        assert (await world.hypervisor.guests()).keys() == {guest, other}
        await world.stop(guest)
        assert (await world.hypervisor.guests()).keys() == {other}

    async def test_plug_is_seen_and_idempotent(self, world: HypervisorWorld) -> None:
        guest, card = await world.start(places=1), world.card()
        await world.hypervisor.plug(guest, card)
        await world.hypervisor.plug(guest, card)
        assert await plugs(world, guest) == {card.id}

    async def test_two_plugs_side_by_side(self, world: HypervisorWorld) -> None:
        guest = await world.start(places=2)
        await asyncio.gather(*(world.hypervisor.plug(guest, world.card(n)) for n in range(2)))
        assert await plugs(world, guest) == {world.card(0).id, world.card(1).id}

    async def test_the_same_plug_twice_at_once(self, world: HypervisorWorld) -> None:
        guest, card = await world.start(places=2), world.card()
        await asyncio.gather(*(world.hypervisor.plug(guest, card) for _ in range(2)))
        assert await plugs(world, guest) == {card.id}

    async def test_plug_without_guest(self, world: HypervisorWorld) -> None:
        guest = GuestId(new_id())
        with pytest.raises(NotFound, match=guest):
            await world.hypervisor.plug(guest, world.card())

    async def test_plug_without_place_says_the_mend(self, world: HypervisorWorld) -> None:
        guest = await world.start(places=0)
        with pytest.raises(Refused, match="root port"):
            await world.hypervisor.plug(guest, world.card())
        assert await plugs(world, guest) == frozenset()

    async def test_unplug_of_what_is_not_there(self, world: HypervisorWorld) -> None:
        guest = await world.start()
        await world.hypervisor.unplug(guest, world.card().id)
        await world.hypervisor.unplug(GuestId(new_id()), world.card().id)
        assert await plugs(world, guest) == frozenset()

    async def test_unplug_waits_until_the_guest_lets_go(self, world: HypervisorWorld) -> None:
        guest, card = await world.start(places=1), world.card()
        await world.hypervisor.plug(guest, card)
        unplug = asyncio.create_task(world.hypervisor.unplug(guest, card.id))
        await until(lambda: is_leaving(world, guest, card.id))
        assert not unplug.done()
        assert await plugs(world, guest) == {card.id}
        await world.reboot(guest)
        await asyncio.wait_for(unplug, DEADLINE)
        assert (await world.hypervisor.guests())[guest] == GuestSeen(guest, GuestState.RUNNING)
        await world.hypervisor.plug(guest, card)  # nothing of the first is in the way
        assert await plugs(world, guest) == {card.id}

    async def test_unplug_given_up_is_joined_later(self, world: HypervisorWorld) -> None:
        guest, card = await world.start(), world.card()
        await world.hypervisor.plug(guest, card)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(world.hypervisor.unplug(guest, card.id), 0.05)
        await until(lambda: is_leaving(world, guest, card.id))
        unplug = asyncio.create_task(world.hypervisor.unplug(guest, card.id))
        await asyncio.sleep(0.05)
        assert not unplug.done()
        await world.reboot(guest)
        await asyncio.wait_for(unplug, DEADLINE)
        assert await plugs(world, guest) == frozenset()

    async def test_unplug_after_a_restart(self, world: HypervisorWorld) -> None:
        guest, card = await world.start(), world.card()
        await world.hypervisor.plug(guest, card)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(world.hypervisor.unplug(guest, card.id), 0.05)
        await until(lambda: is_leaving(world, guest, card.id))
        await world.reopen()
        assert await plugs(world, guest) == {card.id}
        unplug = asyncio.create_task(world.hypervisor.unplug(guest, card.id))
        await until(lambda: is_leaving(world, guest, card.id))
        await world.reboot(guest)
        await asyncio.wait_for(unplug, DEADLINE)
        assert await plugs(world, guest) == frozenset()

    async def test_unplug_ends_with_its_guest(self, world: HypervisorWorld) -> None:
        guest, card = await world.start(), world.card()
        await world.hypervisor.plug(guest, card)
        unplug = asyncio.create_task(world.hypervisor.unplug(guest, card.id))
        await until(lambda: is_leaving(world, guest, card.id))
        await world.stop(guest)
        await asyncio.wait_for(unplug, DEADLINE)
        assert await world.hypervisor.guests() == {}

    async def test_plug_of_what_is_leaving_waits_and_plugs(self, world: HypervisorWorld) -> None:
        guest, card = await world.start(), world.card()
        await world.hypervisor.plug(guest, card)
        unplug = asyncio.create_task(world.hypervisor.unplug(guest, card.id))
        await until(lambda: is_leaving(world, guest, card.id))
        plug = asyncio.create_task(world.hypervisor.plug(guest, card))
        await asyncio.sleep(0.05)
        assert not plug.done()
        await world.reboot(guest)
        await asyncio.wait_for(asyncio.gather(unplug, plug), DEADLINE)
        assert (await world.hypervisor.guests())[guest] == GuestSeen(guest, GuestState.RUNNING, frozenset({card.id}))

    async def test_cards_outlive_reboots_and_hypervisors(self, world: HypervisorWorld) -> None:
        guest, card = await world.start(), world.card()
        await world.hypervisor.plug(guest, card)
        await world.reboot(guest)
        assert await plugs(world, guest) == {card.id}
        await world.reopen()
        assert await plugs(world, guest) == {card.id}
        await world.hypervisor.plug(guest, card)
        assert await plugs(world, guest) == {card.id}

    async def test_events(self, world: HypervisorWorld) -> None:
        events = world.hypervisor.events()
        guest, card = await world.start(), world.card()
        assert await following(events) == GuestEvent(guest, GuestEventKind.STARTED)
        await world.hypervisor.plug(guest, card)
        unplug = asyncio.create_task(world.hypervisor.unplug(guest, card.id))
        await until(lambda: is_leaving(world, guest, card.id))
        await world.reboot(guest)
        await asyncio.wait_for(unplug, DEADLINE)
        assert await following(events) == GuestEvent(guest, GuestEventKind.REBOOTED)
        assert await following(events) == GuestEvent(guest, GuestEventKind.UNPLUGGED, card.id)
        await world.stop(guest)
        last = await following(events)
        while last.kind == GuestEventKind.REBOOTED:  # some firmware resets the machine once more
            last = await following(events)
        assert last == GuestEvent(guest, GuestEventKind.STOPPED)

    async def test_everybody_hears_all(self, world: HypervisorWorld) -> None:
        listeners = [world.hypervisor.events() for _ in range(2)]
        guest = await world.start()
        for events in listeners:
            assert await following(events) == GuestEvent(guest, GuestEventKind.STARTED)


async def plugs(world: HypervisorWorld, guest: GuestId) -> frozenset[str]:
    """What the guest has of ours."""
    return (await world.hypervisor.guests())[guest].plugs


async def is_leaving(world: HypervisorWorld, guest: GuestId, card: str) -> bool:
    """Whether the guest was asked for it and has it still."""
    return (await world.hypervisor.guests())[guest].leaving == {card}


async def following(events: object) -> GuestEvent:
    """The next one."""
    return await asyncio.wait_for(anext(events), DEADLINE)  # type: ignore[call-overload]
