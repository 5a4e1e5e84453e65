"""NFSv4.1 and 4.2 by NFS-Ganesha: one server per guest, in the guest's network namespace, seeing only its exports.

The server has no bus: its exports are a file, which it reads again on SIGHUP; what it really serves is asked of it over
NFS, as a guest would (ADR 0005).
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from isthmus.gateway import nfs4
from isthmus.gateway.difference import Difference, compatible, difference
from isthmus.gateway.ganesha_conf import PORT, filesystem_id
from isthmus.gateway.ganesha_home import CONFIGURATION, NETCONFIG, PIDFILE, Home
from isthmus.gateway.ganesha_log import ended, reasons
from isthmus.host import kernel, mounts, signals, sockets
from isthmus.host.mounts import MountEntry
from isthmus.host.unit import Supervisor, Unit, UnitSeen
from isthmus.model.attachment import Access, Export, GatewaySeen, Mode
from isthmus.model.errors import DeadlineExpired, HostFailure, IsthmusError, KernelRefused, Unavailable
from isthmus.model.layout import Layout
from isthmus.model.names import AttachmentId, GuestId

ROLE = "nfs"
PROGRAM = "/usr/bin/ganesha.nfsd"

# The least with which a guest's root and its users can do all that they should. No CAP_MKNOD: a share holds no devices.
_CAPABILITIES = frozenset(
    {
        "CAP_DAC_READ_SEARCH",  # opens files by their handles
        "CAP_DAC_OVERRIDE",  # the guest's root: others' files,
        "CAP_CHOWN",  # giving them away,
        "CAP_FOWNER",  # changing their modes,
        "CAP_FSETID",  # keeping their set-group-id
        "CAP_SETUID",  # the guest's users
        "CAP_SETGID",
    }
)

_ENVIRONMENT = {
    # Untouched hash tables stay untouched pages: 30 MB become 5.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    # None of the host's, ever; without one the server's bus thread ends, which else wakes ten times a second.
    "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent",
}

_POLL = 0.001  # seconds between two looks at what has no other way to tell that it changed


class GaneshaGateway:
    """The ``Gateway`` of mode nfs. ``deadline``: seconds for a server to begin to answer, or to take a change;
    ``patience``: for one answer when it is only observed."""

    mode = Mode.NFS
    port = PORT

    def __init__(self, layout: Layout, supervisor: Supervisor, *, deadline: float = 5.0, patience: float = 1.0) -> None:
        self._layout = layout
        self._supervisor = supervisor
        self._deadline = deadline
        self._patience = patience
        self._locks: WeakValueDictionary[GuestId, asyncio.Lock] = WeakValueDictionary()

    async def observe(self) -> Mapping[GuestId, GatewaySeen]:
        """See ``Gateway``."""
        units = await self._units()
        host = await asyncio.to_thread(mounts.mounts)
        guests = sorted(units.keys() | Home.guests(self._layout))
        seen = await asyncio.gather(*(self._look(guest, units.get(guest), host) for guest in guests))
        return dict(zip(guests, seen, strict=True))

    async def start(self, guest: GuestId, exports: Collection[Export]) -> None:
        """See ``Gateway``. A server that answers is kept, and given the exports."""
        async with self._lock(guest):
            unit = (await self._units()).get(guest)
            if unit is not None and await self._answers(guest):
                try:
                    await self._present(guest, unit, exports)
                except (DeadlineExpired, Unavailable):
                    pass  # it answers, and yet does not do its work
                else:
                    return
            await self._restart(guest, compatible(exports)[0])

    async def present(self, guest: GuestId, exports: Collection[Export]) -> Mapping[AttachmentId, IsthmusError]:
        """See ``Gateway``. Raises ``Unavailable`` if the gateway does not run; that or ``DeadlineExpired`` if it is too
        slow to be asked, and nothing is to be taken from the guest."""
        async with self._lock(guest):
            unit = (await self._units()).get(guest)
            if unit is None:
                raise Unavailable(
                    f"cannot present exports to guest {guest}: its NFS gateway does not run",
                    code="gateway-down",
                    detail={"guest": guest},
                )
            return await self._present(guest, unit, exports)

    async def stop(self, guest: GuestId) -> None:
        """See ``Gateway``."""
        async with self._lock(guest):
            await self._end(guest)
            await asyncio.to_thread(self._home(guest).remove)

    # What is.

    async def _units(self) -> dict[GuestId, UnitSeen]:
        seen = await self._supervisor.observe()
        guests = {self._layout.guest_of_unit(ROLE, name): unit for name, unit in seen.items()}
        return {guest: unit for guest, unit in guests.items() if guest is not None}

    def _home(self, guest: GuestId) -> Home:
        return Home(self._layout, guest)

    async def _look(self, guest: GuestId, unit: UnitSeen | None, host: tuple[MountEntry, ...]) -> GatewaySeen:
        if unit is None:
            return GatewaySeen(guest, self.mode, running=False)
        claimed = self._home(guest).claimed()
        try:
            async with asyncio.timeout(self._patience):
                served = await self._served(guest, unit, claimed, host)
        except (TimeoutError, IsthmusError):
            served = {}  # it runs and does not answer: that is what was found
        try:
            held = await asyncio.to_thread(self._held, unit, claimed, host)
        except KernelRefused as error:
            if error.errno != errno.ESRCH:
                raise
            return GatewaySeen(guest, self.mode, running=False)  # it ended while we looked
        return GatewaySeen(guest, self.mode, True, served, held)

    async def _served(
        self, guest: GuestId, unit: UnitSeen, claimed: Mapping[AttachmentId, Export], host: tuple[MountEntry, ...]
    ) -> dict[AttachmentId, Export]:
        """Those of ``claimed`` that are there: the right directory in the server's mount namespace, and at the right
        place in its name space, with the right access."""
        inside = {entry.target: entry for entry in await asyncio.to_thread(mounts.mounts_of, unit.pid)}
        served = {}
        async with self._visit(guest) as visitor:
            if not claimed:
                await visitor.null()
            for attachment, export in claimed.items():
                entry = inside.get(self._layout.export_mount(attachment))
                if entry is None or (entry.device, entry.root) != _location(host, export.source):
                    continue
                try:
                    found = await visitor.look(export.at)
                except nfs4.Unreadable:
                    continue  # one share's trouble is not the others'
                if found == nfs4.Found(filesystem_id(attachment), export.access is Access.RW):
                    served[attachment] = export
        return served

    def _held(
        self, unit: UnitSeen, claimed: Mapping[AttachmentId, Export], host: tuple[MountEntry, ...]
    ) -> dict[AttachmentId, str]:
        """The directories in the server's mount namespace, by their paths on the host; "" for one that is not mounted
        there any more."""
        where = self._layout.export_mount(AttachmentId(""))
        paths = {(entry.device, entry.root): entry.target for entry in host}
        held = {attachment: export.source for attachment, export in claimed.items()}
        for entry in mounts.mounts_of(unit.pid):
            if entry.target.startswith(where):
                attachment = AttachmentId(entry.target.removeprefix(where))
                held.setdefault(attachment, paths.get((entry.device, entry.root), ""))
        return held

    @asynccontextmanager
    async def _visit(self, guest: GuestId) -> AsyncIterator[nfs4.Visit]:
        sock = await asyncio.to_thread(sockets.socket_in, self._layout.netns(guest), socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        async with nfs4.visit(sock, ("127.0.0.1", PORT)) as visitor:
            yield visitor

    async def _answers(self, guest: GuestId) -> bool:
        try:
            async with asyncio.timeout(self._patience), self._visit(guest) as visitor:
                await visitor.null()
        except (TimeoutError, Unavailable):
            return False
        return True

    # Changing it.

    async def _present(
        self, guest: GuestId, unit: UnitSeen, exports: Collection[Export]
    ) -> Mapping[AttachmentId, IsthmusError]:
        wanted, errors = compatible(exports)
        claimed = self._home(guest).claimed()
        host = await asyncio.to_thread(mounts.mounts)
        known = claimed.keys() | await asyncio.to_thread(self._bound, unit)
        try:
            async with self._within(f"ask the NFS gateway of guest {guest}"):
                served = await self._served(guest, unit, claimed, host)
        except (DeadlineExpired, Unavailable):
            if known <= _unchanged(claimed, wanted) and await self._answers(guest):
                raise  # it is only slow
            # Whether it hangs or its guest keeps it from answering: a guest keeps nothing that was taken from it.
            unit = await self._restart(guest, wanted)
            return errors | await self._check(guest, unit, wanted, errors)
        todo = difference(known, served, wanted)
        if not todo:
            return errors
        if _moves_root(claimed.values(), wanted):
            unit = await self._restart(guest, wanted)  # the root of its name space is made only when it starts
        else:
            errors |= await self._change(guest, unit, todo, [served[a] for a in served.keys() - todo.withdraw])
        return errors | await self._check(guest, unit, wanted, errors)

    async def _change(
        self, guest: GuestId, unit: UnitSeen, todo: Difference, keep: list[Export]
    ) -> dict[AttachmentId, IsthmusError]:
        if todo.withdraw:
            unit = await self._withdraw(guest, unit, todo.withdraw, keep)
        errors: dict[AttachmentId, IsthmusError] = {}
        for export in todo.add:
            try:
                await asyncio.to_thread(self._bind, unit, export)
            except IsthmusError as error:
                errors[export.attachment] = error
            else:
                keep = [*keep, export]
        if todo.add:
            await self._tell(guest, unit, keep)
        return errors

    async def _withdraw(
        self, guest: GuestId, unit: UnitSeen, gone: Collection[AttachmentId], keep: list[Export]
    ) -> UnitSeen:
        """The server presents only what it should keep, and its hold on the others is given up. One that does not let
        go is replaced: what was taken from a guest must not stay within its reach."""
        places = {export.at: filesystem_id(a) for a, export in self._home(guest).claimed().items() if a in gone}
        try:
            await self._tell(guest, unit, keep)
            async with self._within(f"ask the NFS gateway of guest {guest}"), self._visit(guest) as visitor:
                found = [await visitor.look(place) for place in places]
        except (DeadlineExpired, Unavailable):
            return await self._restart(guest, keep)
        if any(f is not None and f.filesystem in places.values() for f in found):
            return await self._restart(guest, keep)
        for attachment in gone:
            target = self._layout.export_mount(attachment)
            # A request under way may hold a file a moment longer: the share's own unmount waits for it, not we.
            await asyncio.to_thread(mounts.detach_in, unit.pid, target, lazy=True, started=unit.started)
        return unit

    async def _check(
        self, guest: GuestId, unit: UnitSeen, wanted: list[Export], errors: Mapping[AttachmentId, IsthmusError]
    ) -> dict[AttachmentId, IsthmusError]:
        """Errors of those that have none yet and are not served."""
        host = await asyncio.to_thread(mounts.mounts)
        async with self._within(f"ask the NFS gateway of guest {guest}"):
            served = await self._served(guest, unit, {export.attachment: export for export in wanted}, host)
        missing = [e for e in wanted if e.attachment not in served and e.attachment not in errors]
        return {export.attachment: self._refusal(guest, export) for export in missing}

    def _refusal(self, guest: GuestId, export: Export) -> HostFailure:
        log = reasons(self._home(guest).log_from())
        return HostFailure(
            f"cannot export {export.source} at {export.at} to guest {guest}: the NFS server did not take it",
            code="export-refused",
            detail={"attachment": export.attachment, "guest": guest, "log": "\n".join(log)[-2000:]},
        )

    def _bind(self, unit: UnitSeen, export: Export) -> None:
        _check_mounted(export)
        fd = mounts.clone(export.source, read_only=export.access is Access.RO)
        try:
            mounts.attach_in(unit.pid, fd, self._layout.export_mount(export.attachment), started=unit.started)
        finally:
            os.close(fd)

    def _bound(self, unit: UnitSeen) -> set[AttachmentId]:
        """The attachments whose directories are in the server's mount namespace."""
        where = self._layout.export_mount(AttachmentId(""))
        targets = [entry.target for entry in mounts.mounts_of(unit.pid)]
        return {AttachmentId(target.removeprefix(where)) for target in targets if target.startswith(where)}

    async def _tell(self, guest: GuestId, unit: UnitSeen, exports: Collection[Export]) -> None:
        """The server has read and applied exactly these exports. Those that it refused are lines in its log."""
        home = self._home(guest)
        before = home.log_size
        home.write_exports(exports)
        signals.send(unit.pid, unit.started, signal.SIGHUP)
        async with self._within(f"change the exports of guest {guest}"):
            while not ended(home.log_from(before)):  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(_POLL)

    async def _restart(self, guest: GuestId, exports: list[Export]) -> UnitSeen:
        """A fresh server that comes up with these exports, so that no handle is ever stale in between."""
        await self._end(guest)
        there = [export for export in exports if await asyncio.to_thread(os.path.ismount, export.source)]
        home = self._home(guest)
        await asyncio.to_thread(home.furnish, there)
        unit = await self._supervisor.start(self._unit(guest, there))
        async with self._within(f"start the NFS gateway of guest {guest}"):
            while not await self._answers(guest):
                if kernel.start_time(unit.pid) != unit.started:
                    raise HostFailure(
                        f"cannot start the NFS gateway of guest {guest}: the server ended at once",
                        code="gateway-failed",
                        detail={"guest": guest, "log": home.log_from()[-2000:]},
                    )
                await asyncio.sleep(_POLL)
        return unit

    async def _end(self, guest: GuestId) -> None:
        """At once: all that it acknowledged is with the kernel, and its own farewell takes up to seconds."""
        await self._supervisor.stop(self._layout.unit(ROLE, guest), grace=0)

    @asynccontextmanager
    async def _within(self, doing: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._deadline):
                yield
        except TimeoutError as error:
            raise DeadlineExpired(doing, self._deadline) from error

    def _unit(self, guest: GuestId, exports: Collection[Export]) -> Unit:
        home = self._home(guest)
        return Unit(
            name=self._layout.unit(ROLE, guest),
            argv=(PROGRAM, "-F", "-N", "NIV_CRIT", "-L", "STDERR", "-f", CONFIGURATION, "-p", PIDFILE),
            log=str(home.log),
            env=_ENVIRONMENT,
            netns=self._layout.netns(guest),
            binds=home.binds(exports),
            files={"/etc/netconfig": NETCONFIG},
            capabilities=_CAPABILITIES,
        )

    @asynccontextmanager
    async def _lock(self, guest: GuestId) -> AsyncIterator[None]:
        """One change at a time to a gateway."""
        lock = self._locks.setdefault(guest, asyncio.Lock())
        async with lock:
            yield


