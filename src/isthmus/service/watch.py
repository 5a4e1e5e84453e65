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
        self._looking: asyncio.Task[None] | None = None
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
                self._keep_looking()
                try:
                    async with asyncio.timeout(remaining):
                        await bell.wait()
                except TimeoutError:
                    return None
        finally:
            self._bells[topic].discard(bell)
            if not self._bells[topic]:
                del self._bells[topic]

    async def close(self) -> None:
        """Everybody who waits is answered now. Once more is no harm."""
        if not self._closed:
            self._forget()
        self._closed = True
        self._ring_all()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def _committed(self, changed: Changed) -> None:
        """Called in the writer's thread."""
        if self._loop is not None and not self._loop.is_closed():
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

    def _keep_looking(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_at_revision(), name="watch-revision")

    async def _look_at_revision(self) -> None:
        """While anybody waits, ring for what other processes changed."""
        while self._bells:
            try:
                revision = await self._revision()
            except Unavailable as error:
                LOG.warning("%s; looking again", error)
            else:
                if revision != self._seen:
                    self._seen = revision
                    self._ring_all()
            await asyncio.sleep(LOOK_SECONDS)
