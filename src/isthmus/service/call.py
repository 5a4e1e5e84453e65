"""What a handler gets and gives: a decoded call, and a reply."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from isthmus.model.caller import Caller
from isthmus.model.errors import Invalid
from isthmus.model.names import ProjectId
from isthmus.service.act import NOTHING, Act
from isthmus.service.service import Service
from isthmus.service.views import Views
from isthmus.store.reach import EVERYTHING, Reach
from isthmus.store.rows import KINDS, Row, key_of
from isthmus.store.tx import ReadTx, Tx
from isthmus.wire.api import Page

Kept = TypeVar("Kept", bound=Row)
Value = TypeVar("Value")
View = TypeVar("View")

DEFAULT_LIMIT = 100
DEFAULT_TIMEOUT = 30.0
PAGING = ("limit", "marker")
WAITING = ("after", "timeout")


@dataclass(frozen=True, slots=True)
class Reply:
    """A status and what goes into the body; None for no body."""

    status: int
    body: object = None


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose path, query and body are what its route says."""

    service: Service
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    act: Act = NOTHING
    reach: Reach = EVERYTHING

    @property
    def caller(self) -> Caller:
        """Who asks."""
        return self.act.caller

    @property
    def project(self) -> ProjectId:
        """The project that the caller acts for. Raises ``Invalid`` if it is none, as for the operator."""
        if self.caller.project is None:
            raise Invalid("cannot tell whose it is: name its project", field="project")
        return self.caller.project

    async def read(self, work: Callable[[ReadTx], Value]) -> Value:
        """What ``work`` makes of what the caller may see."""
        return await self.service.read(work, self.reach)

    async def write(self, work: Callable[[Tx], Value]) -> Value:
        """What ``work`` makes of what the caller may change, committed together with its entry in the audit."""
        return await self.service.write(work, self.reach, self.act)

    async def page(self, kind: type[Kept], show: Callable[[Views, Kept], View]) -> Reply:
        """A part of the list of this kind, narrowed by the query."""
        limit: int = self.query.get("limit", DEFAULT_LIMIT)
        equal = {name: value for name, value in self.query.items() if name not in PAGING}

        def work(tx: ReadTx) -> Page[View]:
            rows = tx.all(kind, after=self.query.get("marker", ""), limit=limit + 1, **equal)
            views = Views(tx)
            shown = rows[:limit]
            return Page(items=[show(views, row) for row in shown], next=key_of(shown[-1]) if rows[limit:] else None)

        return Reply(200, await self.read(work))

    async def one(self, kind: type[Kept], key: str, show: Callable[[Views, Kept], View]) -> Reply:
        """The object; with ``after``, once its revision is greater, else 204. Raises ``NotFound`` when it is gone."""
        after: int = self.query.get("after", -1)

        def look(tx: ReadTx) -> View | None:
            row = tx.need(kind, key)
            return show(Views(tx), row) if row.revision > after else None

        if "after" not in self.query:
            return Reply(200, await self.read(look))
        found = await self.service.watch.until(f"{KINDS[kind]}/{key}", lambda: self.read(look), self.seconds)
        return Reply(204) if found is None else Reply(200, found)

    async def do(self, status: int, work: Callable[[Tx], Kept], show: Callable[[Views, Kept], View]) -> Reply:
        """The object that ``work`` made or changed."""
        return Reply(status, await self.write(lambda tx: show(Views(tx), work(tx))))

    async def drop(self, work: Callable[[Tx], None]) -> Reply:
        """Nothing, after ``work`` removed something."""
        await self.write(work)
        return Reply(204)

    @property
    def seconds(self) -> float:
        """How long a long-poll may wait."""
        return float(self.query.get("timeout", DEFAULT_TIMEOUT))
