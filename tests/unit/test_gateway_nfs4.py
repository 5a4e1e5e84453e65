"""The probe and servers that answer out of turn: real sockets, since a gateway in a guest's power may say anything."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from isthmus.gateway import nfs4
from isthmus.model.errors import Unavailable


@asynccontextmanager
async def answering(data: bytes) -> AsyncIterator[tuple[str, int]]:
    """A server that says this to whatever it is asked first, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(data)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()


def fresh() -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    return sock


def record(*words: int, tail: bytes = b"") -> bytes:
    body = b"".join(word.to_bytes(4, "big") for word in words) + tail
    return (0x80000000 | len(body)).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x80\x00\x00\x00",
        b"\xff\xff\xff\xff" + bytes(100),
        bytes(4 * 100),
        record(2, 1, 0, 0, 0, 0),  # another call's
        record(1, 0, 0, 0, 0, 0),  # a call, no reply
        record(1, 1, 1, 0, 0),  # denied
        record(1, 1, 0, 0, 0, 1),  # no such program
        record(1, 1, 0, 0, 0xFFFFFFFF),  # a verifier longer than the record
        record(1, 1, 0, 0, 0, 0, 0),  # accepted, and cut off
        record(1, 1, 0, 0, 0, 0, 10008, 0, 0),  # NFS4ERR_DELAY
    ],
)
async def test_nonsense_is_unavailable(data: bytes) -> None:
    async with answering(data) as address, asyncio.timeout(5):
        with pytest.raises(Unavailable):
            async with nfs4.visit(fresh(), address) as visitor:
                await visitor.look("/share")


async def test_nobody_there_is_unavailable() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="cannot reach"):
            async with nfs4.visit(fresh(), reserved.getsockname()):
                pass


async def test_a_null_call_is_answered() -> None:
    async with answering(record(1, 1, 0, 0, 0, 0)) as address, nfs4.visit(fresh(), address) as visitor:
        await visitor.null()
