"""The point-to-point link: a network namespace that holds loopback and the guest's own tap, and nothing else.

    guest --virtio-net-- QEMU --descriptor-- tap [169.254.77.2/31, fe80::1/64] -- gateway      (netns of the guest)

QEMU stays where it is and holds the tap's descriptor. There is no bridge, no veth and no route: a packet of the guest
can reach the gateway's port or nowhere.

Every guest has the same addresses, since every guest has a namespace of its own. 169.254.0.0/16 is link-local (RFC
3927): no router forwards it and no tenant's network has it, so that it cannot collide with what the guest uses; a /31
(RFC 3021) has room for the two of us and no other. 169.254.77.2 lies outside the block's reserved first and last 256
addresses and far from 169.254.169.254, where clouds serve metadata. fe80::1 needs no configuration in the guest.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
from collections.abc import Mapping

from isthmus.host import netlink, netns, nft, tap
from isthmus.host.netlink import Interface
from isthmus.model.attachment import LinkSeen
from isthmus.model.errors import Invalid, KernelRefused
from isthmus.model.guest import NicPlug
from isthmus.model.layout import Layout, mac_of
from isthmus.model.names import GuestId

_FEW = "limit rate 1/second burst 10 packets"
_SIX = ipaddress.ip_interface("fe80::1/64")


class PointToPoint:
    """Links of this kind below one layout. ``network``: the gateway's address, the lower one of a /31; the guest has
    the other. ``mtu`` in bytes; the guest's card should have the same."""

    def __init__(self, layout: Layout, *, port: int = 2049, network: str = "169.254.77.2/31", mtu: int = 1500) -> None:
        self._layout = layout
        self._mtu = mtu
        self._four = _gateway_address(network)
        self._peer = self._four.ip + 1
        self._port = port

    @property
    def address(self) -> str:
        """The gateway's IPv4 address."""
        return str(self._four.ip)

    @property
    def peer(self) -> str:
        """The guest's IPv4 address."""
        return str(self._peer)

    async def observe(self) -> Mapping[GuestId, LinkSeen]:
        """See ``Link.observe``. ``missing`` is of ``namespace``, ``tap``, ``address``, ``filter``."""
        return await asyncio.to_thread(self._observe)

    async def make(self, guest: GuestId) -> None:
        """See ``Link.make``; a link that is half-made is completed, what is there is not disturbed."""
        seen = await asyncio.to_thread(self._make, guest)
        wanted = self.filter(guest)
        if seen is None or not seen.is_(wanted):
            await nft.apply_filter(self._layout.netns(guest), wanted)

    async def remove(self, guest: GuestId) -> None:
        """See ``Link.remove``. A hypervisor that holds the tap keeps a dead descriptor."""
        await asyncio.to_thread(self._remove, guest)

    def plug(self, guest: GuestId) -> NicPlug:
        """See ``Link.plug``."""
        layout = self._layout
        return NicPlug(id=layout.nic(), mac=mac_of(guest), netns=layout.netns(guest), tap=layout.tap(guest))

    def filter(self, guest: GuestId) -> nft.Filter:
        """What the guest's namespace lets pass (pure).

        It keeps no state of connections: a guest cannot fill a table of them, and a gateway only ever answers. Few
        solicitations pass, for each sender becomes a neighbour, and the host has one table of these for all
        namespaces. What is dropped is dropped silently, router solicitations among it.
        """
        card, port, four, peer = self._layout.tap(guest), self._port, self._four.ip, self._peer
        neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"
        return nft.Filter(
            (
                nft.Chain(
                    "input",
                    (
                        'iifname "lo" accept',
                        f'iifname != "{card}" drop',
                        f"ip saddr {peer} ip daddr {four} tcp dport {port} accept",
                        f"ip6 saddr fe80::/10 ip6 daddr {_SIX.ip} tcp dport {port} accept",
                        f"ip saddr {peer} ip daddr {four} icmp type echo-request accept",
                        f"ip6 saddr fe80::/10 ip6 daddr {_SIX.ip} icmpv6 type echo-request accept",
                        f"ip6 saddr {{ ::, fe80::/10 }} ip6 hoplimit 255 icmpv6 type nd-neighbor-solicit {_FEW} accept",
                        "ip6 saddr fe80::/10 ip6 hoplimit 255 icmpv6 type nd-neighbor-advert accept",
                    ),
                ),
                nft.Chain(
                    "output",
                    (
                        'oifname "lo" accept',
                        f'oifname != "{card}" drop',
                        "tcp flags & (syn | ack) == syn drop",  # a gateway never calls its guest
                        # not refused while the gateway starts anew: a client that is refused waits 3 s, else 1 s
                        "tcp flags & (rst | ack) == rst | ack drop",
                        f"ip saddr {four} ip daddr {peer} tcp sport {port} accept",
                        f"ip6 saddr {_SIX.ip} ip6 daddr fe80::/10 tcp sport {port} accept",
                        f"ip saddr {four} ip daddr {peer} icmp type echo-reply accept",
                        f"ip6 saddr {_SIX.ip} ip6 daddr fe80::/10 icmpv6 type echo-reply accept",
                        f"ip6 hoplimit 255 {neighbours}",
                    ),
                ),
                nft.Chain("forward"),
            )
        )

    def _observe(self) -> Mapping[GuestId, LinkSeen]:
        guests = (self._layout.guest_of_netns(name) for name in netns.names())
        return {guest: self._look(guest) for guest in guests if guest is not None}

    def _look(self, guest: GuestId) -> LinkSeen:
        try:
            return netns.inside(self._layout.netns(guest), lambda: self._look_here(guest))
        except KernelRefused as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise
            return LinkSeen(guest, ("namespace", "tap", "address", "filter"))

    def _look_here(self, guest: GuestId) -> LinkSeen:
        with netlink.open_route() as route:
            loopback, card = (netlink.find_link(route, name) for name in ("lo", self._layout.tap(guest)))
            ready = loopback is not None and loopback.up and card is not None and card.up
            there = netlink.addresses(route, card.index) if card is not None else frozenset()
        seen = nft.observe_filter()
        lacks = (
            ("tap", card is None),
            ("address", not ready or not self._addresses() <= there),
            ("filter", seen is None or not seen.is_(self.filter(guest))),
        )
        missing = tuple(name for name, lack in lacks if lack)
        return LinkSeen(guest, missing, held=card is not None and card.carrier)

    def _make(self, guest: GuestId) -> nft.FilterSeen | None:
        """The link but for its filter, which is returned as it is."""
        name, card = self._layout.netns(guest), self._layout.tap(guest)
        netns.create(name)
        tap.make_tap(name, card)

        def work() -> nft.FilterSeen | None:
            netns.write_sysctls(_settings(card))
            with netlink.open_route() as route:
                for device, mtu in (("lo", None), (card, self._mtu)):
                    link = netlink.find_link(route, device)
                    if link is None:
                        raise KernelRefused(f"find link {device} of network namespace {name}", errno.ENODEV)
                    netlink.set_up(route, link.index, mtu)
                    if device == card:
                        for address in sorted(self._addresses(), key=str):
                            netlink.add_address(route, link.index, address)
            return nft.observe_filter()

        return netns.inside(name, work)

    def _remove(self, guest: GuestId) -> None:
        name = self._layout.netns(guest)
        if netns.exists(name):
            netns.inside(name, lambda: _delete_link_here(self._layout.tap(guest)))
        netns.remove(name)

    def _addresses(self) -> frozenset[Interface]:
        return frozenset((self._four, _SIX))


