"""Guests that QEMU runs, found by their QMP sockets: ``DIRECTORY/GUEST-UUID.qmp`` (docs/howto/qemu.md).

For each socket that takes calls there is one conversation (``session``), kept for as long as QEMU keeps it. The
directory's time stamp is looked at twice a second, and the directory read when it has changed: a few times over, as a
socket's file appears before anybody listens on it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from isthmus.hypervisor import nic
from isthmus.hypervisor.session import Hangup, QmpEvent, Session, Standing
from isthmus.model.errors import Invalid, IsthmusError, KernelRefused, NotFound, Unavailable
from isthmus.model.guest import GuestEvent, GuestEventKind, GuestSeen, GuestState, NicPlug, Plug
from isthmus.model.layout import Layout
from isthmus.model.names import GuestId, parse_uuid

SUFFIX = ".qmp"
_READINGS = 3  # of the directory after a change; so also one within the same tick of its time stamp is seen
_log = logging.getLogger(__name__)

# QEMU's RunState (qapi/run-state.json); all others are kinds of pause
_STATES = {
    "running": GuestState.RUNNING,
    "shutdown": GuestState.STOPPED,
    "guest-panicked": GuestState.STOPPED,
    "internal-error": GuestState.STOPPED,
}
_FileKey = tuple[int, int]
_Result = TypeVar("_Result")


class _Status(msgspec.Struct, frozen=True):
    """The part of query-status's answer that counts."""

    status: str


@dataclass(slots=True, eq=False)
class _Line:
    """What is known of one guest besides its conversation.

    ``turn``: changes of its devices, one at a time. ``leaving``: waits for a device to go, by id; ``gone`` is set when
    QEMU says so. ``mute``: a look at the guest that was not answered in time and is still open. ``on``: we have said
    that it started, and not yet that it stopped.
    """

    session: Session
    file: _FileKey
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    leaving: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    gone: dict[str, asyncio.Event] = field(default_factory=dict)
    mute: asyncio.Task[GuestSeen | None] | None = None
    on: bool = False


