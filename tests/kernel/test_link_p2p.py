"""The link on the real kernel: made, cut, mended, crossed by a guest's frames, removed."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from isthmus.host import netlink, netns, nft, tap
from isthmus.host.sockets import socket_in
from isthmus.link.base import Link
from isthmus.link.p2p import PointToPoint
from isthmus.model.attachment import LinkSeen
from isthmus.model.errors import CommandFailed, Invalid, KernelRefused
from isthmus.model.guest import NicPlug
from isthmus.model.layout import Layout, mac_of
from isthmus.model.names import GuestId, new_id

PORT = 2049
GUEST_MAC = bytes.fromhex("020000000001")
FOUR, PEER, SIX, PEER_SIX = (
    IPv4Address("169.254.77.2"),
    IPv4Address("169.254.77.3"),
    IPv6Address("fe80::1"),
    IPv6Address("fe80::2"),
)


@pytest.fixture
def guest() -> GuestId:
    return GuestId(new_id())


@pytest.fixture
async def link(layout: Layout, guest: GuestId) -> AsyncIterator[PointToPoint]:
    one = PointToPoint(layout)
    yield one
    for each in await one.observe():
        await one.remove(each)


def test_it_is_a_link(layout: Layout) -> None:
    assert isinstance(PointToPoint(layout), Link)


async def test_made_whole_made_again_and_removed(link: PointToPoint, layout: Layout, guest: GuestId) -> None:
    await link.make(guest)
    assert await link.observe() == {guest: LinkSeen(guest)}
    await link.make(guest)
    assert await link.observe() == {guest: LinkSeen(guest)}
    await link.remove(guest)
    await link.remove(guest)
    assert await link.observe() == {}
    assert layout.netns(guest) not in netns.names()


async def test_the_plug_names_what_is_there(link: PointToPoint, layout: Layout, guest: GuestId) -> None:
    await link.make(guest)
    plug = link.plug(guest)
    assert plug == NicPlug(layout.nic(), mac_of(guest), layout.netns(guest), layout.tap(guest))
    fd = tap.open_tap(plug.netns, plug.tap)
    assert os.get_inheritable(fd) is False
    with pytest.raises(KernelRefused) as caught:
        tap.open_tap(plug.netns, plug.tap)
    assert caught.value.errno == errno.EBUSY
    os.close(fd)


async def test_the_namespace_holds_loopback_and_the_tap_only(
    link: PointToPoint, layout: Layout, guest: GuestId
) -> None:
    await link.make(guest)
    name, card = layout.netns(guest), layout.tap(guest)

    def look() -> tuple[list[str], set[str], list[str]]:
        with netlink.open_route() as route:
            found = netlink.find_link(route, card)
            assert found is not None
            own = {str(address) for address in netlink.addresses(route, found.index)}
        settings = ["ipv4/ip_forward", "ipv6/conf/all/forwarding", f"ipv6/conf/{card}/accept_ra"]
        return [n for _, n in socket.if_nameindex()], own, [_sysctl(path) for path in settings]

    names, own, settings = netns.inside(name, look)
    assert names == ["lo", card]
    assert own == {f"{FOUR}/31", f"{SIX}/64"}
    assert settings == ["0", "0", "0"]


def _sysctl(path: str) -> str:
    with open(f"/proc/sys/net/{path}") as file:  # noqa: PTH123
        return file.read().strip()


def _only_file(link: PointToPoint, name: str, card: str) -> None:
    netns.NETNS.mkdir(exist_ok=True)
    (netns.NETNS / name).touch()


def _only_namespace(link: PointToPoint, name: str, card: str) -> None:
    netns.create(name)


def _tap_too(link: PointToPoint, name: str, card: str) -> None:
    netns.create(name)
    tap.make_tap(name, card)


def _down(link: PointToPoint, name: str, card: str) -> None:
    subprocess.run(["ip", "-n", name, "link", "set", card, "down"], check=True)


def _one_address_less(link: PointToPoint, name: str, card: str) -> None:
    subprocess.run(["ip", "-n", name, "addr", "del", "fe80::1/64", "dev", card], check=True)


def _tap_deleted(link: PointToPoint, name: str, card: str) -> None:
    subprocess.run(["ip", "-n", name, "link", "del", card], check=True)


def _flushed(link: PointToPoint, name: str, card: str) -> None:
    _nft(name, "flush table inet isthmus")


def _table_deleted(link: PointToPoint, name: str, card: str) -> None:
    _nft(name, "delete table inet isthmus")


def _rule_added(link: PointToPoint, name: str, card: str) -> None:
    _nft(name, "insert rule inet isthmus input accept")


def _nft(name: str, command: str) -> None:
    subprocess.run(["nsenter", f"--net=/run/netns/{name}", "nft", command], check=True)


@pytest.mark.parametrize(
    ("cut", "missing"),
    [
        (_only_file, ("namespace", "tap", "address", "filter")),
        (_only_namespace, ("tap", "address", "filter")),
        (_tap_too, ("address", "filter")),
    ],
)
async def test_one_that_was_cut_while_it_was_made_is_completed(
    link: PointToPoint,
    layout: Layout,
    guest: GuestId,
    cut: Callable[[PointToPoint, str, str], None],
    missing: tuple[str, ...],
) -> None:
    cut(link, layout.netns(guest), layout.tap(guest))
    assert await link.observe() == {guest: LinkSeen(guest, missing)}
    await link.make(guest)
    assert await link.observe() == {guest: LinkSeen(guest)}


@pytest.mark.parametrize(
    ("harm", "missing"),
    [
        (_down, ("address",)),
        (_one_address_less, ("address",)),
        (_tap_deleted, ("tap", "address")),
        (_flushed, ("filter",)),
        (_table_deleted, ("filter",)),
        (_rule_added, ("filter",)),
    ],
)
async def test_one_that_somebody_harmed_is_mended(
    link: PointToPoint,
    layout: Layout,
    guest: GuestId,
    harm: Callable[[PointToPoint, str, str], None],
    missing: tuple[str, ...],
) -> None:
    await link.make(guest)
    harm(link, layout.netns(guest), layout.tap(guest))
    assert await link.observe() == {guest: LinkSeen(guest, missing)}
    await link.make(guest)
    assert await link.observe() == {guest: LinkSeen(guest)}


@pytest.mark.parametrize("cut", [_only_file, _only_namespace, _tap_too])
async def test_one_that_is_half_made_is_removed(
    link: PointToPoint, layout: Layout, guest: GuestId, cut: Callable[[PointToPoint, str, str], None]
) -> None:
    cut(link, layout.netns(guest), layout.tap(guest))
    await link.remove(guest)
    assert await link.observe() == {}


async def test_mending_disturbs_no_guest_that_is_plugged_in(link: PointToPoint, layout: Layout, guest: GuestId) -> None:
    await link.make(guest)
    with Wire(layout, guest) as wire:
        assert wire.answers_arp()
        await link.make(guest)
        assert wire.answers_arp()


async def test_a_new_port_replaces_the_filter(link: PointToPoint, layout: Layout, guest: GuestId) -> None:
    await link.make(guest)
    other = PointToPoint(layout, port=445)
    assert await other.observe() == {guest: LinkSeen(guest, ("filter",))}
    await other.make(guest)
    assert await other.observe() == {guest: LinkSeen(guest)}


async def test_removed_although_a_hypervisor_holds_the_tap(link: PointToPoint, layout: Layout, guest: GuestId) -> None:
    await link.make(guest)
    fd = tap.open_tap(layout.netns(guest), layout.tap(guest))
    await link.remove(guest)
    assert await link.observe() == {}
    with pytest.raises(OSError, match="File descriptor in bad state"):
        os.read(fd, 100)
    await link.make(guest)
    assert await link.observe() == {guest: LinkSeen(guest)}
    os.close(fd)


async def test_links_of_others_are_neither_seen_nor_touched(layout: Layout, link: PointToPoint, guest: GuestId) -> None:
    await link.make(guest)
    assert await PointToPoint(Layout(prefix=layout.prefix + "x", run=layout.run)).observe() == {}
    foreign = f"{layout.prefix}-not-a-guest"
    netns.create(foreign)
    assert set(await link.observe()) == {guest}
    netns.remove(foreign)


@pytest.mark.parametrize("network", ["169.254.77.3/31", "169.254.77.2/30", "fe80::/127", "nonsense", "10.0.0.0"])
def test_a_network_that_is_no_pair_is_refused(layout: Layout, network: str) -> None:
    with pytest.raises(Invalid) as caught:
        PointToPoint(layout, network=network)
    assert caught.value.field == "network"


async def test_a_filter_that_nft_refuses_changes_nothing(link: PointToPoint, layout: Layout, guest: GuestId) -> None:
    await link.make(guest)
    with pytest.raises(CommandFailed) as caught:
        await nft.apply_filter(layout.netns(guest), nft.Filter((nft.Chain("input", ("no such words",)),)))
    assert "syntax error" in caught.value.stderr
    assert await link.observe() == {guest: LinkSeen(guest)}


# From here on the test is the guest: it writes frames to the tap as a card does.


Frame = tuple[int, bytes]  # its type, and what follows


class Wire:
    """The guest's end of the link: Ethernet frames, each after a virtio-net header of 10 zero bytes.

    That nothing answers is not a matter of patience: each question is followed by a ping, and the gateway's kernel
    answers in order.
    """

    def __init__(self, layout: Layout, guest: GuestId) -> None:
        self._fd = tap.open_tap(layout.netns(guest), layout.tap(guest))
        self._fences = 0
        self.gateway_mac = b""
        end = time.monotonic() + 10
        while not self.gateway_mac:  # the kernel wakes a tap's queue some time after it was opened
            assert time.monotonic() < end, "the gateway answers no ARP request"
            self.answers_arp()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def send(self, kind: int, payload: bytes, to: bytes = b"") -> None:
        os.write(self._fd, bytes(10) + (to or self.gateway_mac) + GUEST_MAC + struct.pack("!H", kind) + payload)

    def hear(self, wanted: Callable[[Frame], bool]) -> bytes | None:
        """What follows in the first frame that is wanted; None if there is none before the answer to a ping."""
        self._fences += 1
        if self.gateway_mac:
            self.send(0x0800, _ping(self._fences))
        while select.select([self._fd], [], [], 10 if self.gateway_mac else 0.1)[0]:
            data = os.read(self._fd, 65536)[10:]
            frame = struct.unpack_from("!H", data, 12)[0], data[14:]
            if wanted(frame):
                self.gateway_mac = data[6:12]
                return frame[1]
            if _is_pong(frame, self._fences):
                return None
        assert not self.gateway_mac, "the gateway does not even answer a ping"
        return None

    def answers_arp(self, about: IPv4Address = FOUR, *, sender: IPv4Address = PEER) -> bool:
        request = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + GUEST_MAC + sender.packed + bytes(6) + about.packed
        self.send(0x0806, request, b"\xff" * 6)
        return self.hear(lambda frame: frame[0] == 0x0806 and frame[1][6:8] == b"\x00\x02") is not None

    def tcp(self, port: int, *, source: IPv4Address = PEER, target: IPv4Address = FOUR) -> int | None:
        """The flags of what answers a SYN; None if nothing does."""
        segment = _syn(source.packed + target.packed, port)
        self.send(0x0800, _four(6, source, target, segment))
        answer = self.hear(lambda frame: frame[0] == 0x0800 and frame[1][9] == 6)
        return None if answer is None else answer[20 + 13]

    def tcp_six(self, port: int, *, source: IPv6Address = PEER_SIX) -> int | None:
        """The same over IPv6."""
        segment = _syn(source.packed + SIX.packed, port, six=True)
        self.send(0x86DD, struct.pack("!IHBB", 6 << 28, len(segment), 6, 64) + source.packed + SIX.packed + segment)
        answer = self.hear(lambda frame: frame[0] == 0x86DD and frame[1][6] == 6)
        return None if answer is None else answer[40 + 13]

    def finds_neighbour(self, source: IPv6Address = PEER_SIX) -> bool:
        """Neighbour discovery of fe80::1 (RFC 4861), which also teaches the gateway our address."""
        body = struct.pack("!BBHI", 135, 0, 0, 0) + SIX.packed + b"\x01\x01" + GUEST_MAC
        return self._icmp_six(body, 136, source)

    def finds_router(self) -> bool:
        return self._icmp_six(struct.pack("!BBHI", 133, 0, 0, 0), 134)

    def _icmp_six(self, body: bytes, answer: int, source: IPv6Address = PEER_SIX) -> bool:
        pseudo = source.packed + SIX.packed + struct.pack("!II", len(body), 58)
        body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
        header = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + source.packed + SIX.packed
        self.send(0x86DD, header + body)
        return self.hear(lambda f: f[0] == 0x86DD and f[1][6] == 58 and f[1][40] == answer) is not None


def _four(protocol: int, source: IPv4Address, target: IPv4Address, body: bytes) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0) + source.packed + target.packed
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + body


def _ping(number: int) -> bytes:
    body = struct.pack("!BBHHH", 8, 0, 0, 7, number)
    return _four(1, PEER, FOUR, body[:2] + struct.pack("!H", _checksum(body)) + body[4:])


def _is_pong(frame: Frame, number: int) -> bool:
    kind, data = frame
    return kind == 0x0800 and data[9] == 1 and data[20] == 0 and data[24:28] == struct.pack("!HH", 7, number)


def _syn(pseudo: bytes, port: int, *, six: bool = False) -> bytes:
    """A SYN from port 900."""
    segment = struct.pack("!HHIIBBHHH", 900, port, 1, 0, 5 << 4, 2, 1000, 0, 0)
    tail = struct.pack("!II", len(segment), 6) if six else struct.pack("!BBH", 0, 6, len(segment))
    return segment[:16] + struct.pack("!H", _checksum(pseudo + tail + segment)) + segment[18:]


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


SYN_ACK = 0x12


@pytest.fixture
async def wire(link: PointToPoint, layout: Layout, guest: GuestId) -> AsyncIterator[Wire]:
    """The guest's end of a link whose namespace has servers on the admitted port and on another."""
    await link.make(guest)
    servers = [socket_in(layout.netns(guest), socket.AF_INET6) for _ in range(2)]
    for server, port in zip(servers, (PORT, 22), strict=True):
        server.bind(("::", port))
        server.listen()
    with Wire(layout, guest) as one:
        yield one
    for server in servers:
        server.close()


