"""Looking at the host, part by part, so that a part that hangs hides nothing but itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

from isthmus.agent.boundary import told
from isthmus.agent.equipment import Equipment
from isthmus.agent.plan import Observed
from isthmus.agent.steps import Chain, Kind
from isthmus.model.attachment import GatewaySeen, Mode
from isthmus.model.errors import DeadlineExpired, IsthmusError
from isthmus.model.names import GuestId, PoolName

Part = tuple[Kind, str]
"""``(pool, NAME)``, ``(link, "")``, ``(gateway, "")`` or ``(nic, "")``: what is looked at together."""

LINKS: Part = (Kind.LINK, "")
GATEWAYS: Part = (Kind.GATEWAY, "")
GUESTS: Part = (Kind.NIC, "")


def parts_changed_by(chain: Chain) -> frozenset[Part]:
    """What must be looked at again when a chain has ended, well or badly."""
    match chain.subject.kind:
        case Kind.POOL | Kind.SHARE:
            return frozenset({(Kind.POOL, str(chain.pool))})
        case Kind.LINK:
            return frozenset({LINKS})
        case Kind.GATEWAY:
            return frozenset({GATEWAYS})
        case Kind.NIC:
            return frozenset({GUESTS, LINKS})


class Observer:
    """Keeps the last look at each part. ``errors`` says why a part could not be seen."""

    def __init__(self, equipment: Equipment, *, deadline: float, on_late: Callable[[Part], None]) -> None:
        """``deadline``: seconds for one look; ``on_late`` is called when a part that missed it answers after all."""
        self._equipment = equipment
        self._deadline = deadline
        self._on_late = on_late
        self._seen: dict[Part, Any] = {}
        self._pending: dict[Part, asyncio.Task[Any]] = {}
        self.errors: dict[Part, IsthmusError] = {}

    def parts(self) -> frozenset[Part]:
        """Everything that there is to look at now."""
        return frozenset({LINKS, GATEWAYS, GUESTS, *((Kind.POOL, str(name)) for name in self._equipment.pools)})

    def knows(self, part: Part) -> bool:
        """Whether the part was looked at, with whatever outcome, or is being looked at."""
        return part in self._seen or part in self.errors

    async def look(self, parts: Collection[Part]) -> Observed:
        """Look at these parts anew, at the others as they were. A part that misses the deadline is unknown, and is not
        asked again until it answers."""
        known = self.parts()
        for part in (set(self._seen) | set(self.errors)) - known:
            self._seen.pop(part, None)
            self.errors.pop(part, None)
        asked = [part for part in known & set(parts) if part not in self._pending]
        tasks = {part: asyncio.create_task(self._look_at(part)) for part in asked}
        if tasks:
            await asyncio.wait(tasks.values(), timeout=self._deadline)
        for part, task in tasks.items():
            if task.done():
                self._take(part, task)
            else:
                self._seen.pop(part, None)
                self.errors[part] = DeadlineExpired(f"look at {part[0]} {part[1]}".rstrip(), self._deadline)
                self._pending[part] = task
                task.add_done_callback(partial(self._late, part))
        return self._observed()

    async def close(self) -> None:
        """Give up looks that still hang."""
        for task in list(self._pending.values()):
            task.cancel()
        await asyncio.gather(*self._pending.values(), return_exceptions=True)

    def _look_at(self, part: Part) -> Coroutine[Any, Any, Any]:
        match part[0]:
            case Kind.POOL | Kind.SHARE:
                return self._equipment.driver(PoolName(part[1])).observe()
            case Kind.LINK:
                return self._equipment.link.observe()
            case Kind.GATEWAY:
                return self._look_at_gateways()
            case Kind.NIC:
                return self._equipment.hypervisor.guests()

    async def _look_at_gateways(self) -> dict[tuple[Mode, GuestId], GatewaySeen]:
        found: dict[tuple[Mode, GuestId], GatewaySeen] = {}
        for mode, gateway in self._equipment.gateways.items():
            found |= {(mode, guest): seen for guest, seen in (await gateway.observe()).items()}
        return found

    def _take(self, part: Part, task: asyncio.Task[Any]) -> None:
        error = task.exception()
        if error is None:
            self._seen[part] = task.result()
            self.errors.pop(part, None)
        else:
            self._seen.pop(part, None)
            self.errors[part] = told(f"look at {part[0]} {part[1]}".rstrip(), error)

    def _late(self, part: Part, task: asyncio.Task[Any]) -> None:
        self._pending.pop(part, None)
        if not task.cancelled():
            task.exception()  # seen: the next look, which follows at once, tells it if it lasts
            self._on_late(part)

    def _observed(self) -> Observed:
        pools = {PoolName(name): seen for (kind, name), seen in self._seen.items() if kind is Kind.POOL}
        seen = self._seen.get
        return replace(Observed(pools), links=seen(LINKS), gateways=seen(GATEWAYS), guests=seen(GUESTS))