class QmpHypervisor:
    """``isthmus.hypervisor.base.Hypervisor`` for QEMU. ``answer``: seconds that a guest's QEMU has for an answer before
    it is left out; ``interval``: seconds between two looks into the directory, which may come to exist later."""

    def __init__(self, layout: Layout, directory: Path, *, answer: float = 2.0, interval: float = 0.5) -> None:
        self._prefix = f"{layout.prefix}-"
        self._directory = directory
        self._answer = answer
        self._interval = interval
        self._lines: dict[GuestId, _Line] = {}
        self._listeners: weakref.WeakSet[asyncio.Queue[GuestEvent]] = weakref.WeakSet()
        self._unsettled = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watch: asyncio.Task[None] | None = None

    async def guests(self) -> Mapping[GuestId, GuestSeen]:
        """As ``Hypervisor`` says. A guest that did not answer once is not waited for again until it does."""
        self._begin_watch()
        self._scan()
        looks = await asyncio.gather(*(self._look(line) for line in self._lines.values()))
        return {seen.id: seen for seen in looks if seen}

    async def plug(self, guest: GuestId, plug: Plug) -> None:
        """As ``Hypervisor`` says. A caller who gives up stops waiting; what was begun ends by itself."""
        line = await self._reach(guest)
        if line is None:
            raise NotFound("guest", guest)
        try:
            if plug.id in line.leaving:
                await self.unplug(guest, plug.id)
            if not await self._apart(self._plug(line, plug)):
                await self.unplug(guest, plug.id)
                await self._apart(self._plug(line, plug))
        except Hangup as error:
            raise NotFound("guest", guest) from error

    async def unplug(self, guest: GuestId, plug_id: str) -> None:
        """As ``Hypervisor`` says. Once asked for, it goes on: the guest lets go when it does, whoever still waits."""
        line = await self._reach(guest)
        if line is None:
            return
        wait = line.leaving.get(plug_id)
        if wait is None:
            line.gone[plug_id] = asyncio.Event()
            wait = line.leaving[plug_id] = self._spawn(self._leave(line, plug_id))
        else:
            # a guest that was still booting missed the first request
            with suppress(Hangup):  # the wait ends too
                await self._apart(self._ask(line, plug_id))
        await asyncio.shield(wait)

    def events(self) -> AsyncIterator[GuestEvent]:
        """As ``Hypervisor`` says, from this call on."""
        self._begin_watch()
        queue: asyncio.Queue[GuestEvent] = asyncio.Queue()
        self._listeners.add(queue)
        return _drain(queue)

    async def close(self) -> None:
        """As ``Hypervisor`` says."""
        tasks = [*self._tasks, *((self._watch,) if self._watch else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._watch = None
        lines, self._lines = self._lines, {}  # from here on nothing is told of them
        await asyncio.gather(*(line.session.close() for line in lines.values()))

    # ---- finding guests

    def _begin_watch(self) -> None:
        if self._watch is None:
            self._watch = asyncio.create_task(self._keep_scanning())

    async def _keep_scanning(self) -> None:
        stamp, readings = self._stamp(), _READINGS
        while True:
            last, stamp = stamp, self._stamp()
            if stamp != last or self._unsettled:
                readings, self._unsettled = _READINGS, False
            if readings:
                readings -= 1
                try:
                    self._scan()
                except KernelRefused as error:
                    _log.warning("%s", error)
            await asyncio.sleep(self._interval)

    def _stamp(self) -> tuple[int, int] | None:
        """Changes when a file appears in the directory or goes."""
        try:
            status = self._directory.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _scan(self) -> None:
        """There is a line for each socket that takes calls. Raises ``KernelRefused`` for a directory that cannot be
        read."""
        found = self._sockets()
        for guest, line in list(self._lines.items()):
            key = found.get(guest, (None, None))[1]
            replaced = key is not None and key != line.file
            if replaced or (key is None and line.session.standing is Standing.CALLING):
                self._forget(line)
        for guest, (path, key) in found.items():
            if guest not in self._lines:
                try:
                    session = Session(guest, path, partial(self._on_event, guest), self._on_change)
                except BlockingIOError:
                    self._unsettled = True  # QEMU listens, but has not even taken the calls before ours
                except OSError:
                    continue  # nobody listens: a stale socket, or one not ready yet
                else:
                    self._lines[guest] = _Line(session, key)

    def _sockets(self) -> Mapping[GuestId, tuple[Path, _FileKey]]:
        found = {}
        try:
            with os.scandir(self._directory) as entries:
                for entry in entries:
                    with suppress(Invalid, FileNotFoundError):
                        status = entry.stat()
                        if entry.name.endswith(SUFFIX) and stat.S_ISSOCK(status.st_mode):
                            guest = GuestId(parse_uuid(entry.name.removesuffix(SUFFIX), "guest"))
                            found[guest] = (Path(entry.path), (status.st_dev, status.st_ino))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise KernelRefused(f"look for guests in {self._directory}", error.errno or errno.EIO) from error
        return found

    async def _reach(self, guest: GuestId) -> _Line | None:
        """The guest's line, None if it does not run. Raises ``Unavailable`` if its QEMU does not answer the call."""
        line = self._lines.get(guest)
        if line is None or line.session.standing is not Standing.UP:
            self._scan()
            line = self._lines.get(guest)
        if line is None:
            return None
        try:
            async with asyncio.timeout(self._answer):
                await line.session.settled()
        except TimeoutError as error:
            raise Unavailable(
                f"cannot reach guest {guest}: QEMU does not answer on {line.session.path}: "
                "it hangs, or another program holds this monitor",
                detail={"guest": guest},
            ) from error
        return line if line.session.standing is Standing.UP else None

    # ---- looking at guests

    async def _look(self, line: _Line) -> GuestSeen | None:
        if line.mute and not line.mute.done():
            return None
        look = self._spawn(self._observe(line))
        done, _ = await asyncio.wait({look}, timeout=self._answer)
        line.mute = None if done else look
        return look.result() if done else None

    async def _observe(self, line: _Line) -> GuestSeen | None:
        session = line.session
        await session.settled()
        if session.standing is not Standing.UP:
            return None
        try:
            status, devices = await asyncio.gather(session.execute("query-status", {}, _Status), nic.devices(session))
        except Hangup:
            return None
        except IsthmusError as error:  # one odd guest hides no other
            _log.warning("%s", error)
            return None
        plugs = frozenset(name for name in devices if name.startswith(self._prefix) and name.isascii())
        state = _STATES.get(status.status, GuestState.PAUSED)
        return GuestSeen(session.guest, state, plugs, plugs & line.leaving.keys())

    # ---- devices

    async def _plug(self, line: _Line, plug: NicPlug) -> bool:
        """Whether the guest has the card now. False: it has one whose tap is no more, and which has to go first."""
        async with line.turn:
            if plug.id in await nic.devices(line.session):
                return await nic.is_live(plug)
            await nic.plug(line.session, plug)
            return True

    async def _leave(self, line: _Line, plug_id: str) -> None:
        try:
            await self._ask(line, plug_id)
            await line.gone[plug_id].wait()
            async with line.turn:
                await nic.remove_backend(line.session, plug_id)
        except Hangup:
            return  # the device went with its guest
        finally:
            del line.leaving[plug_id], line.gone[plug_id]

    async def _ask(self, line: _Line, plug_id: str) -> None:
        async with line.turn:
            gone = line.gone.get(plug_id)
            if gone and not await nic.ask_to_leave(line.session, plug_id):
                gone.set()

    # ---- what happens

    def _on_change(self, session: Session) -> None:
        line = self._lines.get(session.guest)
        if line is None or line.session is not session:
            return
        if session.standing is Standing.UP:
            self._switch(line, on=True)
        elif session.standing is Standing.OVER:
            self._forget(line)

    def _forget(self, line: _Line) -> None:
        del self._lines[line.session.guest]
        self._unsettled = True
        for gone in line.gone.values():
            gone.set()
        self._switch(line, on=False)
        if line.session.standing is not Standing.OVER:
            self._spawn(line.session.close())

    def _switch(self, line: _Line, *, on: bool) -> None:
        if line.on != on:
            line.on = on
            self._tell(line.session.guest, GuestEventKind.STARTED if on else GuestEventKind.STOPPED)

    def _on_event(self, guest: GuestId, event: QmpEvent) -> None:
        line = self._lines.get(guest)
        if line is None:
            return
        match event:
            case {"event": "RESET"}:
                line.on = True
                self._tell(guest, GuestEventKind.REBOOTED)
            case {"event": "SHUTDOWN"}:
                self._switch(line, on=False)
            case {"event": "DEVICE_DELETED", "data": {"device": str(device)}} if device.startswith(self._prefix):
                if gone := line.gone.get(device):
                    gone.set()
                self._tell(guest, GuestEventKind.UNPLUGGED, device)

    def _tell(self, guest: GuestId, kind: GuestEventKind, plug: str = "") -> None:
        for queue in self._listeners:
            queue.put_nowait(GuestEvent(guest, kind, plug))

    # ---- tasks of its own

    def _spawn(self, work: Coroutine[object, object, _Result]) -> asyncio.Task[_Result]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _apart(self, work: Coroutine[object, object, _Result]) -> _Result:
        """The work's result; it goes on if the caller is cancelled: a device is plugged whole or not at all."""
        return await asyncio.shield(self._spawn(work))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, IsthmusError):
            _log.debug("%s", error)  # whoever still waits gets it
        elif error:
            _log.error("cannot go on with a guest: %s", error, exc_info=error)


async def _drain(queue: asyncio.Queue[GuestEvent]) -> AsyncGenerator[GuestEvent, None]:
    while True:
        yield await queue.get()
