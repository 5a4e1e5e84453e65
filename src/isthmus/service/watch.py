"""Long-polls: waiting until something is new, without asking the database all the time.

Commits of this process ring at once; those of other processes on the same database are noticed by a slow look at the
revision counter, taken only while somebody waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TypeVar

from isthmus.model.errors import Unavailable
from isthmus.store import Changed, Store

LOG = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How long a change that another process made may stay unnoticed."""

Value = TypeVar("Value")


class Watch:
    """Wakes those who wait for a topic (see ``store.Changed``). Belongs to the event loop that first waits on it."""

    def __init__(self, store: Store, revision: Callable[[], Awaitable[int]]) -> None:
        self._revision = revision
        self._bells: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looked_at = float("-inf")
        self._seen = 0
        self._closed = False
        self._forget = store.listen(self._committed)

    async def until(self, topic: str, look: Callable[[], Awaitable[Value | None]], seconds: float) -> Value | None:
        """What ``look`` finds, as soon as it finds something; None after so many seconds, or when closed."""
        self._loop = asyncio.get_running_loop()
        deadline = self._loop.time() + seconds
        bell = asyncio.Event()
        self._bells[topic].add(bell)
        try:
            while True:
                bell.clear()  # before looking: a commit in between rings again
                found = await look()
                remaining = deadline - self._loop.time()
                if found is not None or remaining <= 0 or self._closed:
                    return found
                await self._rung(bell, deadline)
        finally:
            self._bells[topic].discard(bell)
            if not self._bells[topic]:
                del self._bells[topic]

    def close(self) -> None:
        """Everybody who waits is answered now. Once more is no harm."""
        if not self._closed:
            self._forget()
        self._closed = True
        self._ring_all()

    def _committed(self, changed: Changed) -> None:
        """Called in the writer's thread."""
        if self._loop is not None and self._loop.is_running():
            self._loop.call_soon_threadsafe(self._ring, changed)

    def _ring(self, changed: Changed) -> None:
        if changed.revision != self._seen + 1:  # others committed in between, and what they changed is not known here
            self._seen = max(self._seen, changed.revision)
            self._ring_all()
            return
        self._seen = changed.revision
        for topic in changed.topics:
            for bell in self._bells.get(topic, ()):
                bell.set()

    def _ring_all(self) -> None:
        for bells in self._bells.values():
            for bell in bells:
                bell.set()

    async def _rung(self, bell: asyncio.Event, deadline: float) -> None:
        """Until the bell rings or the deadline passes; meanwhile, what other processes commit rings it too."""
        clock = asyncio.get_running_loop().time
        while not bell.is_set() and (remaining := deadline - clock()) > 0:
            try:
                async with asyncio.timeout(min(remaining, LOOK_SECONDS)):
                    await bell.wait()
            except TimeoutError:
                await self._look_for_others(clock())

    async def _look_for_others(self, now: float) -> None:
        """One of all who wait looks, for everybody."""
        if now - self._looked_at < LOOK_SECONDS / 2:
            return
        self._looked_at = now
        try:
            revision = await self._revision()
        except Unavailable as error:
            LOG.warning("%s; looking again", error)
            return
        if revision != self._seen:
            self._seen = revision
            self._ring_all()
