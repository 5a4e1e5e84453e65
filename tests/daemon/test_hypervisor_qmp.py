"""QEMU by QMP, on machines without a guest: they let go of a device when they are reset, as QEMU does for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from qemu.qmp import QMPClient, QMPError

from isthmus.host import netns
from isthmus.host.tap import make_tap, open_tap
from isthmus.hypervisor.base import Hypervisor
from isthmus.hypervisor.qmp import QmpHypervisor
from isthmus.model.errors import HostFailure, KernelRefused, NotFound, Unavailable
from isthmus.model.guest import GuestEvent, GuestEventKind, GuestSeen, GuestState, NicPlug
from isthmus.model.layout import Layout
from isthmus.model.names import GuestId, new_id
from lab.guest import machine
from tests.hypervisor_contract import DEADLINE, HypervisorContract, following, plugs, until

ANSWER = 0.5


class Machine:
    """A QEMU with nothing to boot, and a monitor of the test's own."""

    def __init__(self, process: asyncio.subprocess.Process, control: QMPClient) -> None:
        self.process = process
        self.control = control

    @classmethod
    async def start(cls, qmp: Path, places: int = 2, *extra: str) -> Machine:
        """Returns when its sockets take calls."""
        ours, its = socket.socketpair()
        process = await asyncio.create_subprocess_exec(
            *machine(qmp, memory=16, root_ports=places),
            *("-chardev", f"socket,id=control,fd={its.fileno()}", "-mon", "chardev=control,mode=control"),
            *extra,
            pass_fds=[its.fileno()],
        )
        its.close()
        control = QMPClient()
        await control.connect(ours)
        return cls(process, control)

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self.control.disconnect()


