"""What a local share costs: the time of each operation, and the speed of each file system in an image on a loop device
against the host's own. Needs root and fio; takes about four minutes and 16 GiB in the pool's directory.

    python -m bench.storage [DIRECTORY]      prints the figures as JSON
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any

from isthmus.host.command import Command
from isthmus.model.layout import Layout
from isthmus.model.names import GIB, MIB, HostName, PoolName, ShareId, SnapshotId, new_id
from isthmus.model.share import Filesystem, Origin, Pool, ShareSpec
from isthmus.storage.local import LocalDriver

POOL = PoolName("bench")
ROUNDS = 3
SECONDS = 2
MANY = 100
JOBS: Mapping[str, tuple[str, str]] = {
    "write 1 MiB": ("write", "1m"),
    "read 1 MiB": ("read", "1m"),
    "write 4 KiB": ("randwrite", "4k"),
    "read 4 KiB": ("randread", "4k"),
}
KINDS: Mapping[str, tuple[Filesystem, bool]] = {
    "btrfs checksums": (Filesystem.BTRFS, True),
    "btrfs nodatacow": (Filesystem.BTRFS, False),
    "xfs": (Filesystem.XFS, False),
    "ext4": (Filesystem.EXT4, False),
}

Times = defaultdict[str, list[float]]


def run(directory: Path | None = None) -> dict[str, Any]:
    """``milliseconds``: by operation, the median and the slowest of ``count``. ``operations_per_second``: by file
    system and job, the median of rounds that take turns (fio, direct I/O, 16 at a time, a file of 1 GiB)."""
    prefix = f"isbench{secrets.token_hex(3)}"
    place = Path(tempfile.mkdtemp(prefix=prefix, dir=directory))
    layout = Layout(prefix, Path("/run") / prefix, place / "state")
    layout.run.mkdir(mode=0o700)
    try:
        return asyncio.run(_run(place, layout))
    finally:
        shutil.rmtree(layout.run)
        shutil.rmtree(place)


async def _run(place: Path, layout: Layout) -> dict[str, Any]:
    driver = LocalDriver(Pool(POOL, "local", HostName("bench"), str(place)), layout)
    times: Times = defaultdict(list)
    try:
        for name, kind in KINDS.items():
            await _lives(driver, times, name, *kind)
        await _sizes(driver, times)
        await _crowd(driver, times)
        speeds = await _speeds(driver, place)
    finally:
        for share in (await driver.observe()).shares:
            await driver.delete(share)
    return {
        "milliseconds": {
            name: {"median": round(statistics.median(took), 1), "slowest": round(max(took), 1), "count": len(took)}
            for name, took in times.items()
        },
        "operations_per_second": speeds,
    }


async def _timed(times: Times, name: str, work: Awaitable[object]) -> None:
    began = time.perf_counter()
    await work
    times[name].append((time.perf_counter() - began) * 1000)


async def _lives(driver: LocalDriver, times: Times, name: str, filesystem: Filesystem, checksums: bool) -> None:
    """The life of a small share, ten times."""
    for _ in range(10):
        share = ShareId(new_id())
        spec = ShareSpec(share, POOL, 10 * GIB, filesystem, checksums)
        await _timed(times, f"{name}: create", driver.create(spec))
        await _timed(times, f"{name}: first mount", driver.source(share))
        await _timed(times, f"{name}: release", driver.release(share))
        await _timed(times, f"{name}: mount", driver.source(share))
        await _timed(times, f"{name}: grow", driver.resize(share, 12 * GIB))
        await driver.release(share)
        await _timed(times, f"{name}: delete", driver.delete(share))


async def _sizes(driver: LocalDriver, times: Times) -> None:
    """Snapshot, revert and clone of much and of little."""
    for name, size in (("10 MB", 10 * MIB), ("2 GB", 2 * GIB)):
        share = ShareId(new_id())
        await driver.create(ShareSpec(share, POOL, 4 * GIB))
        await asyncio.to_thread(_write, (await driver.source(share)).path, size)
        for generation in range(1, 11):
            snapshot = SnapshotId(new_id())
            await driver.source(share)
            await _timed(times, f"snapshot of {name}", driver.snapshot(share, snapshot))
            await driver.release(share)
            await _timed(times, f"revert of {name}, unmounted", driver.revert(share, snapshot, generation))
            await driver.source(share)
            await _timed(times, f"delete a snapshot of {name}", driver.delete_snapshot(share, snapshot))
        for _ in range(ROUNDS):
            copy = ShareId(new_id())
            await _timed(times, f"clone of {name}", driver.clone(ShareSpec(copy, POOL, 4 * GIB, origin=Origin(share))))
            await driver.delete(copy)
        await driver.delete(share)


def _write(place: str, size: int) -> None:
    with (Path(place) / "data").open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
        file.flush()
        os.fsync(file.fileno())


async def _crowd(driver: LocalDriver, times: Times) -> None:
    """A look at many shares, none and then half of them mounted."""
    shares = [ShareId(new_id()) for _ in range(MANY)]
    for share in shares:
        await driver.create(ShareSpec(share, POOL, GIB))
    for mounted in (0, MANY // 2):
        for share in shares[:mounted]:
            await driver.source(share)
        for _ in range(20):
            await _timed(times, f"observe {MANY} shares, {mounted} mounted", driver.observe())
    for share in shares:
        await driver.delete(share)


async def _speeds(driver: LocalDriver, place: Path) -> dict[str, dict[str, int]]:
    targets = {"host": place / "host"}
    targets["host"].mkdir()
    for name, (filesystem, checksums) in KINDS.items():
        share = ShareId(new_id())
        await driver.create(ShareSpec(share, POOL, 4 * GIB, filesystem, checksums))
        targets[name] = Path((await driver.source(share)).path)
    results: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in targets}
    for target in targets.values():
        await asyncio.to_thread(_write, str(target), GIB)
    for _ in range(ROUNDS):
        for job, (pattern, block) in JOBS.items():
            for name, target in targets.items():
                results[name][job].append(await _fio(target / "data", pattern, block))
    return {
        name: {job: round(statistics.median(found)) for job, found in jobs.items()} for name, jobs in results.items()
    }


async def _fio(file: Path, pattern: str, block: str) -> float:
    options: Mapping[str, object] = {
        "name": "bench",
        "filename": file,
        "size": GIB,
        "rw": pattern,
        "bs": block,
        "direct": 1,
        "ioengine": "libaio",
        "iodepth": 16,
        "time_based": 1,
        "runtime": SECONDS,
        "output-format": "json",
    }
    argv = ("fio", *(f"--{key}={value}" for key, value in options.items()))
    job = json.loads(await Command(argv, deadline=120).run())["jobs"][0]
    return float(job["write" if "write" in pattern else "read"]["iops"])


if __name__ == "__main__":
    json.dump(run(Path(sys.argv[1]) if len(sys.argv) > 1 else None), sys.stdout, indent=2)
