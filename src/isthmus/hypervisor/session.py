"""One conversation with one guest's QEMU, over its QMP socket (QEMU: docs/interop/qmp-spec, QEMU QMP Reference)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping
from enum import Enum, auto
from pathlib import Path
from typing import TypeVar

import msgspec
from qemu.qmp import (
    EventListener,
    ExecInterruptedError,
    ExecuteError,
    Message,
    QMPClient,
    QMPError,
    Runstate,
    StateError,
)

from isthmus.model.errors import HostFailure, Refused, Unavailable
from isthmus.model.names import GuestId

# Whatever it logs as an error it also raises, and a socket that refuses is an everyday matter here.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)

# How a conversation ends; the last two by what is no UTF-8, or nested too deeply.
_ENDS = (QMPError, OSError, EOFError, UnicodeDecodeError, RecursionError)

_Reply = TypeVar("_Reply")
QmpEvent = Mapping[str, object]


class Standing(Enum):
    """How far a conversation is."""

    CALLING = auto()  # connected, not greeted: QEMU hangs, or somebody else holds its monitor
    UP = auto()
    OVER = auto()


class DeviceMissing(HostFailure):
    """QEMU knows no device or back end of this name (its error class DeviceNotFound)."""

    code = "device-missing"


class Hangup(Unavailable):
    """The conversation ended: QEMU is gone, or closed the socket."""

    code = "guest-hung-up"


class Session:
    """Connects when made, and ends when QEMU hangs up or ``close`` is called; it is not used again.

    ``on_event`` gets QMP's events as they come; ``on_change`` is called whenever ``standing`` has changed.
    """

    def __init__(
        self, guest: GuestId, path: Path, on_event: Callable[[QmpEvent], None], on_change: Callable[[Session], None]
    ) -> None:
        self.guest = guest
        self.path = path
        self.standing = Standing.CALLING
        self._client = QMPClient(guest)
        self._client.events.event_filter = _refuse  # the default listener keeps all that it accepts
        self._client.register_listener(_Tap(on_event))
        self._on_change = on_change
        self._settled = asyncio.Event()
        self._fd_turn = asyncio.Lock()
        self._socket = _connect(path)
        self._task = asyncio.create_task(self._converse(), name=f"qmp {guest}")

    async def settled(self) -> None:
        """Return when it is no longer ``CALLING``."""
        await self._settled.wait()

    async def execute(self, command: str, arguments: Mapping[str, object], reply: type[_Reply]) -> _Reply:
        """QEMU's answer, checked to be a ``reply``. Raises ``Hangup``, ``DeviceMissing``, ``Refused`` for a command
        that this QEMU does not have, else ``HostFailure`` with QEMU's sentence."""
        try:
            value = await self._client.execute(command, arguments)
            return msgspec.convert(value, reply)
        except ExecuteError as error:
            raise self._refusal(command, error) from error
        except msgspec.ValidationError as error:
            raise HostFailure(f"cannot understand the answer of guest {self.guest} to {command}: {error}") from error
        except (ExecInterruptedError, StateError) as error:
            raise self._hangup(command) from error
        except QMPError as error:
            raise HostFailure(f"cannot understand what guest {self.guest} says to {command}: {error}") from error

    async def run(self, command: str, **arguments: object) -> None:
        """``execute`` where the answer says nothing. An underscore in a name stands for QMP's hyphen."""
        await self.execute(command, {name.replace("_", "-"): value for name, value in arguments.items()}, object)

    async def lend(self, name: str, fd: int) -> None:
        """QEMU holds a copy of the descriptor under ``name``, in place of an older one of that name."""
        async with self._fd_turn:  # getfd takes the last descriptor that came
            try:
                self._client.send_fd_scm(fd)
            except (StateError, OSError) as error:
                raise self._hangup("getfd") from error
            await self.run("getfd", fdname=name)

    async def close(self) -> None:
        """Hang up."""
        self._task.cancel()
        await asyncio.wait({self._task})
        self._socket.close()  # it may not even have begun

    async def _converse(self) -> None:
        try:
            with contextlib.suppress(*_ENDS):  # it hung up, or speaks no QMP: that is what OVER says
                await self._client.connect(self._socket)
                self._become(Standing.UP)
                while self._client.runstate is Runstate.RUNNING:
                    await self._client.runstate_changed()
        finally:
            self._become(Standing.OVER)
            with contextlib.suppress(*_ENDS):
                await self._client.disconnect()
            self._socket.close()

    def _become(self, standing: Standing) -> None:
        self.standing = standing
        self._settled.set()
        self._on_change(self)

    def _refusal(self, command: str, error: ExecuteError) -> HostFailure | Refused:
        said = f"cannot {command} in guest {self.guest}: {error}"
        detail = {"guest": self.guest, "command": command, "class": error.error_class}
        match error.error_class:
            case "DeviceNotFound":
                return DeviceMissing(said, detail=detail)
            case "CommandNotFound":
                return Refused(f"{said}: this QEMU is too old", code="qemu-too-old", detail=detail)
            case _:
                return HostFailure(said, code="qemu-refused", detail=detail)

    def _hangup(self, command: str) -> Hangup:
        return Hangup(f"cannot {command} in guest {self.guest}: QEMU hung up", detail={"guest": self.guest})


class _Tap(EventListener):
    """Hands events on instead of keeping them."""

    def __init__(self, hand: Callable[[QmpEvent], None]) -> None:
        super().__init__()
        self._hand = hand

    def accept(self, event: Message) -> bool:
        """Called by the client for each event; what is not accepted is not kept."""
        self._hand(event)
        return False


def _refuse(_event: Message) -> bool:
    return False


def _connect(path: Path) -> socket.socket:
    """Raises ``OSError``: ECONNREFUSED if nobody listens, EAGAIN if QEMU does not even take calls any more."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        connection.connect(str(path))
    except BaseException:
        connection.close()
        raise
    return connection
