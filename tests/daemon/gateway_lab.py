"""What tests of gateways stand on: guests with their links, shares that are file systems, clients on the wire."""

from __future__ import annotations

import secrets
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from isthmus.gateway.ganesha import GaneshaGateway
from isthmus.host import mounts
from isthmus.host.child import ChildSupervisor
from isthmus.host.sockets import socket_in
from isthmus.host.unit import UnitSeen
from isthmus.link.p2p import PointToPoint
from isthmus.model.attachment import Access, Export
from isthmus.model.layout import Layout
from isthmus.model.names import AttachmentId, GuestId, new_id
from tests.daemon.nfs_wire import NfsClient

IPV4, IPV6 = "169.254.77.2", "fe80::1"


@dataclass
class Shares:
    """Shares as a driver makes them, each a file system of its own."""

    directory: Path

    def image(self, filesystem: str) -> str:
        """A file system in an image file; of btrfs its subvolume ``data``."""
        place = self.directory / new_id()
        image, data = place / "image", place / "data"
        data.mkdir(parents=True)
        subprocess.run(["truncate", "-s", "320M", image], check=True)
        subprocess.run([f"mkfs.{filesystem}", "-q", image], check=True, stderr=subprocess.DEVNULL)
        if filesystem == "btrfs":
            subprocess.run(["mount", "-o", "loop", image, data], check=True)
            subprocess.run(["btrfs", "-q", "subvolume", "create", data / "data"], check=True)
            subprocess.run(["umount", data], check=True)
        self.mount(str(data), filesystem)
        return str(data)

    def mount(self, source: str, filesystem: str) -> None:
        """The share of an image, where ``image`` had it."""
        options = "loop,nosuid,nodev" + (",subvol=data" if filesystem == "btrfs" else "")
        subprocess.run(["mount", "-o", options, Path(source).parent / "image", source], check=True)

    def unmount(self, source: str) -> None:
        """Fails if anything of the host still has a file open there."""
        mounts.unmount(source)

    def quick(self) -> str:
        """One in memory, for what does not depend on the kind."""
        data = self.directory / new_id() / "data"
        data.mkdir(parents=True)
        mounts.mount_filesystem("tmpfs", "none", str(data), {"size": "16m", "mode": "755"})
        return str(data)

    def fail(self, source: str) -> None:
        """From now on an XFS share answers every call with EIO, as after an error of its disk."""
        subprocess.run(["xfs_io", "-x", "-c", "shutdown", source], check=True)

    def in_use(self, source: str) -> bool:
        """Whether a loop device still holds the share's image."""
        image = Path(source).parent / "image"
        held = subprocess.run(["losetup", "-j", image], check=True, capture_output=True)
        return held.stdout != b""

    def remove(self) -> None:
        """Unmounts them all; a gateway that still holds one makes the run directory's removal fail."""
        for entry in reversed(mounts.mounts()):
            if entry.target.startswith(f"{self.directory}/"):
                mounts.unmount(entry.target)


@dataclass
class Lab:
    """A gateway family on real ground, and one guest."""

    layout: Layout
    supervisor: ChildSupervisor
    gateway: GaneshaGateway
    shares: Shares
    link: PointToPoint
    guests: list[GuestId] = field(default_factory=list)
    clients: list[NfsClient] = field(default_factory=list)

    @property
    def guest(self) -> GuestId:
        """The first one."""
        return self.guests[0]

    async def another_guest(self) -> GuestId:
        """A guest with its link; both go with the lab."""
        self.guests.append(GuestId(new_id()))
        await self.link.make(self.guests[-1])
        return self.guests[-1]

    def client(self, *, uid: int = 0, at: str = IPV4, of: GuestId | None = None) -> NfsClient:
        """A client of a guest's gateway, in the guest's namespace, at an address of the link."""
        family = socket.AF_INET6 if at == IPV6 else socket.AF_INET
        sock = socket_in(self.layout.netns(of or self.guest), family, socket.SOCK_STREAM)
        sock.settimeout(10)
        self.clients.append(NfsClient(sock, owner=secrets.token_hex(4), uid=uid, gid=uid))
        sock.connect((at, 2049, 0, 2) if at == IPV6 else (at, 2049))  # the tap is the namespace's second device
        return self.clients[-1]

    async def unit(self) -> UnitSeen:
        """The first guest's server."""
        return (await self.supervisor.observe())[self.layout.unit("nfs", self.guest)]

    async def served(self) -> set[Export]:
        """What the first guest's gateway is seen to present."""
        return set((await self.gateway.observe())[self.guest].exports.values())


@asynccontextmanager
async def make_lab(layout: Layout) -> AsyncIterator[Lab]:
    """Nothing is left of it afterwards."""
    supervisor = ChildSupervisor(layout)
    gateway = GaneshaGateway(layout, supervisor)
    lab = Lab(layout, supervisor, gateway, Shares(layout.shares), PointToPoint(layout))
    try:
        await lab.another_guest()
        yield lab
    finally:
        for client in lab.clients:
            client.sock.close()
        for guest in lab.guests:
            await gateway.stop(guest)
            await lab.link.remove(guest)
        lab.shares.remove()


def make_export(source: str, at: str = "/share", *, slot: int = 1, access: Access = Access.RW) -> Export:
    """An export of a new attachment."""
    return Export(AttachmentId(new_id()), slot, source, at, access)
