"""The Shared File Systems API: processor time per request, by how much it returns and by how much there is; creating.

Manila's own figures are **recorded**, not measured here: Manila 23.0.1 with its dummy driver, MariaDB, RabbitMQ and
memcached, on such a machine. Processor time is what noisy neighbours move least.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Mapping
from dataclasses import fields
from time import perf_counter

import httpx
import sqlalchemy as sa

from bench.figures import MORE, Figure
from bench.machine import memory, processor_by_thread, spent
from bench.stage import Run, Stage, staged
from isthmus.model.names import GIB, PoolName, ProjectId, ShareId, TypeName, new_id
from isthmus.model.share import Filesystem
from isthmus.model.status import ShareStatus
from isthmus.service.domain.hosts import register_host
from isthmus.service.domain.pools import register_pool
from isthmus.store import Store, schema
from isthmus.store.rows import ShareRow

PROJECT = ProjectId("paper")
"""Its shares are rows in a pool of a host that has no agent."""
SIZES = (1_000, 10_000, 100_000)
RECORDED: Mapping[str, str] = {
    "list of 1,000": "Manila, recorded: 340 to 386 ms",
    "detail of 1,000": "Manila, recorded: 850 to 920 ms",
    "page of 50": "Manila, recorded: 27 to 52 ms",
    "show": "Manila, recorded: 8 to 10 ms",
}
GOALS = {"list of 1,000": 3.4, "show": 0.6}


async def manila(run: Run) -> list[Figure]:
    """All of it."""
    async with staged() as stage:
        creating = await _creating(run, stage)
        resident = memory(stage.site.pid)[1]
        words = "Manila, recorded: 1,379 MB in 11 processes, and 512 MB around them"
        idle = [Figure("Manila API: memory of isthmus up, RSS", "MB", (resident,), {"worst": 120.0}, note=words)]
        reading: list[Figure] = []
        key, have = "", 0
        for size in SIZES[:2] if run.quick else SIZES:
            run.say(f"{size:,} shares")
            await stage.site.stop()
            key = await asyncio.to_thread(_fill, stage, size - have) or key
            have = size
            await stage.site.start()
            reading += await _reading(run, stage, key, size)
        await stage.site.stop()
        await asyncio.to_thread(_clear, stage)
        await stage.site.start()
        return [*reading, *creating, *idle]


def _fill(stage: Stage, count: int) -> str:
    """So many more rows of shares. Returns the id of one."""
    store = Store.open(_url(stage))
    base = datetime.datetime.now(datetime.UTC)
    try:
        with store.write() as tx:
            register_host(tx, "paper")
            register_pool(tx, name="paper", host="paper", path="/paper", overcommit=1000.0)
        names = [field.name for field in fields(ShareRow)]
        rows = [
            ShareRow(
                id=ShareId(new_id()),
                project=PROJECT,
                pool=PoolName("paper"),
                type=TypeName("default"),
                filesystem=Filesystem.BTRFS,
                checksums=False,
                size=GIB,
                status=ShareStatus.AVAILABLE,
                name=f"share {number}",
                made=True,
                actual=GIB,
                created_at=base + datetime.timedelta(milliseconds=number),
            )
            for number in range(count)
        ]
        with _engine(stage).begin() as connection:
            for first in range(0, count, 5000):
                part = rows[first : first + 5000]
                connection.execute(
                    sa.insert(schema.SHARES), [{name: getattr(row, name) for name in names} for row in part]
                )
        return rows[len(rows) // 2].id
    finally:
        store.close()


def _clear(stage: Stage) -> None:
    with _engine(stage).begin() as connection:
        connection.execute(sa.delete(schema.SHARES).where(schema.SHARES.c.project == PROJECT))
        connection.execute(sa.delete(schema.POOLS).where(schema.POOLS.c.name == "paper"))
        connection.execute(sa.delete(schema.HOSTS).where(schema.HOSTS.c.name == "paper"))


def _url(stage: Stage) -> str:
    return f"sqlite:///{stage.site.layout.database}"


def _engine(stage: Stage) -> sa.Engine:
    return sa.create_engine(_url(stage))


async def _reading(run: Run, stage: Stage, key: str, size: int) -> list[Figure]:
    mine = f"project_id={PROJECT}"
    asked = {
        "list of 1,000": f"/shares?{mine}&limit=1000",
        "detail of 1,000": f"/shares/detail?{mine}&limit=1000",
        "page of 50": f"/shares?{mine}&limit=50",
        "page of 50 in detail": f"/shares/detail?{mine}&limit=50",
        "by name": f"/shares/detail?{mine}&name=share%20500",
        "show": f"/shares/{key}",
    }
    found = []
    async with _client(stage) as http:
        for name, path in asked.items():
            heavy = "1,000" in name
            rounds = run.rounds(40 if heavy else 300, 10 if heavy else 50)
            for _ in range(5):
                (await http.get(path)).raise_for_status()
            used, walls = processor_by_thread(stage.site.pid), []
            for _ in range(rounds):
                began = perf_counter()
                (await http.get(path)).raise_for_status()
                walls.append((perf_counter() - began) * 1000)
            taken = spent(used, processor_by_thread(stage.site.pid)) * 1000 / rounds
            goal = {"median": GOALS[name]} if name in GOALS else {}
            found += [
                Figure(f"Manila API, {size:,} shares: {name}, CPU", "ms", (taken,), goal, note=RECORDED.get(name, "")),
                Figure(f"Manila API, {size:,} shares: {name}", "ms", tuple(walls)),
            ]
    return found


async def _creating(run: Run, stage: Stage) -> list[Figure]:
    """With real file systems, made by the agent in the same process."""
    took = []
    body = {"share": {"share_proto": "NFS", "size": 1}}
    run.say("one share after the other")
    async with _client(stage) as http:
        for _ in range(run.rounds(40, 5)):
            began = perf_counter()
            made = (await http.post(f"/{PROJECT}/shares", json=body)).raise_for_status().json()["share"]["id"]
            while (await http.get(f"/shares/{made}")).json()["share"]["status"] != "available":  # noqa: ASYNC110
                await asyncio.sleep(0.002)
            took.append((perf_counter() - began) * 1000)
            await stage.site.remove(f"shares/{made}")
        many = run.rounds(900, 40)
        run.say(f"{many} shares by 8 clients")
        left = iter(range(many))

        async def ask() -> None:
            async with _client(stage) as own:
                for _ in left:
                    (await own.post(f"/{PROJECT}/shares", json=body)).raise_for_status()

        used, began = processor_by_thread(stage.site.pid), perf_counter()
        await asyncio.gather(*(ask() for _ in range(8)))
        asked = perf_counter() - began
        taken = spent(used, processor_by_thread(stage.site.pid)) * 1000 / many
        while (await http.get("/shares?status=creating&limit=1")).json()["shares"]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        done = perf_counter() - began
    return [
        Figure("Manila API: create to available, with a file system", "ms", tuple(took), {"median": 80.0},
               note="Manila, recorded: 251 ms with a driver that does nothing"),
        Figure(f"Manila API: {many} creates asked for by 8 clients", "per s", (many / asked,), better=MORE,
               note="Manila, recorded: 9.1 per s"),
        Figure(f"Manila API: {many} creates by 8 clients, until all are available", "per s", (many / done,),
               better=MORE),
        Figure(f"Manila API: {many} creates by 8 clients, CPU each while they were asked for", "ms", (taken,),
               note="with the file systems that were made meanwhile; Manila, recorded: 215 ms"),
    ]  # fmt: skip


def _client(stage: Stage) -> httpx.AsyncClient:
    """One connection, as a client of the API has it."""
    return httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=str(stage.site.layout.api_socket)),
        base_url="http://isthmus/v2",
        headers={"X-OpenStack-Manila-API-Version": "2.82"},
        timeout=120,
    )