async def test_the_guest_reaches_the_gateways_port_and_no_other(wire: Wire) -> None:
    assert wire.answers_arp()
    assert wire.tcp(PORT) == SYN_ACK
    assert wire.tcp(22) is None
    assert wire.tcp(111) is None


async def test_a_gateway_that_is_starting_anew_does_not_refuse(
    link: PointToPoint, layout: Layout, guest: GuestId
) -> None:
    """Nobody listens. A client that is refused waits 3 s before it calls again, one that hears nothing 1 s."""
    await link.make(guest)
    with Wire(layout, guest) as wire:
        assert wire.tcp(PORT) is None
        assert wire.finds_neighbour()
        assert wire.tcp_six(PORT) is None


async def test_the_same_over_ipv6_without_configuration(wire: Wire) -> None:
    assert wire.finds_neighbour()
    assert wire.tcp_six(PORT) == SYN_ACK
    assert wire.tcp_six(22) is None
    assert not wire.finds_router()


async def test_other_sources_and_targets_are_dropped(wire: Wire) -> None:
    assert wire.answers_arp()
    assert not wire.answers_arp(IPv4Address("127.0.0.1"))
    assert wire.tcp(PORT, source=IPv4Address("169.254.77.4")) is None
    assert wire.tcp(PORT, source=IPv4Address("127.0.0.1")) is None
    assert wire.tcp(PORT, target=IPv4Address("127.0.0.1")) is None
    assert wire.tcp(PORT, target=IPv4Address("10.0.0.1")) is None
    assert wire.finds_neighbour()
    assert wire.tcp_six(PORT, source=IPv6Address("2001:db8::1")) is None


