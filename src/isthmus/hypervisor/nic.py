"""Network cards in a running QEMU: found, plugged and unplugged by QMP.

A card is a device and its back end (netdev) of the same id. Where it goes is read from QEMU's object model
(``qom-list``), which holds whether or not the guest's firmware has run; ``query-pci`` knows no bus numbers before.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from isthmus.host.tap import open_tap
from isthmus.hypervisor.session import DeviceMissing, Session
from isthmus.model.errors import HostFailure, KernelRefused, Refused
from isthmus.model.guest import NicPlug

PERIPHERAL = "/machine/peripheral"  # devices that have an id
ROOT_PORT = "child<pcie-root-port>"


class Property(msgspec.Struct, frozen=True):
    """An entry of ``qom-list``: a property, a child object, a link."""

    name: str
    type: str


async def devices(session: Session) -> Mapping[str, str]:
    """Ids of the machine's devices, with their QOM types."""
    return {entry.name: entry.type for entry in await _list(session, PERIPHERAL) if entry.type.startswith("child<")}


async def plug(session: Session, card: NicPlug) -> None:
    """The guest has the card, which it did not have before. On failure nothing of it is left in QEMU."""
    present = await devices(session)
    bus = await _free_port(session, present)
    fd = await asyncio.to_thread(open_tap, card.netns, card.tap)
    try:
        await remove_backend(session, card.id)
        await session.lend(card.id, fd)
    finally:
        os.close(fd)
    try:
        await session.run("netdev_add", type="tap", id=card.id, fd=card.id, vhost=False)
    except HostFailure:
        with suppress(HostFailure):  # it took the descriptor with it
            await session.run("closefd", fdname=card.id)
        raise
    try:
        # no boot ROM: the card serves a running system, and loading one costs time
        await session.run(
            "device_add", driver="virtio-net-pci", id=card.id, netdev=card.id, mac=card.mac, bus=bus, romfile=""
        )
    except HostFailure:
        await remove_backend(session, card.id)
        raise


async def ask_to_leave(session: Session, card_id: str) -> bool:
    """Whether the card is there; the guest has then been asked to let it go. Raises ``Refused`` if it never can."""
    try:
        await session.run("device_del", id=card_id)
    except DeviceMissing:
        return False
    except HostFailure:
        # QEMU gives no class of its own to "asked already", so look at the device instead
        try:
            where = {"path": f"{PERIPHERAL}/{card_id}", "property": "hotpluggable"}
            able = await session.execute("qom-get", where, bool)
        except DeviceMissing:
            return False
        if not able:
            raise Refused(f"cannot unplug {card_id} from guest {session.guest}: QEMU holds it for good") from None
    return True


async def remove_backend(session: Session, card_id: str) -> None:
    """The netdev is gone, and with it QEMU's hold on the tap. Only for a card that is no device any more."""
    with suppress(DeviceMissing):
        await session.run("netdev_del", id=card_id)


async def is_live(card: NicPlug) -> bool:
    """Whether somebody holds the tap, who is the guest's QEMU. One made anew after the card was plugged has nobody."""
    try:
        os.close(await asyncio.to_thread(open_tap, card.netns, card.tap))
    except KernelRefused as error:
        if error.errno == errno.EBUSY:
            return True
        raise
    return False


async def _free_port(session: Session, present: Mapping[str, str]) -> str:
    """The bus of a PCI Express root port with nothing on it. Raises ``Refused`` if there is none."""
    for port in sorted(name for name, kind in present.items() if kind == ROOT_PORT):
        # a port's bus is its child, and bears the same name
        on_bus = await _list(session, f"{PERIPHERAL}/{port}/{port}")
        if not any(entry.type.startswith("link<") and entry.name.startswith("child[") for entry in on_bus):
            return port
    raise Refused(
        f"cannot plug a network card into guest {session.guest}: no free PCI Express root port: "
        "start QEMU with -M q35 and -device pcie-root-port,id=isthmus1,chassis=101,slot=101",
        code="no-free-port",
        detail={"guest": session.guest},
    )


async def _list(session: Session, path: str) -> list[Property]:
    return await session.execute("qom-list", {"path": path}, list[Property])