def _delete_link_here(name: str) -> None:
    with netlink.open_route() as route:
        netlink.delete_link(route, name)


def _gateway_address(network: str) -> ipaddress.IPv4Interface:
    try:
        address = ipaddress.IPv4Interface(network)
    except ValueError as error:
        raise Invalid(f"cannot use {network!a} as network: {error}", field="network") from error
    if address.network.prefixlen != 31 or address.ip != address.network.network_address:
        raise Invalid(f"cannot use {network!a} as network: give the lower address of a /31", field="network")
    return address


def _settings(card: str) -> dict[str, str]:
    """A new namespace takes IPv4's settings from the host's, which may forward; first what resets others."""
    return {
        "ipv4/ip_forward": "0",
        "ipv6/conf/all/forwarding": "0",
        f"ipv4/conf/{card}/arp_ignore": "1",  # answer only for this device's own address
        f"ipv4/conf/{card}/arp_announce": "2",
        f"ipv4/conf/{card}/rp_filter": "1",  # or each sender that a guest makes up becomes a neighbour
        f"ipv4/conf/{card}/accept_redirects": "0",
        f"ipv4/conf/{card}/send_redirects": "0",
        f"ipv4/conf/{card}/accept_source_route": "0",
        f"ipv6/conf/{card}/accept_ra": "0",
        f"ipv6/conf/{card}/autoconf": "0",
        f"ipv6/conf/{card}/accept_redirects": "0",
        f"ipv6/conf/{card}/router_solicitations": "0",
        f"ipv6/conf/{card}/addr_gen_mode": "1",  # fe80::1 is the only address of its kind
    }