async def test_a_guest_cannot_fill_the_hosts_table_of_neighbours(wire: Wire, layout: Layout, guest: GuestId) -> None:
    """It has one size for all network namespaces, the host's own among them."""
    assert wire.answers_arp()
    for number in range(1, 6):
        assert not wire.answers_arp(sender=IPv4Address(f"10.0.0.{number}"))
    assert _neighbours(layout.netns(guest), 4) == {str(PEER)}
    for number in range(0x100, 0x200):
        wire.finds_neighbour(IPv6Address(f"fe80::{number:x}"))
    assert 1 <= len(_neighbours(layout.netns(guest), 6)) < 30


def _neighbours(name: str, version: int) -> set[str]:
    shown = subprocess.run(["ip", "-n", name, f"-{version}", "neigh"], check=True, capture_output=True, text=True)
    return {line.split()[0] for line in shown.stdout.splitlines()}


async def test_it_is_the_filter_that_drops(wire: Wire, layout: Layout, guest: GuestId) -> None:
    """Or the tests above would prove nothing."""
    _table_deleted(PointToPoint(layout), layout.netns(guest), layout.tap(guest))
    assert wire.answers_arp()
    assert wire.tcp(22) == SYN_ACK
    assert wire.finds_neighbour()
    assert wire.tcp_six(22) == SYN_ACK


