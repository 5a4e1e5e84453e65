"""A booted guest is given a network card, uses it, and lets it go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from isthmus.host import netns
from isthmus.host.command import Command
from isthmus.host.tap import make_tap
from isthmus.hypervisor.qmp import QmpHypervisor
from isthmus.model.guest import GuestEvent, GuestEventKind, GuestState, NicPlug
from isthmus.model.layout import Layout
from isthmus.model.names import GuestId
from lab.guest import Guest, GuestGone
from tests.hypervisor_contract import following

Boot = Callable[..., Awaitable[Guest]]

HOST4, HOST6 = "169.254.77.2", "fe80::1"


@pytest.fixture
def card(layout: Layout) -> Iterator[NicPlug]:
    """A wire's host end, with the addresses that a gateway would have."""
    namespace = layout.prefix
    netns.create(namespace)
    make_tap(namespace, "tap0")
    yield NicPlug(layout.nic(), "02:12:34:56:78:9a", namespace, "tap0")
    netns.remove(namespace)


@pytest_asyncio.fixture(loop_scope="session")
async def wire(card: NicPlug) -> NicPlug:
    """The card, its host end being up."""
    for argv in (
        ("address", "add", f"{HOST4}/31", "dev", card.tap),
        ("address", "add", f"{HOST6}/64", "dev", card.tap, "nodad"),
        ("link", "set", card.tap, "up"),
    ):
        await Command.of("ip", "-n", card.netns, *argv).run()
    return card


@pytest_asyncio.fixture(loop_scope="session")
async def hypervisor(layout: Layout, qmp_dir: Path) -> AsyncIterator[QmpHypervisor]:
    hypervisor = QmpHypervisor(layout, qmp_dir)
    yield hypervisor
    await hypervisor.close()


async def test_plug_ping_unplug(guest: Guest, hypervisor: QmpHypervisor, wire: NicPlug) -> None:
    this = GuestId(guest.id)
    assert (await hypervisor.guests())[this].state is GuestState.RUNNING
    for _ in range(2):
        await hypervisor.plug(this, wire)
        await reaches_host(guest)
        await reaches_host(guest, f"{HOST6}%eth0")
        await asyncio.wait_for(hypervisor.unplug(this, wire.id), 20)
        assert (await hypervisor.guests())[this].plugs == frozenset()
        assert await guest.run("ls /sys/class/net") == "lo\n"


async def test_the_card_outlives_a_reboot(boot: Boot, hypervisor: QmpHypervisor, wire: NicPlug) -> None:
    guest = await boot()
    this = GuestId(guest.id)
    await hypervisor.plug(this, wire)
    await reaches_host(guest)
    events = hypervisor.events()
    await guest.reset()
    assert await following(events) == GuestEvent(this, GuestEventKind.REBOOTED)
    await reaches_host(guest)
    assert (await hypervisor.guests())[this].plugs == {wire.id}


async def test_an_unplug_asked_for_while_the_guest_boots(boot: Boot, hypervisor: QmpHypervisor, wire: NicPlug) -> None:
    guest = await boot()
    this = GuestId(guest.id)
    await hypervisor.plug(this, wire)
    await reaches_host(guest)
    reset = asyncio.create_task(guest.reset())
    assert (await following(hypervisor.events())).kind is GuestEventKind.REBOOTED
    await asyncio.wait_for(hypervisor.unplug(this, wire.id), 30)
    await reset
    assert await guest.run("ls /sys/class/net") == "lo\n"


async def test_a_killed_guest_is_noticed_at_once(boot: Boot, hypervisor: QmpHypervisor, wire: NicPlug) -> None:
    guest = await boot()
    this = GuestId(guest.id)
    await hypervisor.plug(this, wire)
    events = hypervisor.events()
    await guest.kill()
    assert await following(events) == GuestEvent(this, GuestEventKind.STOPPED)
    assert this not in await hypervisor.guests()


async def test_a_guest_that_switches_itself_off(boot: Boot, hypervisor: QmpHypervisor) -> None:
    guest = await boot(extra=("-no-shutdown",))
    this = GuestId(guest.id)
    assert (await hypervisor.guests())[this].state is GuestState.RUNNING
    events = hypervisor.events()
    off = guest.start("poweroff -f")
    assert await following(events) == GuestEvent(this, GuestEventKind.STOPPED)
    assert (await hypervisor.guests())[this].state is GuestState.STOPPED
    await guest.kill()
    with pytest.raises(GuestGone):
        await off


async def reaches_host(guest: Guest, address: str = HOST4) -> None:
    """Return once a ping is answered."""
    await guest.run(f"until ping -c 1 -W 1 {address}; do usleep 10000; done >/dev/null 2>&1", deadline=20)
