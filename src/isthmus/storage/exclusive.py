"""One call at a time for each share."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from isthmus.model.errors import Exhausted, IsthmusError, KernelRefused
from isthmus.model.names import ShareId, parse_uuid

_Result = TypeVar("_Result")


class Exclusive:
    """Keeps calls for a share apart, and those that were begun from being cut off."""

    def __init__(self) -> None:
        self._locks: dict[ShareId, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def lock(self, share: ShareId) -> asyncio.Lock:
        """Held by whoever acts on the share."""
        return self._locks.setdefault(share, asyncio.Lock())

    def at_work(self) -> frozenset[ShareId]:
        """The shares that somebody acts on now."""
        return frozenset(share for share, lock in self._locks.items() if lock.locked())

    async def alone(self, verb: str, share: ShareId, work: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
        """The work's result. Work that was begun goes on when its caller is cancelled: a thread cannot be stopped
        halfway."""
        parse_uuid(share, "share")
        lock = self.lock(share)
        await lock.acquire()  # who gives up here has begun nothing, and nothing is begun for him later
        task = asyncio.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, lock))
        try:
            return await asyncio.shield(task)
        except (OSError, KernelRefused) as error:
            raise _told(verb, share, error) from error

    def _ended(self, lock: asyncio.Lock, task: asyncio.Task[Any]) -> None:
        lock.release()
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be waiting for it any more: the next look tells what came of it


def _told(verb: str, share: ShareId, error: OSError | KernelRefused) -> IsthmusError:
    """A failed system call as what it means for the share."""
    number = error.errno or errno.EIO
    if number in (errno.ENOSPC, errno.EDQUOT):
        return Exhausted(f"cannot {verb} share {share}: no room left: {error}", code="no-room")
    if isinstance(error, KernelRefused):
        return error
    return KernelRefused(f"{verb} share {share}", number)
