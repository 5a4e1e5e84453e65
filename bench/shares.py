"""How fast shares and snapshots are made."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.figures import Figure
from bench.stage import Run, Stage, staged
from isthmus.model.names import new_id

TYPES = {"btrfs": "default", "xfs": "xfs", "ext4": "ext4"}


async def shares(run: Run) -> list[Figure]:
    """From the request for a share to its being available, its file system made."""
    times: dict[str, list[float]] = {kind: [] for kind in TYPES}
    async with staged() as stage:
        for kind, name in TYPES.items():
            if name != "default":
                await stage.site.call("POST", "types", {"name": name, "filesystem": kind})
        for number in range(run.rounds(40, 6)):
            run.say(f"share {number + 1}")
            for kind, name in TYPES.items():
                body = {"project": "bench", "pool": "pool", "size": 10 << 30, "type": name}
                share, took = await _available(stage, "shares", body)
                times[kind].append(took)
                await stage.site.remove(f"shares/{share['id']}")
    return [
        Figure(f"share requested to available, {kind}", "ms", tuple(took), {"median": 80} if kind == "btrfs" else {})
        for kind, took in times.items()
    ]


async def snapshots(run: Run) -> list[Figure]:
    """From the request for a snapshot of an attached share to its being available."""
    times: dict[str, list[float]] = {}
    async with staged() as stage:
        guest = (await stage.site.guest(new_id(), static=True))["id"]
        held = {}
        for name, size in {"10 MB": 10 << 20, "2 GB": 2 << 30}.items():
            run.say(f"writing {name}")
            share = await stage.site.share(10 << 30)
            await stage.attach(share["id"], guest, f"/{share['id']}", running=False)
            await asyncio.to_thread(_fill, stage.on_host(share["id"], "data"), size)
            held[name], times[name] = share["id"], []
        for number in range(run.rounds(30, 6)):
            run.say(f"snapshot {number + 1}")
            for name, share_id in held.items():
                snapshot, took = await _available(stage, "snapshots", {"share": share_id})
                times[name].append(took)
                await stage.site.remove(f"snapshots/{snapshot['id']}")
    return [
        Figure(f"snapshot requested to available, {name} of data", "ms", tuple(took), {"median": 40})
        for name, took in times.items()
    ]


async def _available(stage: Stage, noun: str, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
    began = perf_counter()
    made = await stage.site.call("POST", noun, body)
    await stage.site.until(f"{noun}/{made['id']}", "available")
    return made, (perf_counter() - began) * 1000


def _fill(path: Path, size: int) -> None:
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
