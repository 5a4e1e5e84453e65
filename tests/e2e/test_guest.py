"""The lab's guest: it boots, runs scripts, and dies as told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from lab.guest import Guest, GuestFailed, GuestGone
from lab.image import GuestImage
from lab.image import guest_image as build_image

Boot = Callable[..., Awaitable[Guest]]


async def test_runs_a_script(guest: Guest, guest_image: GuestImage) -> None:
    assert await guest.run("uname -r") == guest_image.version + "\n"


async def test_any_text_survives(guest: Guest) -> None:
    text = 'it\'s "quoted" \\n \\\\ $HOME `id` ${x} %s\ttab é ☃\n\nREADY 1\n  end  '
    assert await guest.run(f"cat <<'EOF'\n{text}\nEOF\n") == text + "\n"


async def test_large_output_is_whole(guest: Guest) -> None:
    assert await guest.run("seq 1 20000") == "".join(f"{n}\n" for n in range(1, 20001))


async def test_failure_has_code_and_both_outputs(guest: Guest) -> None:
    with pytest.raises(GuestFailed) as raised:
        await guest.run("echo out; echo err >&2; exit 7")
    assert (raised.value.code, raised.value.stdout, raised.value.stderr) == (7, "out\n", "err\n")


async def test_scripts_run_side_by_side(guest: Guest) -> None:
    waiting = guest.start("until [ -e /tmp/go ]; do usleep 10000; done; rm /tmp/go; echo went")
    await guest.run("touch /tmp/go")
    assert (await asyncio.wait_for(waiting, 10)).stdout == "went\n"


async def test_a_script_given_up_does_not_disturb_the_next(guest: Guest) -> None:
    with pytest.raises(TimeoutError):
        await guest.run("until [ -e /tmp/end ]; do usleep 10000; done; rm /tmp/end; echo late", deadline=0.05)
    assert await guest.run("touch /tmp/end; echo soon") == "soon\n"
    assert await guest.run("while [ -e /tmp/end ]; do usleep 10000; done; echo done") == "done\n"


async def test_knows_nfs(guest: Guest) -> None:
    await guest.run("until grep -q '^nfsv4 ' /proc/modules; do usleep 50000; done")
    assert "nfs4" in await guest.run("cat /proc/filesystems")


async def test_reset_boots_again(boot: Boot) -> None:
    guest = await boot()
    waiting = guest.start("touch /tmp/here; sleep 100")
    await guest.reset()
    with pytest.raises(GuestGone):
        await waiting
    assert await guest.run("[ -e /tmp/here ] || echo fresh") == "fresh\n"


async def test_reboot_from_inside_is_noticed(boot: Boot) -> None:
    guest = await boot()
    first = await guest.run("cat /proc/sys/kernel/random/boot_id")
    with pytest.raises(GuestGone):
        await guest.run("reboot -f")
    await guest.booted()
    assert await guest.run("cat /proc/sys/kernel/random/boot_id") != first


async def test_a_crash_fails_what_runs(boot: Boot) -> None:
    guest = await boot()
    waiting = guest.start("sleep 100")
    await guest.kill()
    with pytest.raises(GuestGone):
        await waiting
    with pytest.raises(ProcessLookupError):
        os.kill(guest.pid, 0)


async def test_the_image_is_built_once(guest_image: GuestImage) -> None:
    again = build_image(lambda what: pytest.fail(f"it should be there, but is {what}"))
    assert again == guest_image
