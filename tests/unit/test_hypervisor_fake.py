"""The fake keeps what the real one keeps."""

from __future__ import annotations

import pytest

from isthmus.hypervisor.base import Hypervisor
from isthmus.model.guest import NicPlug
from isthmus.model.layout import Layout
from isthmus.model.names import GuestId, new_id
from tests.fakes.hypervisor import FakeGuest, FakeHost, FakeHypervisor
from tests.hypervisor_contract import HypervisorContract


class FakeWorld:
    """A host in memory."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._host = FakeHost()
        self.hypervisor: Hypervisor = FakeHypervisor(layout, self._host)

    async def start(self, *, places: int = 2) -> GuestId:
        guest = GuestId(new_id())
        self._host.start(guest, FakeGuest(places))
        return guest

    async def stop(self, guest: GuestId) -> None:
        await self._host.stop(guest)

    async def reboot(self, guest: GuestId) -> None:
        await self._host.reboot(guest)

    async def reopen(self) -> None:
        self.hypervisor = FakeHypervisor(self._layout, self._host)

    def card(self, number: int = 0) -> NicPlug:
        return NicPlug(f"{self._layout.nic()}{number}", f"02:00:00:00:00:0{number}", "netns", f"tap{number}")


@pytest.fixture
def world(layout: Layout) -> FakeWorld:
    return FakeWorld(layout)


class TestFake(HypervisorContract):
    """The suite on the fake."""


async def test_an_obliging_guest_lets_go_at_once(layout: Layout) -> None:
    host = FakeHost()
    hypervisor, guest = FakeHypervisor(layout, host), GuestId(new_id())
    host.start(guest, FakeGuest(obliging=True))
    await hypervisor.plug(guest, NicPlug(layout.nic(), "02:00:00:00:00:00", "netns", "tap0"))
    await hypervisor.unplug(guest, layout.nic())
    assert host.guests[guest].plugs == {}


async def test_a_silent_guest_is_left_out(layout: Layout) -> None:
    host = FakeHost()
    host.start(GuestId(new_id()), FakeGuest(silent=True))
    assert await FakeHypervisor(layout, host).guests() == {}
