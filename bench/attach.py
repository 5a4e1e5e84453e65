"""How long a guest waits for a share, and how fast it loses one."""

from __future__ import annotations

import asyncio
from time import perf_counter

from bench.figures import Figure
from bench.machine import memory
from bench.stage import PAYLOAD, Run, Stage, booted, staged
from lab.guest import Guest
from lab.site import Json

WARM = {"median": 150.0, "p99": 400.0}
COLD = {"median": 700.0}
OWN, BELOW, FRESH = "by a mount of its own", "below a mounted /", "a new share, a byte written and read"

Times = dict[str, list[float]]


async def attach(run: Run) -> list[Figure]:
    """With the link up and another share attached, in three ways that take turns; and the detaches in between."""
    times: Times = {}
    async with staged() as stage, booted(stage) as guest:
        resident = await stage.site.share()
        await stage.attach(resident["id"], guest.id, "/resident")
        shares = [await stage.seeded(new["id"]) for new in [await stage.site.guest(static=True)] for _ in range(3)]
        for number in range(run.rounds(40, 5)):
            run.say(f"attach {number + 1}")
            share = shares[number % len(shares)]["id"]
            await _own_mount(stage, guest, share, times)
            share = shares[(number + 1) % len(shares)]["id"]
            await _below_root(stage, guest, share, f"/place{number}", times)
            if number % 2 == 0:
                await _new_share(stage, guest, times)
        pss, rss = memory(stage.site.pid)
    figures = [Figure(f"attach requested to a byte read, {way}", "ms", tuple(times[way]), WARM) for way in (OWN, BELOW)]
    figures.append(Figure(f"attach requested to {FRESH}", "ms", tuple(times[FRESH])))
    figures.append(Figure("attach requested to attached", "ms", tuple(times["attached"])))
    figures.append(Figure("detach requested to gone", "ms", tuple(times["gone"])))
    figures.append(Figure("detach requested to the guest refused", "ms", tuple(times["refused"])))
    served = f"after {len(times['attached'])} attachments"
    figures.append(Figure(f"memory of isthmus up {served}, PSS", "MB", (pss,), {"worst": 120}))
    figures.append(Figure(f"memory of isthmus up {served}, RSS", "MB", (rss,), {"worst": 120}))
    return figures


async def cold(run: Run) -> list[Figure]:
    """The same for a running guest that has no link, no gateway and no network card yet."""
    took: list[float] = []
    attached: list[float] = []
    async with staged() as stage, booted(stage, static=False) as guest:
        helper = await stage.site.guest(static=True)
        share = (await stage.seeded(helper["id"]))["id"]
        for number in range(run.rounds(12, 3)):
            run.say(f"cold attach {number + 1}")
            began = perf_counter()
            attachment = await stage.attach(share, guest.id, "/cold")
            attached.append((perf_counter() - began) * 1000)
            await _expect(guest, "mount-isthmus /cold /mnt && cat /mnt/f")
            took.append((perf_counter() - began) * 1000)
            await guest.run("umount /mnt")
            await stage.detach(attachment)
            await stage.unlinked(guest.id)
            await guest.run("while [ -e /sys/class/net/eth0 ]; do usleep 10000; done")
    return [
        Figure("attach requested to a byte read, cold", "ms", tuple(took), COLD),
        Figure("attach requested to attached, cold", "ms", tuple(attached)),
    ]


async def _own_mount(stage: Stage, guest: Guest, share: str, times: Times) -> None:
    """The guest has nothing of its gateway mounted. Then the share is taken away while the guest reads it."""
    began = perf_counter()
    attachment = await stage.attach(share, guest.id, "/data")
    _note(times, "attached", began)
    await _expect(guest, "mount-isthmus /data /mnt && cat /mnt/f")
    _note(times, OWN, began)
    reader = guest.start("while read -r line </mnt/f; do :; done")
    await asyncio.sleep(0.05)  # it reads
    began = perf_counter()
    reader.add_done_callback(lambda _: _note(times, "refused", began))
    await _detach(stage, attachment, times)
    await reader
    await guest.run("umount -l /mnt")


async def _below_root(stage: Stage, guest: Guest, share: str, place: str, times: Times) -> None:
    """The guest has mounted the whole of its name space, and finds the share in a place that it has not looked at."""
    await guest.run("mount-isthmus / /all && ls /all")
    began = perf_counter()
    attachment = await stage.attach(share, guest.id, place)
    _note(times, "attached", began)
    await _expect(guest, f"cat /all{place}/f")
    _note(times, BELOW, began)
    await guest.run(f"umount /all{place}")
    await _detach(stage, attachment, times)
    await guest.run("umount /all")


async def _new_share(stage: Stage, guest: Guest, times: Times) -> None:
    share = await stage.site.share(10 << 30)
    began = perf_counter()
    attachment = await stage.attach(share["id"], guest.id, "/new")
    _note(times, "attached", began)
    await guest.run("mount-isthmus /new /mnt && echo x >/mnt/f && sync /mnt/f && cat /mnt/f")
    _note(times, FRESH, began)
    await guest.run("umount /mnt")
    await _detach(stage, attachment, times)
    await stage.site.remove(f"shares/{share['id']}")


async def _detach(stage: Stage, attachment: Json, times: Times) -> None:
    began = perf_counter()
    await stage.site.remove(f"attachments/{attachment['id']}")
    _note(times, "gone", began)
    await stage.unmounted(attachment["share"])


async def _expect(guest: Guest, script: str) -> None:
    said = await guest.run(script)
    assert said == PAYLOAD, f"the guest read {said!r}"


def _note(times: Times, name: str, began: float) -> None:
    times.setdefault(name, []).append((perf_counter() - began) * 1000)
