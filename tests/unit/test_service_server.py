"""Listening: who can connect, what is refused, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from isthmus.model.address import TcpAddress, UnixAddress
from isthmus.model.errors import Conflict, Invalid, KernelRefused, Refused
from isthmus.model.layout import Layout
from isthmus.service.server import listening
from isthmus.service.service import Service
from isthmus.store import Changed
from tests import service_kit as kit


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    store = kit.opened(tmp_path)
    kit.equip(store)
    service = Service(store)
    yield service
    await service.close()
    store.close()


def client_of(path: Path) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), base_url="http://isthmus")


async def test_the_socket_is_for_its_owner_and_goes_with_the_service(service: Service, layout: Layout) -> None:
    path = layout.api_socket
    before = signal.getsignal(signal.SIGTERM)
    async with listening(service, UnixAddress(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with client_of(path) as client:
            assert (await client.get("/v1")).json()["name"] == "isthmus"
        assert signal.getsignal(signal.SIGTERM) is before
    assert not path.exists()


async def test_a_stale_socket_is_replaced_and_a_live_one_is_not(service: Service, layout: Layout) -> None:
    path = layout.api_socket
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with listening(service, UnixAddress(path)):
        with pytest.raises(Conflict, match="another service does"):
            async with listening(service, UnixAddress(path)):
                pass
        async with client_of(path) as client:
            assert (await client.get("/v1/health")).status_code == 200


async def test_a_file_that_is_no_socket_is_left_alone(service: Service, layout: Layout) -> None:
    layout.api_socket.write_text("precious")
    with pytest.raises(KernelRefused):
        async with listening(service, UnixAddress(layout.api_socket)):
            pass
    assert layout.api_socket.read_text() == "precious"


async def test_stopping_answers_those_who_wait_at_once(service: Service, layout: Layout) -> None:
    async with client_of(layout.api_socket) as client:
        async with listening(service, UnixAddress(layout.api_socket)):
            now = (await client.get("/v1/hosts/h1")).json()["desired_revision"]
            path = "/v1/hosts/h1/desired"
            waiting = asyncio.create_task(client.get(path, params={"after": now, "timeout": 60}))
            await asyncio.sleep(0.1)
            assert not waiting.done()
        async with asyncio.timeout(5):
            assert (await waiting).status_code == 204


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_a_loopback_address_will_do(service: Service, host: str) -> None:
    async with listening(service, TcpAddress(host, 0)) as listener:
        name = listener.getsockname()
        url = f"http://[{name[0]}]:{name[1]}" if ":" in name[0] else f"http://{name[0]}:{name[1]}"
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{url}/v1")).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",  # noqa: S104 - to be refused
        "::",
        "192.0.2.1",
        "2001:db8::1",
    ],
)
async def test_an_address_that_others_reach_is_refused(service: Service, host: str) -> None:
    with pytest.raises(Refused, match="without TLS"):
        async with listening(service, TcpAddress(host, 0)):
            pass


async def test_a_wrong_address_is_invalid(service: Service, tmp_path: Path) -> None:
    for address in (TcpAddress("example.org", 80), UnixAddress(tmp_path / ("x" * 200))):
        with pytest.raises(Invalid, match="cannot listen"):
            async with listening(service, address):
                pass


async def test_a_commit_out_of_order_rings_for_everybody(service: Service) -> None:
    """What came in between is another process's, so nobody here knows whom it concerns."""
    looks = 0

    async def look() -> bool | None:
        nonlocal looks
        looks += 1
        return True if looks > 1 else None

    waiting = asyncio.create_task(service.watch.until("share/x", look, 60))
    await asyncio.sleep(0.05)
    service.watch._committed(Changed(frozenset({"share/another"}), 1_000_000))
    async with asyncio.timeout(5):
        assert await waiting is True