class QemuWorld:
    """A directory of machines, and a namespace of taps."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.directory = layout.run / "qmp"
        self.machines: dict[GuestId, Machine] = {}
        self.hypervisor: Hypervisor = self._open()

    def _open(self) -> QmpHypervisor:
        return QmpHypervisor(self.layout, self.directory, answer=ANSWER, interval=0.05)

    async def start(self, *, places: int = 2, extra: tuple[str, ...] = ()) -> GuestId:
        self.directory.mkdir(exist_ok=True)
        guest = GuestId(new_id())
        self.machines[guest] = await Machine.start(self.path(guest), places, *extra)
        return guest

    def path(self, guest: GuestId) -> Path:
        return self.directory / f"{guest}.qmp"

    async def stop(self, guest: GuestId) -> None:
        await self.machines[guest].kill()

    async def reboot(self, guest: GuestId) -> None:
        await self.machines[guest].control.execute("system_reset")

    async def reopen(self) -> None:
        await self.hypervisor.close()
        self.hypervisor = self._open()

    def card(self, number: int = 0) -> NicPlug:
        card = NicPlug(f"{self.layout.nic()}{number}", f"02:00:00:00:00:0{number}", self.layout.prefix, f"tap{number}")
        netns.create(card.netns)
        make_tap(card.netns, card.tap)
        return card

    async def close(self) -> None:
        await self.hypervisor.close()
        for qemu in self.machines.values():
            await qemu.kill()


@pytest_asyncio.fixture
async def world(layout: Layout) -> AsyncIterator[QemuWorld]:
    world = QemuWorld(layout)
    yield world
    await world.close()
    if netns.exists(layout.prefix):
        netns.remove(layout.prefix)


class TestQmp(HypervisorContract):
    """The suite on QEMU."""


async def test_state_is_qemus(world: QemuWorld) -> None:
    guest = await world.start()
    await world.machines[guest].control.execute("stop")
    assert await world.hypervisor.guests() == {guest: GuestSeen(guest, GuestState.PAUSED)}


async def test_other_devices_and_files_are_not_ours(world: QemuWorld) -> None:
    guest = await world.start(extra=("-device", "virtio-rng-pci,id=other-nic,bus=port1"))
    (world.directory / "notes.txt").write_text("")
    (world.directory / f"{new_id()}.qmp").write_text("a plain file")
    (world.directory / "no-uuid.qmp").symlink_to(world.path(guest))
    (world.directory / f"{guest.upper()}x.qmp").symlink_to(world.path(guest))
    assert await world.hypervisor.guests() == {guest: GuestSeen(guest, GuestState.RUNNING)}


async def test_an_occupied_port_is_left_alone(world: QemuWorld) -> None:
    guest = await world.start(places=2, extra=("-device", "virtio-rng-pci,id=other,bus=port1"))
    await world.hypervisor.plug(guest, world.card())
    reply = await world.machines[guest].control.execute("qom-list", {"path": "/machine/peripheral/port2/port2"})
    assert "link<virtio-net-pci>" in str(reply)


async def test_the_card_has_its_address_and_tap(world: QemuWorld) -> None:
    guest, card = await world.start(), world.card()
    await world.hypervisor.plug(guest, card)
    where = {"path": f"/machine/peripheral/{card.id}", "property": "mac"}
    assert await world.machines[guest].control.execute("qom-get", where) == card.mac
    assert not can_open(card)


async def test_unplug_gives_the_tap_back(world: QemuWorld) -> None:
    guest, card = await world.start(), world.card()
    await world.hypervisor.plug(guest, card)
    unplug = asyncio.create_task(world.hypervisor.unplug(guest, card.id))
    await until(lambda: leaving(world, guest))
    assert not can_open(card)
    await world.reboot(guest)
    await asyncio.wait_for(unplug, DEADLINE)
    assert can_open(card)


async def test_a_guest_that_lets_go_late_gives_the_tap_back_though_nobody_waits(world: QemuWorld) -> None:
    guest, card = await world.start(), world.card()
    await world.hypervisor.plug(guest, card)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(world.hypervisor.unplug(guest, card.id), 0.05)
    await until(lambda: leaving(world, guest))
    await world.reboot(guest)
    await until(lambda: asyncio.to_thread(can_open, card))


async def test_half_made_remains_are_replaced(world: QemuWorld) -> None:
    guest, card = await world.start(), world.card()
    await half_make(world, guest, card)
    await world.hypervisor.plug(guest, card)
    assert await plugs(world, guest) == {card.id}
    assert not can_open(card)


async def test_half_made_remains_are_removed_by_unplug(world: QemuWorld) -> None:
    guest, card = await world.start(), world.card()
    await half_make(world, guest, card)
    await world.hypervisor.unplug(guest, card.id)
    await half_make(world, guest, card)  # the name is free again


async def test_a_plug_that_fails_leaves_nothing(world: QemuWorld) -> None:
    guest, card = await world.start(), world.card()
    wrong = NicPlug(card.id, "not an address", card.netns, card.tap)
    with pytest.raises(HostFailure) as raised:
        await world.hypervisor.plug(guest, wrong)
    assert raised.value.code == "qemu-refused"
    assert await plugs(world, guest) == frozenset()
    assert can_open(card)
    await half_make(world, guest, card)  # no netdev of the name is left


async def test_plug_without_its_tap_is_the_kernels_error(world: QemuWorld) -> None:
    guest = await world.start()
    with pytest.raises(KernelRefused) as raised:
        await world.hypervisor.plug(guest, NicPlug(world.layout.nic(), "02:00:00:00:00:01", "no-such-netns", "tap0"))
    assert raised.value.detail["errno"] == "ENOENT"
    assert await plugs(world, guest) == frozenset()


async def test_a_card_whose_tap_was_made_anew_is_replaced(world: QemuWorld) -> None:
    guest, card = await world.start(), world.card()
    await world.hypervisor.plug(guest, card)
    netns.remove(card.netns)
    assert world.card() == card
    assert can_open(card)
    plug = asyncio.create_task(world.hypervisor.plug(guest, card))
    await until(lambda: leaving(world, guest))
    await world.reboot(guest)
    await asyncio.wait_for(plug, DEADLINE)
    assert await plugs(world, guest) == {card.id}
    assert not can_open(card)


async def test_a_plug_given_up_is_whole_or_absent(world: QemuWorld) -> None:
    guest, card = await world.start(), world.card()
    await world.hypervisor.guests()
    plug = asyncio.create_task(world.hypervisor.plug(guest, card))
    await asyncio.sleep(0)
    plug.cancel()
    with pytest.raises(asyncio.CancelledError):
        await plug
    await world.hypervisor.plug(guest, card)
    assert await plugs(world, guest) == {card.id}
    assert not can_open(card)


async def test_a_stale_socket_is_no_guest(world: QemuWorld) -> None:
    guest = await world.start()
    await world.stop(guest)
    assert world.path(guest).is_socket()
    assert await world.hypervisor.guests() == {}
    await world.hypervisor.unplug(guest, "anything")
    with pytest.raises(NotFound):
        await world.hypervisor.plug(guest, world.card())


async def test_a_guest_started_again_is_found_again(world: QemuWorld) -> None:
    events = world.hypervisor.events()
    guest = await world.start()
    assert (await following(events)).kind == GuestEventKind.STARTED
    await world.stop(guest)
    assert (await following(events)).kind == GuestEventKind.STOPPED
    world.machines[guest] = await Machine.start(world.path(guest))
    assert (await following(events)).kind == GuestEventKind.STARTED
    assert (await world.hypervisor.guests()).keys() == {guest}


async def test_one_that_never_greets_delays_nobody_twice(world: QemuWorld) -> None:
    guest = await world.start()
    with listening(world.directory / f"{new_id()}.qmp"):
        assert (await world.hypervisor.guests()).keys() == {guest}
        async with asyncio.timeout(ANSWER / 2):
            assert (await world.hypervisor.guests()).keys() == {guest}


async def test_one_that_never_greets_is_neither_there_nor_gone(world: QemuWorld) -> None:
    world.directory.mkdir()
    guest = GuestId(new_id())
    with listening(world.path(guest)):
        with pytest.raises(Unavailable, match="does not answer"):
            await world.hypervisor.plug(guest, world.card())
        with pytest.raises(Unavailable, match="does not answer"):
            await world.hypervisor.unplug(guest, "anything")


async def test_a_frozen_qemu_is_left_out_until_it_answers(world: QemuWorld) -> None:
    frozen, other = await world.start(), await world.start()
    assert (await world.hypervisor.guests()).keys() == {frozen, other}
    world.machines[frozen].process.send_signal(signal.SIGSTOP)
    assert (await world.hypervisor.guests()).keys() == {other}
    async with asyncio.timeout(ANSWER / 2):
        assert (await world.hypervisor.guests()).keys() == {other}
    world.machines[frozen].process.send_signal(signal.SIGCONT)
    await until(lambda: sees(world, {frozen, other}))


GREETING = b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}'


@pytest.mark.parametrize(
    "answer",
    [
        b'{"id": %s}',
        b'{"id": %s, "error": {}}',
        b'{"id": %s, "error": {"class": "CommandNotFound", "desc": "no"}}',
        b'{"id": %s, "return": [{"name": 1}]}',
        b'{"id": %s, "return": "\xff"}',
        b"[" * 200_000,
        b"nonsense",
    ],
)
async def test_one_that_talks_nonsense_hides_no_other(world: QemuWorld, answer: bytes) -> None:
    good, odd = await world.start(), GuestId(new_id())

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING + b"\n")
        while line := await reader.readline():
            request = json.loads(line)
            known = request["execute"] == "qmp_capabilities"
            said = b'{"id": %s, "return": {}}' if known else answer
            writer.write((said % json.dumps(request["id"]).encode() if b"%s" in said else said) + b"\n")
        writer.close()

    async with await asyncio.start_unix_server(talk, world.path(odd)):
        await until(lambda: sees(world, {good}))
        assert (await world.hypervisor.guests()).keys() == {good}
        await world.hypervisor.close()


async def test_a_monitor_that_becomes_free_is_taken(world: QemuWorld) -> None:
    guest = await world.start()
    holder = QMPClient()
    await holder.connect(str(world.path(guest)))
    assert await world.hypervisor.guests() == {}
    await holder.disconnect()
    await until(lambda: sees(world, {guest}))


async def test_a_directory_may_come_later(world: QemuWorld) -> None:
    events = world.hypervisor.events()
    assert await world.hypervisor.guests() == {}
    guest = await world.start()
    assert await following(events) == GuestEvent(guest, GuestEventKind.STARTED)


async def test_a_guest_that_comes_after_a_long_rest_is_found(world: QemuWorld) -> None:
    events = world.hypervisor.events()
    first = await world.start()
    assert await following(events) == GuestEvent(first, GuestEventKind.STARTED)
    await asyncio.sleep(0.5)  # ten looks at an unchanged directory
    second = await world.start()
    assert await following(events) == GuestEvent(second, GuestEventKind.STARTED)


async def test_a_directory_that_is_none_is_an_error(layout: Layout) -> None:
    file = layout.run / "file"
    file.write_text("")
    hypervisor = QmpHypervisor(layout, file)
    with pytest.raises(KernelRefused) as raised:
        await hypervisor.guests()
    assert raised.value.detail["errno"] == "ENOTDIR"
    await hypervisor.close()


async def test_closing_leaves_nothing_open(world: QemuWorld) -> None:
    guest = await world.start()
    before = descriptors()
    hypervisor = QmpHypervisor(world.layout, world.directory)
    await hypervisor.guests()
    await hypervisor.plug(guest, world.card())
    assert descriptors() > before
    await hypervisor.close()
    assert descriptors() == before


async def half_make(world: QemuWorld, guest: GuestId, card: NicPlug) -> None:
    """A back end without a device, as a crash in the middle leaves it."""
    await world.machines[guest].control.execute("netdev_add", {"type": "hubport", "id": card.id, "hubid": 1})


def can_open(card: NicPlug) -> bool:
    """Whether nobody holds the tap."""
    try:
        os.close(open_tap(card.netns, card.tap))
    except KernelRefused as error:
        if error.detail["errno"] != "EBUSY":
            raise
        return False
    return True


@contextlib.contextmanager
def listening(path: Path) -> Iterator[None]:
    """Somebody takes calls there and says nothing."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield


async def leaving(world: QemuWorld, guest: GuestId) -> bool:
    """Whether something of ours was asked to leave."""
    return bool((await world.hypervisor.guests())[guest].leaving)


async def sees(world: QemuWorld, guests: set[GuestId]) -> bool:
    """Whether these are all the guests there are."""
    return (await world.hypervisor.guests()).keys() == guests


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208
