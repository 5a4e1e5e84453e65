"""What gateways take of the host: memory, processor, and the pause when one is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from time import monotonic, perf_counter, sleep

from bench import wire
from bench.figures import Figure
from bench.machine import memory, processor_by_thread, processor_of, spent
from bench.stage import AUDIT, PAYLOAD, SETTLES, Run, Stage, booted, staged, until
from isthmus.host.sockets import socket_in
from isthmus.model.names import GuestId, new_id
from lab.guest import Guest
from tests.daemon.nfs_wire import NfsClient

FILES, OTHERS = 600, 4
TEAM = 8  # how many requests are under way when a crowd is made
GATEWAY = {"worst": 8.0}
IDLE = {"worst": 1.0}


async def gateway(run: Run) -> list[Figure]:
    """One gateway with one guest: its memory, and its end and return while the guest reads."""
    back: list[float] = []
    pauses: list[float] = []
    async with staged() as stage, booted(stage) as guest:
        share = await stage.site.share()
        await stage.attach(share["id"], guest.id, "/data")
        alone = memory(*stage.gateway(guest.id))[0]
        await guest.run("mount-isthmus /data /mnt && mkdir /mnt/many")
        run.say(f"{FILES} files")
        await guest.run(f"for n in $(seq {FILES}); do echo $n >/mnt/many/file$n; done; sync")
        used = memory(*stage.gateway(guest.id))[0]
        for _ in range(OTHERS):
            other = GuestId((await stage.site.guest(static=True))["id"])
            await until(lambda other=other: bool(stage.gateway(other)), "another gateway runs")  # type: ignore[misc]
            await asyncio.to_thread(_answered, stage.site.layout.netns(other))
        shared = memory(*stage.gateway(guest.id))[0]
        await asyncio.to_thread(stage.on_host(share["id"], "f").write_text, PAYLOAD)
        for number in range(run.rounds(8, 2)):
            run.say(f"kill {number + 1}")
            await guest.run("cat /mnt/f")
            await asyncio.sleep(0.3)  # a server that was just started has settled
            served, read = await _killed(stage, guest)
            back.append(served)
            pauses.append(read)
            # another order: the agent starts what ends again and again ever more slowly until it gets one
            snapshot = await stage.snapshot(share["id"])
            await stage.site.remove(f"snapshots/{snapshot['id']}")
        await guest.run("umount /mnt")
    return [
        Figure("memory of a gateway, alone, PSS", "MB", (alone,), GATEWAY, note="alone, it pays for all shared pages"),
        Figure(f"memory of a gateway, {FILES} files made, alone, PSS", "MB", (used,), GATEWAY),
        Figure(f"memory of a gateway, {FILES} files made, {OTHERS} others, PSS", "MB", (shared,), GATEWAY),
        Figure("gateway killed to serving again", "ms", tuple(back)),
        Figure("gateway killed to the guest's next read", "ms", tuple(pauses)),
    ]


async def _killed(stage: Stage, guest: Guest) -> tuple[float, float]:
    """Milliseconds until the gateway answers again, and until a read that the guest begins at once comes back."""
    namespace, (old,) = stage.site.layout.netns(GuestId(guest.id)), stage.gateway(guest.id)
    began = perf_counter()
    os.kill(old, signal.SIGKILL)
    await until(lambda: old not in stage.gateway(guest.id), "the gateway has ended")
    read = guest.start("read -r line </mnt/f && echo $line")
    await asyncio.to_thread(_answered, namespace)
    served = (perf_counter() - began) * 1000
    result = await read
    assert result.stdout == PAYLOAD, f"the guest read {result}"
    return served, (perf_counter() - began) * 1000


def _answered(namespace: str) -> None:
    """A server in the namespace answers an empty request. Blocks."""
    end = monotonic() + SETTLES
    while True:
        try:
            with NfsClient(socket_in(namespace)) as client:
                client.sock.connect(("127.0.0.1", wire.PORT))
                client.null()
                return
        except ConnectionError:
            if monotonic() > end:
                raise
            sleep(0.002)


async def crowd(run: Run) -> list[Figure]:
    """Many guests with a share each, and nothing to do."""
    few, many = (20, 50) if not run.quick else (8, 20)
    async with staged() as stage:
        await _grow(stage, few, run)
        each = [memory(pid)[0] for pid in stage.gateways()]
        await _grow(stage, many - few, run)
        run.say("resting")
        await asyncio.sleep(3)
        seconds = round(AUDIT) if not run.quick else 6  # one audit, one heartbeat, four looks at the pool
        run.say(f"idle for {seconds} s")
        pid, servers = stage.site.pid, stage.gateways()
        assert len(servers) == many, f"{len(servers)} gateways"
        began, ours, theirs = perf_counter(), processor_of(pid), processor_by_thread(*servers)
        await asyncio.sleep(seconds)
        took = perf_counter() - began
        agent = 100 * (processor_of(pid) - ours) / took
        serving = 100 * spent(theirs, processor_by_thread(*servers)) / took
        pss, rss = memory(pid)
    goal, note = ({}, "too short for an audit: not judged") if run.quick else (IDLE, "")
    return [
        Figure(f"memory of each of {few} gateways, PSS", "MB", tuple(each), GATEWAY),
        Figure(f"idle processor of {many} attachments, all", "% of a core", (agent + serving,), goal, note=note),
        Figure(f"idle processor of {many} attachments, isthmus up", "% of a core", (agent,)),
        Figure(f"idle processor of {many} attachments, {many} gateways", "% of a core", (serving,)),
        Figure(f"memory of isthmus up with {many} attachments, PSS", "MB", (pss,), {"worst": 120}),
        Figure(f"memory of isthmus up with {many} attachments, RSS", "MB", (rss,), {"worst": 120}),
    ]


async def _grow(stage: Stage, count: int, run: Run) -> None:
    team = asyncio.Semaphore(TEAM)

    async def one() -> None:
        async with team:
            guest = (await stage.site.guest(new_id(), static=True))["id"]
            share = await stage.site.share(1 << 30)
            await stage.attach(share["id"], guest, "/data", running=False)
            run.say(f"{len(stage.gateways())} gateways")

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())
