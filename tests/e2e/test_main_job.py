"""A real guest uses shares through its gateway: what a user does, in sentences."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from isthmus.host.child import ChildSupervisor
from isthmus.model.names import GuestId, ShareId
from lab.guest import Guest, GuestFailed
from lab.image import GuestImage
from lab.site import Site, SiteError
from tests.e2e.conftest import Boot, new_guest_id

GIB = 1 << 30


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A host with a pool; taken down at the end, with nothing left."""
    work = tmp_path_factory.mktemp("site")
    async with Site(work, f"istest{secrets.token_hex(3)}") as made:
        await made.pool()
        yield made
        await made.take_down()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def machine(site: Site, guest_image: GuestImage) -> AsyncIterator[Guest]:
    """A running guest of the site, registered with a link of its own."""
    async with Guest(new_guest_id(), site.config.qmp, guest_image) as guest:
        await site.guest(guest.id, static=True)
        yield guest


async def forget(site: Site, *attachments: dict[str, Any]) -> None:
    """Attachments and then their shares are gone."""
    for item in attachments:
        await site.remove(f"attachments/{item['id']}")
    for item in attachments:
        await site.remove(f"shares/{item['share']}")


def on_host(site: Site, share: str, name: str) -> Path:
    """A file of a mounted share as the host sees it."""
    return Path(site.layout.share_data(ShareId(share))) / name


async def test_the_guest_writes_and_the_host_reads_the_same_bytes(site: Site, machine: Guest) -> None:
    share = await site.share()
    attachment = await site.attach(share["id"], machine.id, at="/data")
    await machine.run("mount-isthmus /data /mnt && dd if=/dev/urandom of=/mnt/f bs=1M count=5 conv=fsync 2>/dev/null")
    digest = (await machine.run("sha256sum < /mnt/f")).split()[0]
    assert sha256(on_host(site, share["id"], "f").read_bytes()).hexdigest() == digest
    on_host(site, share["id"], "from-host").write_text("hello\n")
    assert await machine.run("cat /mnt/from-host") == "hello\n"
    size = int((await machine.run("df -k /mnt | tail -1")).split()[1]) * 1024
    assert size == GIB
    await machine.run("umount /mnt")
    await forget(site, attachment)


async def test_places_form_one_name_space_and_come_and_go_without_disturbing_each_other(
    site: Site, machine: Guest
) -> None:
    one, two = await site.share(), await site.share()
    first = await site.attach(one["id"], machine.id, at="/home")
    await machine.run("mount-isthmus / /all && touch /all/home/kept")
    writer = machine.start("exec 3>/all/home/log; for n in $(seq 200); do echo $n >&3; usleep 5000; done; sync")
    second = await site.attach(two["id"], machine.id, at="/data/models")
    assert "kept" in await machine.run("touch /all/data/models/m && ls /all/home /all/data/models")
    await site.remove(f"attachments/{second['id']}")
    with pytest.raises(GuestFailed):
        await machine.run("touch /all/data/models/new 2>/dev/null")  # what the guest has cached, it may still list
    assert (await writer).code == 0
    assert (await machine.run("tail -n 1 /all/home/log")).strip() == "200"
    await machine.run("umount -l /all")
    await site.remove(f"shares/{two['id']}")
    await forget(site, first)


async def test_a_read_only_attachment_refuses_the_guests_root(site: Site, machine: Guest) -> None:
    share = await site.share()
    attachment = await site.attach(share["id"], machine.id, at="/ro", access="ro")
    on_host(site, share["id"], "f").write_text("as it was")
    await machine.run("mount-isthmus /ro /mnt")
    for attempt in ("echo x > /mnt/f", "touch /mnt/new", "rm /mnt/f", "chmod 777 /mnt/f", "mkdir /mnt/d"):
        with pytest.raises(GuestFailed):
            await machine.run(attempt)
    assert await machine.run("cat /mnt/f") == "as it was"
    await machine.run("umount /mnt")
    await forget(site, attachment)


