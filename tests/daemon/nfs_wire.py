"""A raw NFSv4.1 client over one TCP connection: enough to use an export, and to misuse one, with bytes of our own.

Formats: RFC 5531 (RPC), RFC 8881 (NFSv4.1; operations by their sections in chapter 18), RFC 5662 (its XDR).
It blocks, and shares no code with the product's own probe, so that neither can hide the other's mistakes.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Self

NFS4_OK, NFS4ERR_PERM, NFS4ERR_NOENT, NFS4ERR_ACCESS = 0, 1, 2, 13
NFS4ERR_ROFS, NFS4ERR_STALE, NFS4ERR_BADHANDLE = 30, 70, 10001
NFS4ERR_BADSESSION, NFS4ERR_COMPLETE_ALREADY, NFS4ERR_STALE_CLIENTID, NFS4ERR_BAD_STATEID = 10052, 10054, 10022, 10025

ACCESS, CLOSE, CREATE, GETATTR, GETFH, LOOKUP, LOOKUPP, OPEN = 3, 4, 6, 9, 10, 15, 16, 18
PUTFH, PUTROOTFH, READ, READDIR, REMOVE, SETATTR, WRITE = 22, 24, 25, 26, 28, 34, 38
EXCHANGE_ID, CREATE_SESSION, DESTROY_SESSION, SEQUENCE, DESTROY_CLIENTID, RECLAIM_COMPLETE = 42, 43, 44, 53, 57, 58

ANONYMOUS = bytes(16)  # the stateid of nobody's open (8.2.3)
FATTR4_CHANGE, FATTR4_SIZE, FATTR4_FSID, FATTR4_FILEID = 3, 4, 8, 20
FATTR4_MODE, FATTR4_OWNER = 33, 36


class NfsError(Exception):
    """The server refused an operation; ``status`` is its nfsstat4."""

    def __init__(self, operation: int, status: int) -> None:
        super().__init__(f"operation {operation}: status {status}")
        self.status = status


class Reader:
    """XDR (RFC 4506) from bytes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        piece = self.data[self.at : self.at + count]
        assert len(piece) == count, "the reply ends early"
        self.at += count
        return piece

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def opaque(self) -> bytes:
        length = self.u32()
        piece = self.take(length)
        self.take(-length % 4)
        return piece

    def bitmap(self) -> int:
        return sum(self.u32() << (32 * word) for word in range(self.u32()))


def u32(*values: int) -> bytes:
    return b"".join(struct.pack(">I", value) for value in values)


def u64(value: int) -> bytes:
    return struct.pack(">Q", value)


def opaque(data: bytes) -> bytes:
    return u32(len(data)) + data + bytes(-len(data) % 4)


def bitmap(*attributes: int) -> bytes:
    bits = sum(1 << number for number in attributes)
    words = [bits >> (32 * word) & 0xFFFFFFFF for word in range(2)]
    return u32(len(words), *words)


@dataclass(frozen=True)
class Attributes:
    """What a test asks of an object (5.8)."""

    change: int
    size: int
    fsid: tuple[int, int]
    fileid: int
    mode: int


@dataclass(frozen=True)
class Opened:
    """A file that this client has open."""

    handle: bytes
    stateid: bytes