async def test_a_gateway_cannot_call_the_guest_but_the_host_can_call_the_gateway(
    wire: Wire, layout: Layout, guest: GuestId
) -> None:
    outward = socket_in(layout.netns(guest))
    outward.setblocking(False)
    assert outward.connect_ex((str(PEER), 900)) in (errno.EINPROGRESS, errno.EPERM)
    assert wire.hear(lambda frame: frame[0] == 0x0800 and frame[1][9] == 6) is None
    outward.close()
    inward = socket_in(layout.netns(guest))
    inward.settimeout(5)
    inward.connect((str(FOUR), PORT))
    assert inward.getpeername() == (str(FOUR), PORT)
    inward.close()


def test_a_visit_leaves_this_process_where_it_is(namespace: str) -> None:
    before = os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116
    there = netns.inside(namespace, lambda: (os.stat("/proc/thread-self/ns/net").st_ino, threading.active_count()))  # noqa: PTH116
    assert there[0] == os.stat(netns.NETNS / namespace).st_ino != before  # noqa: PTH116
    assert os.stat("/proc/self/ns/net").st_ino == before  # noqa: PTH116


def test_ip_netns_lists_what_we_make_and_we_find_what_it_makes(namespace: str) -> None:
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    assert namespace in listed
    subprocess.run(["ip", "netns", "add", namespace + "b"], check=True)
    assert netns.exists(namespace + "b")
    netns.remove(namespace + "b")
    assert namespace + "b" not in netns.names()


def test_errors_of_work_elsewhere_come_back(namespace: str) -> None:
    with pytest.raises(ZeroDivisionError):
        netns.inside(namespace, lambda: 1 // 0)
    with pytest.raises(KernelRefused) as caught:
        netns.inside("istest-absent", lambda: 1)
    assert caught.value.errno == errno.ENOENT


@pytest.fixture
def namespace(layout: Layout) -> Iterator[str]:
    netns.create(layout.prefix)
    yield layout.prefix
    netns.remove(layout.prefix)
