"""Netlink: links and addresses of a network namespace, by the few messages that Isthmus needs.

A request costs some 20 microseconds. Why there is no library here: docs/adr/0006.
Formats: netlink(7), rtnetlink(7), linux/if_link.h, linux/if_addr.h.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from isthmus.model.errors import KernelRefused

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_REQUEST, _ACK, _DUMP, _EXCL, _CREATE = 0x1, 0x4, 0x300, 0x200, 0x400
_ERROR, _DONE = 2, 3
_TYPE_MASK = 0x3FFF  # the two highest bits say "nested" and "big endian"

_RTM_DELLINK, _RTM_GETLINK, _RTM_SETLINK, _RTM_NEWADDR, _RTM_GETADDR = 17, 18, 19, 20, 22
_IFINFO = struct.Struct("=BxHiII")  # family, device type, index, flags, changed flags
_IFADDR = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_IFLA_IFNAME, _IFLA_MTU = 3, 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_NODAD, _IFA_F_TENTATIVE = 0x02, 0x40
_IFF_UP, _IFF_LOWER_UP = 1, 1 << 16
_SCOPE_LINK = 253


@dataclass(frozen=True, slots=True)
class LinkState:
    """A network device. ``up`` is what the administrator wants; ``carrier``: somebody holds the other end."""

    index: int
    up: bool
    mtu: int
    carrier: bool


class Netlink:
    """A netlink socket of the namespace in which it is made; other threads may use it afterwards, one at a time."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, doing: str, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        """The bodies of the kernel's answers to a request or dump. Raises ``KernelRefused`` with its errno."""
        self._sequence += 1
        wanted = flags | _REQUEST | (0 if flags & _DUMP == _DUMP else _ACK)
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, wanted, self._sequence, 0) + body)
        answers: list[bytes] = []
        while True:
            for kind_seen, answer in self._receive():
                if kind_seen == _ERROR:
                    number = -struct.unpack_from("=i", answer)[0]
                    if number:
                        raise KernelRefused(doing, number)
                    return answers
                if kind_seen == _DONE:
                    return answers
                answers.append(answer)

    def dump(self, doing: str, kind: int, body: bytes) -> list[bytes]:
        """The bodies of all objects of a kind."""
        return self.ask(doing, kind, body, _DUMP)

    def _receive(self) -> Iterator[tuple[int, bytes]]:
        data = self._socket.recv(1 << 16)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
            if sequence == self._sequence:
                yield kind, data[offset + _HEADER.size : offset + length]
            offset += _aligned(length)


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute with its padding."""
    length = _ATTRIBUTE.size + len(value)
    return (_ATTRIBUTE.pack(length, kind) + value).ljust(_aligned(length), b"\0")


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in a message's tail, by type."""
    found = {}
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += _aligned(length)
    return found


def open_route() -> Netlink:
    """For the functions below, in the calling thread's namespace."""
    return Netlink(socket.NETLINK_ROUTE)


def find_link(route: Netlink, name: str) -> LinkState | None:
    """A device by name; None if there is none."""
    body = _IFINFO.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, name.encode() + b"\0")
    try:
        (answer,) = route.ask(f"find link {name}", _RTM_GETLINK, body)
    except KernelRefused as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    _, _, index, flags, _ = _IFINFO.unpack_from(answer)
    found = attributes(answer[_IFINFO.size :])
    mtu = struct.unpack("=I", found[_IFLA_MTU])[0]
    return LinkState(index, bool(flags & _IFF_UP), mtu, bool(flags & _IFF_LOWER_UP))


def set_up(route: Netlink, index: int, mtu: int | None = None) -> None:
    """The device is up, with this MTU in bytes (as it was if None)."""
    body = _IFINFO.pack(0, 0, index, _IFF_UP, _IFF_UP)
    if mtu is not None:
        body += attribute(_IFLA_MTU, struct.pack("=I", mtu))
    route.ask(f"set link {index} up", _RTM_SETLINK, body)


def delete_link(route: Netlink, name: str) -> None:
    """No device has the name. Descriptors of a tap that are open stay open, and dead."""
    link = find_link(route, name)
    if link is None:
        return
    try:
        route.ask(f"delete link {name}", _RTM_DELLINK, _IFINFO.pack(0, 0, link.index, 0, 0))
    except KernelRefused as error:
        if error.errno != errno.ENODEV:
            raise


def addresses(route: Netlink, index: int) -> frozenset[Interface]:
    """The usable addresses of a device: those whose uniqueness is still being probed are left out."""
    found = set()
    for answer in route.dump("list addresses", _RTM_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0)):
        _, prefix, flags, _, owner = _IFADDR.unpack_from(answer)
        values = attributes(answer[_IFADDR.size :])
        raw = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
        if owner != index or raw is None or flags & _IFA_F_TENTATIVE:
            continue
        found.add(ipaddress.ip_interface(f"{ipaddress.ip_address(raw)}/{prefix}"))
    return frozenset(found)


def add_address(route: Netlink, index: int, interface: Interface) -> None:
    """The device has the address, usable at once: no duplicate address detection."""
    six = interface.version == 6
    raw = interface.ip.packed
    body = _IFADDR.pack(
        socket.AF_INET6 if six else socket.AF_INET,
        interface.network.prefixlen,
        0,
        _SCOPE_LINK if interface.is_link_local else 0,
        index,
    )
    body += attribute(_IFA_LOCAL, raw) + attribute(_IFA_ADDRESS, raw)
    if six:
        body += attribute(_IFA_FLAGS, struct.pack("=I", _IFA_F_NODAD))
    try:
        route.ask(f"add address {interface} to link {index}", _RTM_NEWADDR, body, _CREATE | _EXCL)
    except KernelRefused as error:
        if error.errno != errno.EEXIST:
            raise


def _aligned(length: int) -> int:
    return (length + 3) & ~3