def _check_mounted(export: Export) -> None:
    """Without its share the mount point is an empty directory of the host's own: nothing for a guest."""
    if not os.path.ismount(export.source):
        raise HostFailure(
            f"cannot export {export.source} at {export.at}: no share is mounted there",
            code="share-not-mounted",
            detail={"attachment": export.attachment},
        )


def _location(table: tuple[MountEntry, ...], path: str) -> tuple[str, str]:
    """The device on which a path lies, and the directory of its file system that it is, by a table of mounts."""
    path = str(Path(path).resolve())  # the table knows no symbolic links, such as /var/run
    best = max(
        (entry for entry in table if path == entry.target or path.startswith(entry.target.rstrip("/") + "/")),
        key=lambda entry: len(entry.target),
        default=None,
    )
    if best is None:
        return "", ""
    rest = path.removeprefix(best.target.rstrip("/"))
    return best.device, (best.root.rstrip("/") + rest) or "/"


def _unchanged(claimed: Mapping[AttachmentId, Export], wanted: Iterable[Export]) -> set[AttachmentId]:
    """The attachments that a server was told to present just as they should be."""
    return {export.attachment for export in wanted if claimed.get(export.attachment) == export}


def _moves_root(one: Iterable[Export], other: Iterable[Export]) -> bool:
    """Whether the root of the name space is another share's, or no longer a share's."""
    return {e.attachment for e in one if e.at == "/"} != {e.attachment for e in other if e.at == "/"}
