"""Copies of shares between real pools of a real host: migrations, backups, and volumes that were left."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.model.names import GIB, MIB
from lab.site import Site

pytestmark = pytest.mark.timeout(120)
START = {"preserve_metadata": True, "writable": True, "nondisruptive": False, "preserve_snapshots": False}


class Place:
    """A site with two pools, each for the backups of the other, and the Shared File Systems API on its socket."""

    def __init__(self, site: Site, http: httpx.AsyncClient) -> None:
        self.site, self.http = site, http

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """An answer of success."""
        headers = {"X-OpenStack-Manila-API-Version": "2.98"}
        answer = await self.http.request(method, f"/v2{path}", json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def share(self, key: str) -> Any:
        """As it is shown."""
        return (await self.ask("GET", f"/shares/{key}"))["share"]

    async def act(self, key: str, action: str, body: Any = None, noun: str = "shares") -> None:
        """It is asked for."""
        await self.ask("POST", f"/{noun}/{key}/action", {action: body})

    async def until(self, key: str, **wanted: str) -> None:
        """The share shows this."""
        await until(lambda: self.shows(f"/shares/{key}", "share", **wanted))

    async def shows(self, path: str, root: str, **wanted: str) -> bool:
        """Whether it does now."""
        found = (await self.ask("GET", path))[root]
        return all(found[name] == value for name, value in wanted.items())

    def volume(self, pool: str) -> str:
        """The only one in a pool."""
        (found,) = (self.site.work / pool / "shares").iterdir()
        return found.name

    async def empty(self, pool: str) -> None:
        """Nothing is left in the pool."""

        async def is_empty() -> bool:
            return not any((self.site.work / pool / "shares").iterdir())

        await until(is_empty)

    def data(self, volume: str) -> Path:
        """Where the host has a mounted volume."""
        return Path(self.site.layout.share_data(volume))  # type: ignore[arg-type]


async def until(there: Callable[[], Any]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(30):
        while not await there():  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(0.05)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with Site(tmp_path, f"istest{secrets.token_hex(3)}") as site:
        for name in ("pool", "archive"):
            await site.pool(name, overcommit=100.0)
        await site.call("PATCH", "pools/pool", {"backups": "archive"})
        transport = httpx.AsyncHTTPTransport(uds=str(site.layout.api_socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://isthmus", timeout=30) as http:
            yield Place(site, http)


async def attached(place: Place, **wanted: Any) -> tuple[str, str, Path]:
    """A share, its attachment, and where its files are."""
    share = await place.site.share(GIB, **wanted)
    guest = await place.site.guest()
    attachment = await place.site.attach(share["id"], guest["id"], status="waiting", at="/data")
    return share["id"], attachment["id"], place.data(share["id"])


async def test_a_share_moves_to_another_pool_with_all_that_was_written(place: Place) -> None:
    key, attachment, data = await attached(place)
    (data / "before").write_bytes(os.urandom(4 * MIB))
    before = (data / "before").read_bytes()
    await place.act(key, "migration_start", {"host": f"{place.site.prefix}@local#archive", **START})
    await place.until(key, task_state="data_copying_completed")
    volume = place.volume("archive")
    assert place.volume("pool") == key
    (data / "meanwhile").write_text("written after the first round")
    await place.act(key, "migration_complete")
    await place.until(key, status="available", task_state="migration_success")
    await place.site.until(f"attachments/{attachment}", "waiting")
    moved = place.data(volume)
    assert (moved / "before").read_bytes() == before
    assert (moved / "meanwhile").read_text() == "written after the first round"
    await place.empty("pool")
    assert not data.exists()
    assert (await place.site.call("GET", f"shares/{key}"))["pool"] == "archive"


async def test_another_file_system_too_and_back(place: Place) -> None:
    await place.site.call("POST", "types", {"name": "plain", "filesystem": "xfs"})
    key, attachment, data = await attached(place)
    (data / "kept").write_text("kept")
    os.setxattr(data / "kept", "user.mark", b"x")
    for target, kind in (("archive", "plain"), ("pool", "default")):
        host = f"{place.site.prefix}@local#{target}"
        types = {one["name"]: one["id"] for one in (await place.ask("GET", "/types"))["share_types"]}
        await place.act(key, "migration_start", {"host": host, "new_share_type_id": types[kind], **START})
        await place.until(key, task_state="data_copying_completed")
        await place.act(key, "migration_complete")
        await place.until(key, status="available", task_state="migration_success")
        await place.site.until(f"attachments/{attachment}", "waiting")
        moved = place.data(place.volume(target))
        assert (moved / "kept").read_text() == "kept"
        assert os.getxattr(moved / "kept", "user.mark") == b"x"
        other = "pool" if target == "archive" else "archive"
        await place.empty(other)


async def test_a_cancelled_migration_leaves_nothing(place: Place) -> None:
    key, _, data = await attached(place)
    (data / "big").write_bytes(os.urandom(64 * MIB))
    await place.act(key, "migration_start", {"host": f"{place.site.prefix}@local#archive", **START})
    await place.act(key, "migration_cancel")
    await place.until(key, status="available", task_state="migration_cancelled")
    await place.empty("archive")
    assert (data / "big").stat().st_size == 64 * MIB


async def test_a_service_that_is_killed_goes_on_with_it(place: Place) -> None:
    key, attachment, data = await attached(place)
    (data / "big").write_bytes(os.urandom(64 * MIB))
    await place.act(key, "migration_start", {"host": f"{place.site.prefix}@local#archive", **START})
    await place.site.kill()
    await place.site.start()
    await place.until(key, task_state="data_copying_completed")
    await place.act(key, "migration_complete")
    await place.site.kill()
    await place.site.start()
    await place.until(key, status="available", task_state="migration_success")
    await place.site.until(f"attachments/{attachment}", "waiting")
    assert (place.data(place.volume("archive")) / "big").stat().st_size == 64 * MIB


async def test_a_backup_brings_back_what_was_there(place: Place) -> None:
    key, attachment, data = await attached(place)
    (data / "file").write_text("monday")
    made = (await place.ask("POST", "/share-backups", {"share_backup": {"share_id": key}}))["share_backup"]["id"]
    path = f"/share-backups/{made}"
    await until(lambda: place.shows(path, "share_backup", status="available"))
    (data / "file").write_text("tuesday")
    (data / "new").write_text("tuesday")
    await place.act(made, "restore", noun="share-backups")
    await place.until(key, status="available")
    await place.site.until(f"attachments/{attachment}", "waiting")
    assert {one.name: one.read_text() for one in data.iterdir()} == {"file": "monday"}
    await place.ask("DELETE", path)
    await place.empty("archive")


async def test_a_volume_that_was_left_is_found_with_its_files(place: Place) -> None:
    key, attachment, data = await attached(place)
    (data / "file").write_text("kept")
    await place.site.remove(f"attachments/{attachment}")
    await place.act(key, "unmanage")
    body = {
        "service_host": f"{place.site.prefix}@local#pool",
        "protocol": "NFS",
        "export_path": str(place.site.work / "pool" / "shares" / key),
        "driver_options": {"project_id": "demo"},
    }
    await place.ask("POST", "/shares/manage", {"share": body})
    await place.until(key, status="available")
    assert (await place.share(key))["size"] == 1
    guest = (await place.site.call("GET", "guests"))["items"][0]["id"]
    await place.site.attach(key, guest, status="waiting", at="/data")
    assert (data / "file").read_text() == "kept"
