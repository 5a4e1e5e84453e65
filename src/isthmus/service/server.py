"""Listening: a unix socket that root alone can open, or an address of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from isthmus.model.address import MAX_UNIX_PATH, Address, TcpAddress, UnixAddress
from isthmus.model.errors import Conflict, Invalid, KernelRefused, Refused
from isthmus.service.service import Service

GRACE = 5
"""Seconds that running requests have when the server stops. Long-polls are answered at once."""


class _Protocol(HttpToolsProtocol):
    """Puts the TLS client's certificate into the scope of each request, as the ASGI TLS extension has it. It is the
    TLS layer's word: no header can say so."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection, whose handshake is done."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        self._chain = (ssl.DER_cert_to_PEM_cert(der),) if der else ()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        extensions: dict[str, Any] = dict(self.scope.get("extensions") or {})
        if self._chain:
            extensions["tls"] = {"client_cert_chain": self._chain}
        self.scope["extensions"] = extensions


class _Server(uvicorn.Server):
    """Shares its event loop with others, so it leaves the signals to whoever owns the process. Tells when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Take no more connections, and finish."""
        self.should_exit = True
        self._ended.set()

    async def main_loop(self) -> None:
        """Wait to be ended. Uvicorn's own looks ten times a second, for the sake of the Date header."""
        await self._ended.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections from now on."""
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@contextlib.asynccontextmanager
async def listening(
    service: Service, address: Address, *, app: ASGIApp | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[socket.socket]:
    """The service answers at ``address`` meanwhile with ``app`` (default: as root has it); yields the listening socket.
    At the end, long-polls are answered, running requests finished, and the unix socket is gone; closing the service is
    the caller's.

    Raises ``Refused`` for an address without TLS that other machines reach, ``Conflict`` if another service listens
    there, ``Invalid``, ``KernelRefused``.
    """
    listener = _bind(address, encrypted=tls is not None)
    config = uvicorn.Config(
        app or service.app,
        loop="none",
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=65,  # longer than a long-poll, so that an agent keeps its connection
        timeout_graceful_shutdown=GRACE,
    )
    config.load()
    config.ssl = tls
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]), name="http-server")
    try:
        await _up(server, running)
        yield listener
    finally:
        service.watch.close()
        server.end()
        await running
        listener.close()
        if isinstance(address, UnixAddress):
            address.path.unlink(missing_ok=True)


async def _up(server: _Server, running: asyncio.Task[None]) -> None:
    """The server takes connections. Raises what kept it from doing so."""
    up = asyncio.create_task(server.up.wait())
    await asyncio.wait({up, running}, return_when=asyncio.FIRST_COMPLETED)
    up.cancel()
    if running.done():
        await running


def _bind(address: Address, *, encrypted: bool) -> socket.socket:
    try:
        if isinstance(address, UnixAddress):
            return _bind_unix(address.path)
        return _bind_tcp(address, encrypted=encrypted)
    except OSError as error:
        raise KernelRefused(f"listen on {address}", error.errno or 0) from error


def _bind_unix(path: Path) -> socket.socket:
    """A socket of mode 0600, not listening yet: nobody can connect before its mode is right."""
    if len(bytes(path)) > MAX_UNIX_PATH:
        raise Invalid(
            f"cannot listen on {path}: a unix socket's path has at most {MAX_UNIX_PATH} bytes", field="listen"
        )
    _clear_stale(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
    except OSError:
        listener.close()
        raise
    return listener


def _clear_stale(path: Path) -> None:
    """What a service that was killed left behind is gone. Raises ``Conflict`` if one answers there."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
    raise Conflict(f"cannot listen on {path}: another service does", code="address-in-use", detail={"path": str(path)})


def _bind_tcp(address: TcpAddress, *, encrypted: bool) -> socket.socket:
    host = "127.0.0.1" if address.host == "localhost" else address.host
    try:
        ip = ipaddress.ip_address(host)
    except ValueError as error:
        raise Invalid(f"cannot listen on {address.host}: give an IP address", field="listen") from error
    if not ip.is_loopback and not encrypted:
        raise Refused(
            f"cannot listen on {address.host} without TLS: other machines reach it: use a unix socket, 127.0.0.1 or "
            "::1 for service.listen, and service.public for users elsewhere",
            code="address-not-loopback",
            detail={"address": address.host},
        )
    family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET
    # With its protocol named: else asyncio does not see that it is TCP, leaves Nagle on, and answers take 40 ms longer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(ip), address.port))
    except OSError:
        listener.close()
        raise
    return listener
