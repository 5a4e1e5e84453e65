"""The run directory of one NFS gateway: its configuration, its state, its log.

The server opens files by handles, and so can its guest: a file system that it sees is one that the guest reaches. So
the directory is a file system of its own; and what grows by the guest's doing (log, recovery records) is another, which
may be full without keeping an export from being withdrawn.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from isthmus.gateway.ganesha_conf import Paths, claims, exports_text, server_text
from isthmus.host import mounts
from isthmus.host.unit import Bind
from isthmus.model.attachment import Access, Export, Mode
from isthmus.model.errors import Invalid
from isthmus.model.layout import Layout
from isthmus.model.names import AttachmentId, GuestId

# Where the server finds its files, by its own root.
_INSIDE = "/gateway"
CONFIGURATION = f"{_INSIDE}/ganesha.conf"
PIDFILE = f"{_INSIDE}/state/pid"
_PATHS = Paths(
    exports=f"{_INSIDE}/exports.conf",
    recovery=f"{_INSIDE}/state/recovery",
    plugins=f"/usr/lib/{os.uname().machine}-linux-gnu/ganesha",
)

# The transports that the server's RPC library looks up, and nothing more (see netconfig(5)).
NETCONFIG = """\
udp  tpi_clts     v inet  udp - -
tcp  tpi_cots_ord v inet  tcp - -
udp6 tpi_clts     v inet6 udp - -
tcp6 tpi_cots_ord v inet6 tcp - -
"""


_OWN = {"size": "1m", "nr_inodes": "64", "mode": "700"}
_STATE = {"size": "8m", "nr_inodes": "4096", "mode": "700"}


class Home:
    """The files of a guest's gateway. Methods block, each for some microseconds on a tmpfs."""

    def __init__(self, layout: Layout, guest: GuestId) -> None:
        self._layout = layout
        self._guest = guest
        self.path = layout.gateway_dir(Mode.NFS, guest)

    @staticmethod
    def guests(layout: Layout) -> set[GuestId]:
        """Those that have such a directory, in use or left behind."""
        names = [path.name for path in layout.gateways.glob(f"{Mode.NFS}-*")]
        found = {layout.guest_of_unit(Mode.NFS, name) for name in names}
        return {guest for guest in found if guest is not None}

    @property
    def log(self) -> Path:
        """What the server said since it was last started."""
        return self.path / "state" / "log"

    @property
    def log_size(self) -> int:
        """In bytes."""
        return self.log.stat().st_size

    def log_from(self, offset: int = 0) -> str:
        """The log from a byte on."""
        with self.log.open("rb") as file:
            file.seek(offset)
            return file.read().decode(errors="replace")

    def furnish(self, exports: Collection[Export]) -> None:
        """All that a server needs that comes up with these exports."""
        state = self.path / "state"
        _own_file_system(self.path, f"{self._layout.prefix}-gateway", _OWN)
        _own_file_system(state, f"{self._layout.prefix}-state", _STATE)
        (state / "recovery").mkdir(mode=0o700, exist_ok=True)
        self.log.write_text("")
        (self.path / "ganesha.conf").write_text(server_text(f"{self._layout.prefix}-{self._guest}", _PATHS))
        self.write_exports(exports)

    def claimed(self) -> dict[AttachmentId, Export]:
        """What the server was last told to present. A file that is absent, or not of this release, says nothing."""
        try:
            return claims((self.path / "exports.conf").read_text())
        except (FileNotFoundError, UnicodeDecodeError, Invalid):
            return {}

    def write_exports(self, exports: Collection[Export]) -> None:
        """Whole or not at all: a server that is started next reads it."""
        path = self.path / "exports.conf"
        new = path.with_suffix(".new")
        new.write_text(exports_text(exports, {e.attachment: self._layout.export_mount(e.attachment) for e in exports}))
        new.replace(path)

    def binds(self, exports: Collection[Export]) -> tuple[Bind, ...]:
        """What the server may see: its directory, of which it may write its state, and the exports."""
        return (
            Bind(str(self.path), _INSIDE),
            Bind(str(self.path / "state"), f"{_INSIDE}/state", read_only=False),
            *(
                Bind(e.source, self._layout.export_mount(e.attachment), read_only=e.access is Access.RO)
                for e in exports
            ),
        )

    def remove(self) -> None:
        """Nothing of it is left. The server has ended."""
        mounts.unmount(str(self.path / "state"))
        mounts.unmount(str(self.path))
        if self.path.exists():
            shutil.rmtree(self.path)


def _own_file_system(path: Path, name: str, options: Mapping[str, str]) -> None:
    """A small tmpfs is mounted there; one that is there already is kept."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.path.ismount(path):
        mounts.mount_filesystem("tmpfs", name, str(path), dict(options), noexec=True)
