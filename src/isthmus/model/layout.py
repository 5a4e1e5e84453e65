"""What everything on a host is called. Names come from the id of what they serve, so observing needs no memory.

Two agents on one machine differ in ``prefix`` and ``run``; neither sees or touches what the other made.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isthmus.model.attachment import Mode
from isthmus.model.errors import Invalid
from isthmus.model.names import AttachmentId, GuestId, ShareId, parse_uuid


@dataclass(frozen=True, slots=True)
class Layout:
    """The names below one prefix. ``run`` is on tmpfs and empty after a reboot, ``state`` is kept."""

    prefix: str = "isthmus"
    run: Path = Path("/run/isthmus")
    state: Path = Path("/var/lib/isthmus")

    @property
    def api_socket(self) -> Path:
        """The service's unix socket."""
        return self.run / "api.sock"

    @property
    def database(self) -> Path:
        """The embedded database."""
        return self.state / "isthmus.db"

    @property
    def shares(self) -> Path:
        """Where the host mounts shares, one directory each."""
        return self.run / "shares"

    def share_dir(self, share: ShareId) -> Path:
        """The mount points of one share: ``data`` for gateways, ``top`` for the driver."""
        return self.shares / share

    def share_data(self, share: ShareId) -> str:
        """Where a mounted share's data is on the host: what gateways bind."""
        return str(self.share_dir(share) / "data")

    def share_of_data(self, path: str) -> ShareId | None:
        """The share whose data would be mounted at ``path``; None if it is no such path."""
        name = Path(path).parent.name
        try:
            share = ShareId(parse_uuid(name, "share"))
        except Invalid:
            return None
        return share if path == self.share_data(share) else None

    @property
    def gateways(self) -> Path:
        """The run directories of gateways, one each, named MODE-GUEST."""
        return self.run / "gateways"

    def gateway_dir(self, mode: Mode, guest: GuestId) -> Path:
        """Configuration, sockets and log of one gateway."""
        return self.gateways / f"{mode}-{guest}"

    def netns(self, guest: GuestId) -> str:
        """The guest's network namespace, below /run/netns."""
        return f"{self.prefix}-{guest}"

    def guest_of_netns(self, name: str) -> GuestId | None:
        """The guest whose namespace this would be; None if it is not one of ours."""
        return _guest(name, f"{self.prefix}-")

    def tap(self, guest: GuestId) -> str:
        """The tap in the guest's namespace: at most 15 bytes (IFNAMSIZ)."""
        return "tap" + guest.replace("-", "")[:12]

    def nic(self) -> str:
        """The id of the link's network card in the guest's hypervisor process."""
        return f"{self.prefix}-nic"

    def unit(self, role: str, guest: GuestId) -> str:
        """A unit's name: ROLE-GUEST, the role being one word (``nfs``, ``bus``)."""
        return f"{role}-{guest}"

    def guest_of_unit(self, role: str, name: str) -> GuestId | None:
        """The guest that a unit of this role serves; None if it is another's."""
        return _guest(name, f"{role}-")

    def export_mount(self, attachment: AttachmentId) -> str:
        """Where an attachment's directory is bound inside its gateway's own mount namespace."""
        return f"/exports/{attachment}"


def mac_of(guest: GuestId) -> str:
    """The address of the guest's link card: locally administered (02), then 40 bits of the guest's id."""
    digits = guest.replace("-", "")
    return ":".join(["02", *(digits[i : i + 2] for i in range(0, 10, 2))])


def _guest(name: str, prefix: str) -> GuestId | None:
    if not name.startswith(prefix):
        return None
    try:
        return GuestId(parse_uuid(name.removeprefix(prefix), "guest"))
    except Invalid:
        return None
