"""Asking an NFSv4.1 server what a guest would see there, over one TCP connection.

Formats: RFC 5531 (RPC), RFC 8881 (NFSv4.1; operations by their sections in chapter 18), RFC 4506 (XDR).
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from isthmus.model.errors import Unavailable

_PROGRAM, _VERSION = 100003, 4
_ACCESS, _GETATTR, _LOOKUP, _PUTROOTFH = 3, 9, 15, 24
_EXCHANGE_ID, _CREATE_SESSION, _DESTROY_SESSION, _SEQUENCE, _DESTROY_CLIENTID = 42, 43, 44, 53, 57
_OK, _NOENT, _NOTDIR, _DELAY = 0, 2, 20, 10008
_FSID = 1 << 8  # the bit of attribute fsid (RFC 8881 section 5.6)
_MODIFY, _EXTEND = 4, 8  # the bits of ACCESS (18.1)
_LONGEST = 1 << 20  # no answer to what is asked here comes near


class Unreadable(Unavailable):
    """The server answers, but cannot say what is at a place: the file system there fails, say."""

    code = "place-unreadable"


@dataclass(frozen=True, slots=True)
class Found:
    """What is at a place: the file system's id (fsid4), and whether root may write there."""

    filesystem: tuple[int, int]
    writable: bool


class Visit:
    """A connection to a server. Whatever it answers out of turn is ``Unavailable``, as is a lost connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        # A client of its own: another visit by the same name would end this one's session. Not to be guessed: nor could
        # a guest.
        self._owner = f"isthmus-{secrets.token_hex(8)}".encode()
        self._xid = 0
        self._client = b""
        self._session = b""
        self._sequence = 0

    async def null(self) -> None:
        """The server answers (procedure 0)."""
        await self._call(0, b"")

    async def look(self, place: str) -> Found | None:
        """What is at an absolute path of the server's name space; None if nothing is. Raises ``Unreadable`` if that
        place alone fails."""
        if not self._session:
            await self._begin()
        names = [part.encode() for part in place.split("/") if part]
        self._sequence += 1
        status, results, reply = await self._compound(
            _u32(_SEQUENCE) + self._session + _u32(self._sequence, 0, 0, 0),
            _u32(_PUTROOTFH),
            *(_u32(_LOOKUP) + _opaque(name) for name in names),
            _u32(_GETATTR, 1, _FSID),
            _u32(_ACCESS, _MODIFY | _EXTEND),
        )
        if status in (_NOENT, _NOTDIR):
            return None
        if status not in (_OK, _DELAY) and results > 2:  # SEQUENCE and PUTROOTFH went well
            raise Unreadable(f"cannot look at {place} of an NFS server: status {status}")
        _expect(status == _OK, f"status {status}")
        reply.take(8 + 16 + 5 * 4)  # SEQUENCE (18.46)
        reply.take(8 * (1 + len(names)) + 8 + 8)  # no results but statuses; then GETATTR's, and its bitmap of one word
        reply.take(4)
        filesystem = (reply.u64(), reply.u64())
        reply.take(8 + 4)
        return Found(filesystem, bool(reply.u32()))

    async def end(self) -> None:
        """The server keeps nothing of this visit."""
        if self._session:
            await self._compound(_u32(_DESTROY_SESSION) + self._session)
            self._session = b""
        if self._client:
            await self._compound(_u32(_DESTROY_CLIENTID) + self._client)
            self._client = b""

    async def _begin(self) -> None:
        """EXCHANGE_ID (18.35), CREATE_SESSION (18.36)."""
        status, _, reply = await self._compound(
            _u32(_EXCHANGE_ID) + secrets.token_bytes(8) + _opaque(self._owner) + _u32(0, 0, 0)
        )
        _expect(status == _OK, f"no client: status {status}")
        reply.take(8)
        self._client, first = reply.take(8), reply.u32()
        channel = _u32(0, 1 << 14, 1 << 14, 1 << 12, 48, 1, 0)
        status, _, reply = await self._compound(
            _u32(_CREATE_SESSION) + self._client + _u32(first, 0) + channel + channel + _u32(0x4000_0000, 1, 0)
        )
        _expect(status == _OK, f"no session: status {status}")
        reply.take(8)
        self._session, self._sequence = reply.take(16), 0

    async def _compound(self, *operations: bytes) -> tuple[int, int, _Reply]:
        """The status of a COMPOUND (16.2), the number of its results (the last is the one that failed), and its reply
        from the first of them on."""
        reply = await self._call(1, _opaque(b"") + _u32(1, len(operations)) + b"".join(operations))
        status = reply.u32()
        reply.opaque()
        return status, reply.u32(), reply

    async def _call(self, procedure: int, body: bytes) -> _Reply:
        """The results of an accepted call (RFC 5531 section 9), as root by AUTH_SYS."""
        self._xid += 1
        credential = _u32(1) + _opaque(_u32(0) + _opaque(b"") + _u32(0, 0, 0))
        message = _u32(self._xid, 0, 2, _PROGRAM, _VERSION, procedure) + credential + _u32(0, 0) + body
        try:
            self._writer.write(_u32(0x8000_0000 | len(message)) + message)
            await self._writer.drain()
            reply = _Reply(await self._record())
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Unavailable(f"cannot ask an NFS server: {error}") from error
        _expect((reply.u32(), reply.u32(), reply.u32()) == (self._xid, 1, 0), "call not accepted")
        reply.u32()
        reply.opaque()
        _expect(reply.u32() == 0, "call not executed")
        return reply

    async def _record(self) -> bytes:
        """Fragments up to the last one (RFC 5531 section 11)."""
        record = b""
        while True:
            mark = int.from_bytes(await self._reader.readexactly(4), "big")
            length = mark & 0x7FFF_FFFF
            _expect(len(record) + length <= _LONGEST, "reply too long")
            record += await self._reader.readexactly(length)
            if mark & 0x8000_0000:
                return record


@asynccontextmanager
async def visit(sock: socket.socket, address: tuple[str, int]) -> AsyncIterator[Visit]:
    """A visit over a fresh non-blocking socket, which is closed afterwards. The caller sets the deadline."""
    try:
        await asyncio.get_running_loop().sock_connect(sock, address)
        reader, writer = await asyncio.open_connection(sock=sock)
    except OSError as error:
        sock.close()
        raise Unavailable(f"cannot reach an NFS server: {error}") from error
    except BaseException:
        sock.close()
        raise
    try:
        yield (visitor := Visit(reader, writer))
        await visitor.end()
    finally:
        writer.transport.abort()  # nothing is under way, and no TIME_WAIT is left in the guest's namespace


class _Reply:
    """XDR from bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        _expect(len(piece) == count, "reply too short")
        self._at += count
        return piece

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def opaque(self) -> bytes:
        length = self.u32()
        return self.take(length + -length % 4)[:length]


def _expect(truth: bool, otherwise: str) -> None:
    if not truth:
        raise Unavailable(f"cannot ask an NFS server: {otherwise}")


def _u32(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "big") for value in values)


def _opaque(data: bytes) -> bytes:
    return _u32(len(data)) + data + bytes(-len(data) % 4)
