"""One call at a time for each share, and what becomes of a call whose caller gave up."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine

import pytest

from isthmus.model.errors import Exhausted, KernelRefused
from isthmus.model.names import ShareId, new_id
from isthmus.storage.exclusive import Exclusive

SHARE = ShareId(new_id())


def work_of(name: str, began: list[str], gate: asyncio.Event) -> Callable[[], Coroutine[object, object, str]]:
    async def work() -> str:
        began.append(name)
        await gate.wait()
        return name

    return work


async def test_calls_for_a_share_follow_each_other_and_others_do_not_wait() -> None:
    shares, gate = Exclusive(), asyncio.Event()
    began: list[str] = []
    calls = [asyncio.create_task(shares.alone("use", SHARE, work_of(name, began, gate))) for name in ("one", "two")]
    other = asyncio.create_task(shares.alone("use", ShareId(new_id()), work_of("other", began, gate)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert began == ["one", "other"]
    assert SHARE in shares.at_work()
    gate.set()
    assert await asyncio.gather(*calls, other) == ["one", "two", "other"]
    assert began == ["one", "other", "two"]
    assert shares.at_work() == frozenset()


async def test_what_was_begun_goes_on_and_what_only_waited_is_never_begun() -> None:
    shares, gate = Exclusive(), asyncio.Event()
    began: list[str] = []
    begun = asyncio.create_task(shares.alone("use", SHARE, work_of("begun", began, gate)))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(shares.alone("use", SHARE, work_of("waiting", began, gate)))
    await asyncio.sleep(0)
    for call in (begun, waiting):
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert SHARE in shares.at_work(), "it goes on though nobody waits"
    gate.set()
    assert await shares.alone("use", SHARE, work_of("next", began, gate)) == "next"
    assert began == ["begun", "next"]


async def test_an_error_is_told_of_the_share_and_frees_it() -> None:
    shares = Exclusive()

    async def fails(number: int) -> None:
        raise OSError(number, "x")

    with pytest.raises(Exhausted, match=f"cannot grow share {SHARE}"):
        await shares.alone("grow", SHARE, lambda: fails(errno.ENOSPC))
    with pytest.raises(KernelRefused, match=f"cannot grow share {SHARE}.*EIO"):
        await shares.alone("grow", SHARE, lambda: fails(errno.EIO))
    assert shares.at_work() == frozenset()
