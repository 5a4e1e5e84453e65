"""The agent's loop.

        +--------------------------- wake: new document, chain ended, unit died,
        v                            guest event, retry due, audit due
    look at what changed -> plan -> begin chains -> report -> sleep
                                       |
                                       +--> each in a task of its own, one per subject, with deadlines

A cycle never waits for a chain: an attachment whose guest hangs stops no other. A cycle ends in one sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from isthmus.agent.admission import MOST_REQUESTS, Admission, Refusal, Verdict
from isthmus.agent.boundary import told
from isthmus.agent.equipment import Equipment, Orders
from isthmus.agent.hands import do
from isthmus.agent.observe import GATEWAYS, GUESTS, LINKS, Observer, Part, parts_changed_by
from isthmus.agent.patience import Patience
from isthmus.agent.plan import Observed, plan
from isthmus.agent.reporting import notice_of, pool_reports, report, sentence_of
from isthmus.agent.steps import Chain, FillShare, Kind, Subject, phrase
from isthmus.model.desired import Desired, Notice, PoolReport, Report
from isthmus.model.errors import DeadlineExpired, HostRevoked, IsthmusError
from isthmus.model.layout import Layout
from isthmus.model.names import AttachmentId, HostName, PoolName

log = logging.getLogger(__name__)


MOST_NOTICES = 200
"""How many are kept for a service that is away: the latest."""


class Memory(Protocol):
    """Keeps the last document over a restart, so that an agent can mend its host while the service is away."""

    def load(self) -> Desired | None:
        """The last document, or None."""
        ...

    def save(self, desired: Desired) -> None:
        """Keep it."""
        ...


@dataclass(frozen=True, slots=True)
class Tempo:
    """Times in seconds. ``audit``: everything is looked at this often even if nothing happens. ``pools``: the pools are
    looked at this often, since the kernel does not tell when one is full or a file system stops. ``heartbeat``: a
    report is sent this often even if nothing changed. ``look``: deadline for looking at one part. ``poll``: how long
    one request for a document waits. ``retry``: pause after the service did not answer. ``settle``: how long what
    is no hurry waits for more: a report that tells nothing but a new revision, keeping the document."""

    audit: float = 60.0
    pools: float = 15.0
    heartbeat: float = 60.0
    look: float = 5.0
    poll: float = 60.0
    retry: float = 1.0
    settle: float = 0.25


class Agent:
    """Closes the difference between what should be on a host and what is, until it is cancelled. What it has made
    stays when it ends."""

    def __init__(
        self,
        host: HostName,
        layout: Layout,
        equipment: Equipment,
        orders: Orders,
        memory: Memory,
        *,
        admission: Admission,
        tempo: Tempo | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host, self._layout, self._equipment = host, layout, equipment
        self._orders, self._memory, self._tempo, self._clock = orders, memory, tempo or Tempo(), clock
        self._admission, self._refused = admission, dict[AttachmentId, Refusal]()
        self._observer = Observer(equipment, deadline=self._tempo.look, on_late=self._mark)
        self._patience = Patience()
        self._want: Desired | None = None
        self._fetched = False
        self._running: dict[Subject, tuple[Chain, asyncio.Task[None]]] = {}
        self._dirty: set[Part] = set()
        self._wake = asyncio.Event()
        self._outbox: Report | None = None
        self._posted: Report | None = None
        self._post = asyncio.Event()
        self._notices: list[Notice] = []
        self._unsaved = asyncio.Event()
        self._ask = asyncio.Event()
        self._audit_at = self._pools_at = self._heartbeat_at = self._clock()
        self._cycle = 0

    async def run(self) -> None:
        """Until cancelled."""
        remembered = await asyncio.to_thread(self._memory.load)
        if remembered is not None and remembered.host == self.host:
            self._take(remembered)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._fetch(), name="fetch")
                group.create_task(self._deliver(), name="report")
                group.create_task(self._request(), name="request")
                group.create_task(self._remember(), name="remember")
                group.create_task(self._follow_units(), name="units")
                group.create_task(self._follow_guests(), name="guests")
                group.create_task(self._cycles(), name="cycles")
        finally:
            tasks = [task for _, task in self._running.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._observer.close()
            self._admission.save()

    async def _cycles(self) -> None:
        while True:
            if self._want is None:
                await self._wake.wait()
                self._wake.clear()
                continue
            pause = await self.cycle(self._want)
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue
            finally:
                self._wake.clear()

    async def cycle(self, want: Desired) -> float:
        """One round. Returns the seconds until the next one is due if nothing happens."""
        began = self._clock()
        self._cycle += 1
        self._call_off(want)
        before = self._chains()
        self._equipment.take_pools(want.pools)
        have = await self._observer.look(self._parts_to_look_at(began))
        moving = before | self._chains()  # those that ended while we looked were perhaps seen half-done
        verdict = self._judge(want)
        chains = plan(want, have, self._layout, moving, verdict.denied)
        begun = self._begin(chains)
        self._patience.keep_only({chain.subject for chain in moving | set(chains)})
        self._tell(want, have, moving | set(begun), verdict)
        now = self._clock()
        waiting = [self._patience.due(chain, now) for chain in chains if chain.subject not in self._running]
        self._log(want, begun, len(waiting), now - began)
        if self._dirty:
            return 0.0
        due = [self._audit_at, self._pools_at, self._heartbeat_at, *(due for due in waiting if due > now)]
        return max(0.0, min(min(due) - now, self._admission.pause(verdict)))

    def _call_off(self, want: Desired) -> None:
        """End copying that nobody wants any more: it may take days, and all other chains are over in a while."""
        fills = {spec.id: spec.fill for spec in want.shares}
        for chain, task in self._running.values():
            for step in chain.steps:
                if isinstance(step, FillShare) and fills.get(step.share) != step.fill:
                    task.cancel()

    def _chains(self) -> set[Chain]:
        return {chain for chain, _ in self._running.values()}

    def _parts_to_look_at(self, now: float) -> set[Part]:
        if now >= self._audit_at:
            self._dirty |= self._observer.parts()
            self._audit_at = now + self._tempo.audit
        if now >= self._pools_at:
            self._dirty |= {part for part in self._observer.parts() if part[0] is Kind.POOL}
            self._pools_at = now + min(self._tempo.pools, self._tempo.audit)
        parts, self._dirty = self._dirty, set()
        return parts | {part for part in self._observer.parts() if not self._observer.knows(part)}

    def _begin(self, chains: tuple[Chain, ...]) -> list[Chain]:
        now = self._clock()
        begun = []
        for chain in chains:
            if self._patience.due(chain, now) > now:
                continue
            if all(chain.may_run_beside(other) for other, _ in self._running.values()):
                task = asyncio.create_task(self._perform(chain), name=str(chain.subject))
                self._running[chain.subject] = (chain, task)
                begun.append(chain)
        return begun

    async def _perform(self, chain: Chain) -> None:
        error: IsthmusError | None = None
        try:
            for step in chain.steps:
                try:
                    async with asyncio.timeout(step.deadline):
                        await do(step, self._equipment)
                except TimeoutError:
                    raise DeadlineExpired(phrase(step), step.deadline) from None
        except Exception as failure:  # noqa: BLE001 - the boundary: what goes wrong in one chain stops no other
            error = told(phrase(chain.steps[0]), failure)
        finally:
            del self._running[chain.subject]
            self._dirty |= parts_changed_by(chain)
            self._wake.set()
        self._settle(chain, error)

    def _settle(self, chain: Chain, error: IsthmusError | None) -> None:
        if error is None:
            self._patience.succeeded(chain, self._clock())
            return
        failure = self._patience.failed(chain, error, self._clock())
        if failure.new:
            self._notices = [*self._notices, notice_of(failure)][-MOST_NOTICES:]
            log.warning("%s", sentence_of(failure))

    def _judge(self, want: Desired) -> Verdict:
        """What may be presented; what the user should know of it, and what must be asked for, is on its way."""
        current = self._fetched and want is self._want
        verdict = self._admission.judge(want, current=current)
        if verdict.asking:
            self._ask.set()
        if current and verdict.refused != self._refused:
            news = [
                Notice(name, refusal.message)
                for name, refusal in verdict.refused.items()
                if not refusal.waiting and self._refused.get(name) != refusal
            ]
            for notice in news:
                log.warning("attachment %s: %s", notice.subject, notice.message)
            self._notices = [*self._notices, *news][-MOST_NOTICES:]
            self._refused = dict(verdict.refused)
        return verdict

    async def _request(self) -> None:
        """Ask for grants. They come with the document."""
        while True:
            await self._ask.wait()
            self._ask.clear()
            if self._want is None:
                continue
            names = self._admission.judge(self._want, current=self._fetched).asking[:MOST_REQUESTS]
            if not names:
                continue
            refused: Mapping[AttachmentId, str] = {}
            reached = False
            try:
                refused = await self._orders.sign(self.host, self._admission.requests(names))
                reached = True
            except HostRevoked as error:
                self._revoked(error)
            except Exception as failure:  # noqa: BLE001 - what is up stays up while nobody signs
                log.warning("cannot ask for grants: %s", told("sign", failure))
            self._admission.asked(names, refused, reached=reached)
            self._unsaved.set()
            self._wake.set()

    def _revoked(self, error: HostRevoked) -> None:
        if self._admission.revoke():
            log.error("%s: ending all exports", error)
        self._wake.set()

    def _tell(self, want: Desired, have: Observed, running: set[Chain], verdict: Verdict) -> None:
        errors = self._observer.errors
        unusable: dict[PoolName, IsthmusError] = {
            PoolName(name): error for (kind, name), error in errors.items() if kind is Kind.POOL
        }
        abilities = {name: self._abilities(name) for name in self._equipment.pools}
        pools = pool_reports(want, have, abilities, unusable | self._equipment.unusable)
        news = report(
            want,
            have,
            self._layout,
            failures=self._patience.failures,
            running=running,
            pools=pools,
            refused=verdict.refused,
        )
        now = self._clock()
        if now >= self._heartbeat_at or news != self._posted or self._notices:
            self._heartbeat_at = now + self._tempo.heartbeat
            self._outbox = news
            self._post.set()

    def _abilities(self, pool: PoolName) -> PoolReport:
        driver = self._equipment.driver(pool)
        return PoolReport(powers=driver.powers, minimum=driver.minimum)

    async def _deliver(self) -> None:
        while True:
            await self._post.wait()
            self._post.clear()
            if self._is_no_news(self._outbox):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._tempo.settle):
                        await self._post.wait()
                self._post.clear()
            if self._outbox is None:
                continue
            letter = replace(self._outbox, notices=tuple(self._notices))
            try:
                await self._orders.report(letter)
            except Exception as failure:  # noqa: BLE001 - a service that cannot take a report stops no chain
                if isinstance(failure, HostRevoked):
                    self._revoked(failure)
                log.warning("cannot report to the service: %s", told("report", failure))
                await asyncio.sleep(self._tempo.retry)
                self._post.set()
                continue
            self._posted = replace(letter, notices=())
            self._notices = [notice for notice in self._notices if notice not in letter.notices]

    def _is_no_news(self, letter: Report | None) -> bool:
        """Only that a new document is in hand: what it makes the agent do is mostly done in a moment, and one report
        then tells both."""
        if letter is None or self._posted is None or self._notices:
            return False
        return (
            letter.revision != self._posted.revision and replace(letter, revision=self._posted.revision) == self._posted
        )

    async def _fetch(self) -> None:
        while True:
            after = self._want.revision if self._want is not None else 0  # documents count from 1
            try:
                document = await self._orders.desired(self.host, after, self._tempo.poll)
            except Exception as failure:  # noqa: BLE001 - nor does one that has no document for us
                if isinstance(failure, HostRevoked):
                    self._revoked(failure)
                log.warning("cannot fetch what should be on host %s: %s", self.host, told("fetch", failure))
                await asyncio.sleep(self._tempo.retry)
                continue
            self._fetched = True  # no document: the one in hand is the newest
            if document is not None and document != self._want:
                self._take(document)
                self._unsaved.set()

    async def _remember(self) -> None:
        """Keep the document, once what it asks for at first does not want the disk."""
        while True:
            await self._unsaved.wait()
            await asyncio.sleep(self._tempo.settle)
            self._unsaved.clear()
            if self._want is not None:
                await asyncio.to_thread(self._memory.save, self._want)
            self._admission.save()

    def _take(self, document: Desired) -> None:
        self._want = document
        self._patience.forget()
        self._judge(document)  # before anything is looked at: a grant is signed meanwhile
        self._wake.set()

    async def _follow_units(self) -> None:
        async for unit in self._equipment.exits():
            log.info("unit %s ended", unit)
            self._mark(GATEWAYS)

    async def _follow_guests(self) -> None:
        async for event in self._equipment.hypervisor.events():
            log.info("guest %s: %s %s", event.guest, event.kind, event.plug)
            self._mark(GUESTS)
            self._mark(LINKS)

    def _mark(self, part: Part) -> None:
        self._dirty.add(part)
        self._wake.set()

    def _log(self, want: Desired, begun: list[Chain], waiting: int, seconds: float) -> None:
        if begun:
            doing = "began to " + ", ".join(phrase(chain.steps[0]) for chain in begun)
        else:
            doing = "nothing to do" if not (self._running or waiting) else "nothing new to do"
        level = logging.INFO if begun else logging.DEBUG
        log.log(
            level,
            "cycle %d, revision %d: %s; %d under way, %d waiting; %.0f ms",
            self._cycle,
            want.revision,
            doing,
            len(self._running),
            waiting,
            seconds * 1000,
        )
