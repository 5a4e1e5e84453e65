"""NFS through a gateway against the host's own mount of the same share, in rounds that take turns.

guest   fio in the guest, by its kernel's NFSv4.2 client, against fio on the host
wire    a raw NFSv4.1 client in the guest's namespace, against system calls on the host: the gateway without a guest
"""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import statistics
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from bench import wire
from bench.figures import MORE, Figure
from bench.stage import Run, booted, staged
from isthmus.host.command import Command
from isthmus.model.names import GuestId
from lab.guest import Guest

FIO = Path("/usr/bin/fio")
COMMON = {"name": "bench", "thread": 1, "output-format": "json", "fallocate": "none", "ioengine": "psync"}
JOBS: Mapping[str, Mapping[str, object]] = {
    "write 1 MiB, synced at the end": {"rw": "write", "bs": "1m", "end_fsync": 1},
    "read 1 MiB, direct": {"rw": "read", "bs": "1m", "direct": 1},
    "write 4 KiB at random, each synced": {"rw": "randwrite", "bs": "4k", "direct": 1, "sync": "dsync"},
    "read 4 KiB at random, direct": {"rw": "randread", "bs": "4k", "direct": 1},
    "create a file": {"ioengine": "filecreate", "create_on_open": 1},
    "stat a file": {"ioengine": "filestat"},
}
UNCACHED = "actimeo=0"  # so that the guest asks its gateway each time

Fio = Callable[[list[str]], Awaitable[str]]
Speeds = dict[tuple[str, str, str], dict[str, list[float]]]


async def nfs(run: Run) -> list[Figure]:
    """Operations and bytes per second, each with what it is of the host's own."""
    speeds: Speeds = {}
    async with staged() as stage, booted(stage, memory=768) as guest:
        share = (await stage.site.share(4 << 30))["id"]
        await stage.attach(share, guest.id, "/data")
        place = stage.on_host(share, "bench")
        run.say("bringing fio into the guest")
        await asyncio.to_thread(_pack, place.with_name("fio"))
        await asyncio.to_thread(place.mkdir)
        await guest.run(f"mount-isthmus /data /mnt {UNCACHED} && cp -r /mnt/fio /fio", deadline=120)
        namespace = stage.site.layout.netns(GuestId(guest.id))
        for number in range(run.rounds(2, 1)):
            for job in JOBS:
                for who, fio in (("through", _in_guest(guest)), ("own", _on_host(place))):
                    run.say(f"round {number + 1}, {who}: {job}")
                    unit, speed = await _fio(fio, job, f"{who}{number}", run)
                    speeds.setdefault(("guest", job, unit), {}).setdefault(who, []).append(speed)
            run.say(f"round {number + 1}, the raw client")
            await asyncio.to_thread(_wire, namespace, place, f"{number}", 0.3 if run.quick else 0.7, speeds)
        await guest.run("umount /mnt")
    return [figure for (client, job, unit), found in speeds.items() for figure in _figures(client, job, unit, found)]


def _figures(client: str, job: str, unit: str, found: Mapping[str, list[float]]) -> list[Figure]:
    ratio = statistics.median(found["through"]) / statistics.median(found["own"])
    return [
        Figure(
            f"NFS, {client}: {job}",
            unit,
            tuple(found["through"]),
            better=MORE,
            note=f"{ratio:.1%} of the host's own",
        ),
        Figure(f"host, as {client}: {job}", unit, tuple(found["own"]), better=MORE),
    ]


def _pack(where: Path) -> None:
    """fio with all that it loads."""
    where.mkdir()
    listed = subprocess.run(["ldd", str(FIO)], check=True, capture_output=True, text=True).stdout
    for path in {FIO, *(Path(word) for word in listed.split() if word.startswith("/"))}:
        shutil.copy(path, where)


def _in_guest(guest: Guest) -> Fio:
    program = "/fio/ld-linux-x86-64.so.2 --library-path /fio /fio/fio --directory=/mnt/bench"
    return lambda options: guest.run(f"{program} {shlex.join(options)}", deadline=120)


def _on_host(place: Path) -> Fio:
    async def fio(options: list[str]) -> str:
        return (await Command(("fio", f"--directory={place}", *options), deadline=120).run()).decode()

    return fio


async def _fio(fio: Fio, job: str, tag: str, run: Run) -> tuple[str, float]:
    """The unit and the speed of a job. ``tag`` names its files: a round reads and overwrites what it wrote."""
    chosen = {**COMMON, **JOBS[job]}
    if "rw" not in chosen:
        chosen |= {
            "nrfiles": run.rounds(200, 50),
            "filesize": "4k",
            "openfiles": 1,
            "filename_format": f"{tag}-$filenum",
        }
    else:
        chosen |= {"size": wire.AREA, "filename": f"{tag}-large"}
        if "end_fsync" not in chosen:
            chosen |= {"runtime": run.rounds(2, 1), "time_based": 1}
    result = json.loads(await fio([f"--{key}={value}" for key, value in chosen.items()]))["jobs"][0]
    side = result["write" if "write" in job else "read"]
    return ("MB/s", side["bw_bytes"] / 1e6) if "1 MiB" in job else ("per s", float(side["iops"]))


def _wire(namespace: str, place: Path, tag: str, seconds: float, speeds: Speeds) -> None:
    with wire.through(namespace, "/data/bench", f"wire{tag}") as far, wire.own(place, f"host{tag}") as near:
        workers: tuple[tuple[str, wire.Worker], ...] = (("through", far), ("own", near))
        for who, worker in workers:
            for (job, unit), speed in wire.speeds(worker, f"wire-{who}{tag}", seconds).items():
                speeds.setdefault(("wire", job, unit), {}).setdefault(who, []).append(speed)