async def test_a_share_grows_and_shrinks_under_the_guest(site: Site, machine: Guest) -> None:
    share = await site.share()
    attachment = await site.attach(share["id"], machine.id, at="/data")
    await machine.run("mount-isthmus /data /mnt && dd if=/dev/zero of=/mnt/f bs=1M count=20 conv=fsync 2>/dev/null")
    for size in (3 * GIB, GIB // 2):
        await site.call("PATCH", f"shares/{share['id']}", {"size": size})
        await site.until(f"shares/{share['id']}", "available")
        assert int((await machine.run("df -k /mnt | tail -1")).split()[1]) * 1024 == size
    assert (await machine.run("wc -c < /mnt/f")).strip() == str(20 << 20)
    await machine.run("umount /mnt")
    await forget(site, attachment)


async def test_the_share_is_full_where_it_says_and_stays_whole(site: Site, machine: Guest) -> None:
    share = await site.share(GIB // 4)
    attachment = await site.attach(share["id"], machine.id, at="/small")
    await machine.run("mount-isthmus /small /mnt && echo precious > /mnt/kept && sync")
    with pytest.raises(GuestFailed, match="No space left"):
        await machine.run("dd if=/dev/zero of=/mnt/big bs=1M count=400 conv=fsync", deadline=100)
    await machine.run("rm /mnt/big && sync && echo again > /mnt/more && sync")
    assert await machine.run("cat /mnt/kept /mnt/more") == "precious\nagain\n"
    await machine.run("umount /mnt")
    await forget(site, attachment)


async def test_a_snapshot_brings_back_what_was_overwritten(site: Site, machine: Guest) -> None:
    share = await site.share()
    attachment = await site.attach(share["id"], machine.id, at="/data")
    await machine.run("mount-isthmus /data /mnt && echo before > /mnt/f && sync")
    snapshot = await site.call("POST", "snapshots", {"share": share["id"]})
    await site.until(f"snapshots/{snapshot['id']}", "available")
    await machine.run("echo after > /mnt/f && sync && umount /mnt")
    await site.call("POST", f"shares/{share['id']}/revert", {"snapshot": snapshot["id"]})
    await site.until(f"shares/{share['id']}", "available")
    await site.until(f"attachments/{attachment['id']}", "attached")
    assert await machine.run("mount-isthmus /data /mnt && cat /mnt/f") == "before\n"
    clone = await site.share(2 * GIB, source_snapshot=snapshot["id"])
    copied = await site.attach(clone["id"], machine.id, at="/clone")
    assert await machine.run("mount-isthmus /clone /mnt2 && cat /mnt2/f") == "before\n"
    await machine.run("umount /mnt /mnt2")
    await site.remove(f"snapshots/{snapshot['id']}")
    await forget(site, attachment, copied)


async def test_detaching_takes_access_at_once(site: Site, machine: Guest) -> None:
    share = await site.share()
    attachment = await site.attach(share["id"], machine.id, at="/data")
    await machine.run("mount-isthmus /data /mnt && echo secret > /mnt/f && sync && exec 3</mnt/f")
    await site.remove(f"attachments/{attachment['id']}")
    with pytest.raises(GuestFailed, match="Stale file handle"):
        await machine.run("cat /mnt/f")
    await machine.run("umount -l /mnt")
    assert not on_host(site, share["id"], "").exists()
    await site.remove(f"shares/{share['id']}")


async def test_the_guest_reaches_its_gateways_port_and_nothing_else(site: Site, machine: Guest) -> None:
    assert "open" in await machine.run("nc -w 1 169.254.77.2 2049 </dev/null && echo open")
    for port in (22, 111, 2048, 24007):
        with pytest.raises(GuestFailed):
            await machine.run(f"nc -w 1 169.254.77.2 {port} </dev/null")
    routes = await machine.run("cat /proc/net/route")
    assert "00000000" not in [line.split()[1] for line in routes.splitlines()[1:]], "no default route was given"


async def test_a_rebooted_guest_finds_its_shares_again(site: Site, machine: Guest) -> None:
    share = await site.share()
    attachment = await site.attach(share["id"], machine.id, at="/data")
    await machine.run("mount-isthmus /data /mnt && echo survived > /mnt/f && sync")
    await machine.reset()
    assert await machine.run("mount-isthmus /data /mnt && cat /mnt/f") == "survived\n"
    await machine.run("umount /mnt")
    await forget(site, attachment)


async def test_a_stopped_guest_waits_and_gets_its_share_when_it_runs(site: Site, guest_image: GuestImage) -> None:
    share = await site.share()
    ident = new_guest_id()
    await site.guest(ident)
    attachment = await site.attach(share["id"], ident, at="/data", status="waiting")
    assert "not running" in attachment["reason"]
    async with Guest(ident, site.config.qmp, guest_image) as late:
        await site.until(f"attachments/{attachment['id']}", "attached")
        await late.run("mount-isthmus /data /mnt && echo here > /mnt/f && sync")
        await late.kill()
        await site.until(f"attachments/{attachment['id']}", "waiting")
    assert on_host(site, share["id"], "f").read_text() == "here\n"
    async with Guest(ident, site.config.qmp, guest_image) as again:
        await site.until(f"attachments/{attachment['id']}", "attached")
        assert await again.run("mount-isthmus /data /mnt && cat /mnt/f") == "here\n"
        await again.run("umount /mnt")
        await forget(site, attachment)
        await site.call("DELETE", f"guests/{ident}")
        async with asyncio.timeout(20):
            while (Path("/run/netns") / site.layout.netns(ident)).exists():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert "eth0" not in await again.run("ls /sys/class/net")


async def test_a_gateway_that_is_killed_is_back_and_the_guest_goes_on(site: Site, machine: Guest) -> None:
    share = await site.share()
    attachment = await site.attach(share["id"], machine.id, at="/data")
    await machine.run("mount-isthmus /data /mnt && echo synced > /mnt/before && sync")
    writer = machine.start("for n in $(seq 300); do echo $n >> /mnt/log || exit 1; usleep 3000; done; sync")
    await asyncio.sleep(0.3)
    unit = site.layout.unit("nfs", GuestId(machine.id))
    before = (await ChildSupervisor(site.layout).observe())[unit]
    os.kill(before.pid, signal.SIGKILL)
    assert (await writer).code == 0, "the guest's writes go on without an error"
    after = (await ChildSupervisor(site.layout).observe())[unit]
    assert (after.pid, after.started) != (before.pid, before.started)
    assert await machine.run("cat /mnt/before") == "synced\n"
    assert (await machine.run("cat /mnt/log")).split() == [str(n) for n in range(1, 301)]
    await machine.run("umount /mnt")
    await forget(site, attachment)


async def test_what_cannot_be_is_refused_with_its_reason(site: Site, machine: Guest) -> None:
    share = await site.share()
    attachment = await site.attach(share["id"], machine.id, at="/data")
    other = await site.share()
    refusals = [
        ({"share": share["id"], "guest": machine.id, "at": "/twice"}, 409),
        ({"share": other["id"], "guest": machine.id, "at": "/data"}, 409),
        ({"share": other["id"], "guest": machine.id, "at": "/data/below"}, 409),
        ({"share": other["id"], "guest": machine.id, "at": "/"}, 409),
        ({"share": other["id"], "guest": machine.id, "at": "/../etc"}, 400),
        ({"share": other["id"], "guest": machine.id, "sub_path": "a/b"}, 422),
        ({"share": other["id"], "guest": new_guest_id(), "at": "/x"}, 404),
    ]
    for body, status in refusals:
        with pytest.raises(SiteError) as refused:
            await site.call("POST", "attachments", body)
        assert refused.value.status == status, body
    assert [item["id"] for item in (await site.call("GET", "attachments"))["items"]] == [attachment["id"]]
    await site.remove(f"shares/{other['id']}")
    await forget(site, attachment)


async def test_a_guest_that_hangs_stops_nobody_and_keeps_nothing(site: Site, machine: Guest, boot: Boot) -> None:
    """Its hypervisor process does not run at all: it answers neither QMP nor an unplug."""
    hung = await boot(site.config.qmp)
    await site.guest(hung.id)
    one, two = await site.share(), await site.share()
    taken = await site.attach(one["id"], hung.id, at="/data")
    os.kill(hung.pid, signal.SIGSTOP)
    await site.remove(f"attachments/{taken['id']}")
    given = await site.attach(two["id"], machine.id, at="/other")
    assert await machine.run("mount-isthmus /other /mnt && echo fine > /mnt/f && cat /mnt/f && umount /mnt") == "fine\n"
    async with asyncio.timeout(30):
        while (Path("/run/netns") / site.layout.netns(GuestId(hung.id))).exists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    os.kill(hung.pid, signal.SIGCONT)
    async with asyncio.timeout(40):
        while "eth0" in await hung.run("ls /sys/class/net"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await site.call("DELETE", f"guests/{hung.id}")
    await site.remove(f"shares/{one['id']}")
    await forget(site, given)


async def test_the_ipv6_end_of_the_link_needs_no_configuration(site: Site, machine: Guest) -> None:
    share = await site.share()
    attachment = await site.attach(share["id"], machine.id, at="/six")
    options = "vers=4.2,addr=fe80::1%eth0,clientaddr=fe80::3,proto=tcp6,sec=sys"
    await machine.run(
        f"mkdir -p /mnt && mount -t nfs4 -o {options} '[fe80::1%eth0]:/six' /mnt && echo six > /mnt/f && sync"
    )
    assert on_host(site, share["id"], "f").read_text() == "six\n"
    await machine.run("umount /mnt")
    await forget(site, attachment)