class NfsClient:
    """A client with a session of one slot. Calls raise ``NfsError``."""

    def __init__(self, sock: socket.socket, *, owner: str = "wire", uid: int = 0, gid: int = 0) -> None:
        self.sock = sock
        self.owner = owner.encode()
        self.credential = u32(1) + opaque(u32(0) + opaque(b"wire") + u32(uid, gid, 0))  # AUTH_SYS, RFC 5531 appendix A
        self.xid = 0
        self.clientid = b""
        self.session = b""
        self.sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    # The layers below an operation.

    def call(self, procedure: int, body: bytes) -> Reader:
        self.xid += 1
        message = u32(self.xid, 0, 2, 100003, 4, procedure) + self.credential + u32(0, 0) + body
        self.sock.sendall(u32(0x80000000 | len(message)) + message)
        reply = b""
        last = 0
        while not last:
            (mark,) = struct.unpack(">I", self._exactly(4))
            last = mark & 0x80000000
            reply += self._exactly(mark & 0x7FFFFFFF)
        reader = Reader(reply)
        assert (reader.u32(), reader.u32(), reader.u32()) == (self.xid, 1, 0), "not an accepted reply"
        reader.u32(), reader.opaque()  # the server's verifier
        assert reader.u32() == 0, "the call was not executed"
        return reader

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.sock.recv(count - len(data))
            if not piece:
                raise ConnectionError("the server closed the connection")
            data += piece
        return data

    def null(self) -> None:
        self.call(0, b"")

    def compound(self, *operations: bytes) -> Reader:
        """The reply from the first operation's result on (number, status, body ...); raises if one failed."""
        reader = self.call(1, opaque(b"") + u32(1, len(operations)) + b"".join(operations))
        status, _, count = reader.u32(), reader.opaque(), reader.u32()
        if status != NFS4_OK:
            raise NfsError(int.from_bytes(operations[count - 1][:4], "big"), status)
        return reader

    def sequenced(self, *operations: bytes) -> Reader:
        """A compound in the session, made if there is none; the reply from behind SEQUENCE (18.46)."""
        if not self.session:
            self.open_session()
        self.sequence += 1
        reader = self.compound(u32(SEQUENCE) + self.session + u32(self.sequence, 0, 0, 0), *operations)
        self.expect(reader, SEQUENCE).take(16 + 5 * 4)
        return reader

    @staticmethod
    def expect(reader: Reader, operation: int) -> Reader:
        assert (reader.u32(), reader.u32()) == (operation, NFS4_OK)
        return reader

    def open_session(self) -> None:
        """EXCHANGE_ID (18.35), CREATE_SESSION (18.36), RECLAIM_COMPLETE (18.51)."""
        reader = self.compound(u32(EXCHANGE_ID) + bytes(8) + opaque(self.owner) + u32(0, 0, 0))
        self.clientid = self.expect(reader, EXCHANGE_ID).take(8)
        first = reader.u32()
        channel = u32(0, 1 << 20, 1 << 20, 1 << 14, 16, 1, 0)
        reader = self.compound(
            u32(CREATE_SESSION) + self.clientid + u32(first, 0) + channel + channel + u32(0x40000000, 1, 0)
        )
        self.session = self.expect(reader, CREATE_SESSION).take(16)
        self.sequence = 0
        try:
            self.sequenced(u32(RECLAIM_COMPLETE, 0))
        except NfsError as error:
            if error.status != NFS4ERR_COMPLETE_ALREADY:  # the same owner came back
                raise

    # Operations.

    def lookup(self, path: str) -> bytes:
        """The handle of an absolute path in the server's name space."""
        names = [part.encode() for part in path.split("/") if part]
        reader = self.sequenced(u32(PUTROOTFH), *(u32(LOOKUP) + opaque(name) for name in names), u32(GETFH))
        self.expect(reader, PUTROOTFH)
        for _ in names:
            self.expect(reader, LOOKUP)
        return self.expect(reader, GETFH).opaque()

    def lookup_in(self, directory: bytes, name: str) -> bytes:
        reader = self.sequenced(u32(PUTFH) + opaque(directory), u32(LOOKUP) + opaque(name.encode()), u32(GETFH))
        self.expect(self.expect(self.expect(reader, PUTFH), LOOKUP), GETFH)
        return reader.opaque()

    def attributes(self, handle: bytes) -> Attributes:
        asked = bitmap(FATTR4_CHANGE, FATTR4_SIZE, FATTR4_FSID, FATTR4_FILEID, FATTR4_MODE)
        reader = self.sequenced(u32(PUTFH) + opaque(handle), u32(GETATTR) + asked)
        self.expect(self.expect(reader, PUTFH), GETATTR).bitmap()
        reader.u32()
        change, size, major, minor, fileid = (reader.u64() for _ in range(5))
        return Attributes(change, size, (major, minor), fileid, reader.u32())

    def access(self, handle: bytes, wanted: int = 0x3F) -> int:
        reader = self.sequenced(u32(PUTFH) + opaque(handle), u32(ACCESS, wanted))
        self.expect(self.expect(reader, PUTFH), ACCESS).u32()
        return reader.u32()

    def open(self, directory: bytes, name: str, *, create: bool = False) -> Opened:
        """OPEN for reading and writing (18.16)."""
        how = u32(1, 0) + bitmap(FATTR4_MODE) + opaque(u32(0o644)) if create else u32(0)
        owner = self.clientid + opaque(b"owner")
        reader = self.sequenced(
            u32(PUTFH) + opaque(directory),
            u32(OPEN, 0, 3, 0) + owner + how + u32(0) + opaque(name.encode()),
            u32(GETFH),
        )
        stateid = self.expect(self.expect(reader, PUTFH), OPEN).take(16)
        reader.take(4 + 8 + 8 + 4)  # change info and flags
        reader.bitmap()
        if reader.u32() == 3:  # OPEN_DELEGATE_NONE_EXT says why
            reader.u32()
        return Opened(self.expect(reader, GETFH).opaque(), stateid)

    def close(self, opened: Opened) -> None:
        self.sequenced(u32(PUTFH) + opaque(opened.handle), u32(CLOSE, 0) + opened.stateid)

    def write(self, handle: bytes, data: bytes, *, offset: int = 0, stateid: bytes = ANONYMOUS) -> int:
        """WRITE to stable storage (18.32)."""
        reader = self.sequenced(u32(PUTFH) + opaque(handle), u32(WRITE) + stateid + u64(offset) + u32(2) + opaque(data))
        return self.expect(self.expect(reader, PUTFH), WRITE).u32()

    def read(self, handle: bytes, *, offset: int = 0, count: int = 1 << 16, stateid: bytes = ANONYMOUS) -> bytes:
        reader = self.sequenced(u32(PUTFH) + opaque(handle), u32(READ) + stateid + u64(offset) + u32(count))
        self.expect(self.expect(reader, PUTFH), READ).u32()
        return reader.opaque()

    def names(self, directory: bytes) -> set[str]:
        """READDIR from the beginning, as far as one reply goes (18.23)."""
        reader = self.sequenced(
            u32(PUTFH) + opaque(directory),
            u32(READDIR) + u64(0) + bytes(8) + u32(1 << 14, 1 << 16) + bitmap(FATTR4_FILEID),
        )
        self.expect(self.expect(reader, PUTFH), READDIR).take(8)
        found = set()
        while reader.u32():
            reader.u64()
            found.add(reader.opaque().decode())
            reader.bitmap(), reader.opaque()
        return found

    def change_attributes(self, handle: bytes, *, mode: int | None = None, owner: str | None = None) -> None:
        """SETATTR (18.30)."""
        values = (b"" if mode is None else u32(mode)) + (b"" if owner is None else opaque(owner.encode()))
        numbers = [n for n, value in ((FATTR4_MODE, mode), (FATTR4_OWNER, owner)) if value is not None]
        self.sequenced(u32(PUTFH) + opaque(handle), u32(SETATTR) + ANONYMOUS + bitmap(*numbers) + opaque(values))

    def make_directory(self, parent: bytes, name: str) -> None:
        """CREATE of a directory (18.4)."""
        made = u32(CREATE, 2) + opaque(name.encode()) + bitmap(FATTR4_MODE) + opaque(u32(0o755))
        self.sequenced(u32(PUTFH) + opaque(parent), made)

    def remove(self, directory: bytes, name: str) -> None:
        self.sequenced(u32(PUTFH) + opaque(directory), u32(REMOVE) + opaque(name.encode()))

    def create_file(self, directory: bytes, name: str, data: bytes = b"") -> bytes:
        """A new file with these bytes, on stable storage; its handle."""
        opened = self.open(directory, name, create=True)
        if data:
            self.write(opened.handle, data, stateid=opened.stateid)
        self.close(opened)
        return opened.handle
