"""The service: the domain over one store, for HTTP handlers and for an agent in the same process."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar

from starlette.applications import Starlette

from isthmus.model.caller import Caller, Way
from isthmus.model.desired import Desired, Report
from isthmus.model.errors import IsthmusError, Unavailable
from isthmus.model.names import AttachmentId, HostName
from isthmus.service.act import NOTHING, Act, entry_of
from isthmus.service.domain import authorities, enrolment, grants
from isthmus.service.domain.hosts import desired_document
from isthmus.service.domain.reports import apply_report
from isthmus.service.signing import Signer
from isthmus.service.watch import Watch
from isthmus.store import ReadTx, Store, Tx
from isthmus.store.reach import EVERYTHING, Reach
from isthmus.store.rows import HostRow

Value = TypeVar("Value")

A_WEEK = datetime.timedelta(days=7)
"""How long a grant lasts by default."""

ISSUE = "isthmus:grants:sign"
"""What the audit calls the signing of grants."""

THREADS = 4
"""Threads that talk to the database, apart from those of an agent in the same process, whose disks may be slow."""


class Service:
    """Belongs to one event loop. ``close`` it before the store."""

    def __init__(self, store: Store, *, signer: Signer | None = None, lifetime: datetime.timedelta = A_WEEK) -> None:
        self._store = store
        self._signer = signer
        self._lifetime = lifetime
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="isthmus-store")
        self.watch = Watch(store, self.revision)

    @cached_property
    def app(self) -> Starlette:
        """The HTTP API of this service, as root has it over the unix socket."""
        from isthmus.service.app import build  # noqa: PLC0415 - an agent's process may go without HTTP
        from isthmus.service.identity.kernel import SocketVoucher  # noqa: PLC0415
        from isthmus.service.policy import Policy  # noqa: PLC0415

        return build(self, SocketVoucher(), Policy())

    async def desired(self, host: HostName, after: int, timeout: float) -> Desired | None:  # noqa: ASYNC109
        """The host's document, as soon as its revision is another than ``after``; None if it is the same for
        ``timeout`` seconds. (Another, not a greater one: a database restored from a backup goes back.)

        Raises ``NotFound`` for a host that is not registered, ``Unavailable`` while the database does not answer.
        """

        def look(tx: ReadTx) -> Desired | None:
            return None if tx.need(HostRow, host).desired == after else desired_document(tx, host)

        return await self.watch.until(f"desired/{host}", lambda: self.read(look), timeout)

    async def report(self, report: Report) -> None:
        """What the report says is in the database. Raises ``NotFound``, ``Unavailable``."""
        await self.write(lambda tx: apply_report(tx, report))

    @property
    def signer(self) -> Signer:
        """What signs. Raises ``Unavailable`` if this service has nothing to sign with."""
        if self._signer is None:
            raise Unavailable("cannot sign: this service has no authority", code="authority-unavailable")
        return self._signer

    async def sign(
        self, host: HostName, requests: Mapping[AttachmentId, bytes], caller: Caller | None = None
    ) -> Mapping[AttachmentId, str]:
        """Grants on these requests are in the host's next document, and in the audit. Returns why those that are not
        are not. Raises ``Invalid``, ``Unavailable``."""
        act = Act(caller or Caller(Way.SOCKET, host=host), action=ISSUE)

        def work(tx: Tx) -> Mapping[AttachmentId, str]:
            refused = grants.issue(tx, self.signer, host, requests, self._lifetime)
            if len(refused) < len(requests):
                tx.audit(entry_of(act, (f"attachment/{name}" for name in requests if name not in refused)))
            return refused

        return await self.write(work)

    async def publish(self) -> None:
        """Agents' documents have the authority's certificates; what has ended is forgotten. Raises ``Unavailable``."""

        def work(tx: Tx) -> None:
            authorities.publish(tx, self.signer)
            grants.prune(tx)
            enrolment.prune(tx)

        await self.write(work)

    async def revision(self) -> int:
        """The revision of the last change to anything."""
        return await self.read(lambda tx: tx.revision)

    async def read(self, work: Callable[[ReadTx], Value], reach: Reach = EVERYTHING) -> Value:
        """What ``work`` makes of a consistent view of what is in ``reach``, in a thread."""

        def run() -> Value:
            with self._store.read(reach) as tx:
                return work(tx)

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    async def write(self, work: Callable[[Tx], Value], reach: Reach = EVERYTHING, act: Act = NOTHING) -> Value:
        """What ``work`` makes of the one writing transaction, committed together with the audit's entry of ``act``, in
        a thread. What has begun commits even if the caller is cancelled meanwhile."""

        def run() -> Value:
            with self._store.write(reach) as tx:
                value = work(tx)
                if act.action:
                    tx.audit(entry_of(act, tx.touched))
                return value

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    async def refused(self, act: Act, error: IsthmusError) -> None:
        """The audit knows of a change that was refused."""
        await self.write(lambda tx: tx.audit(entry_of(act, (), error.code)))

    async def close(self) -> None:
        """Long-polls are answered, running transactions have ended. The store stays open."""
        self.watch.close()
        await asyncio.to_thread(self._threads.shutdown)
