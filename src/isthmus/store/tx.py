"""A transaction. Every change goes through ``Tx``; every status moves in ``Tx.move``."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from operator import itemgetter
from typing import Any, ClassVar, TypeVar

import sqlalchemy as sa

from isthmus.model.errors import Conflict, NotFound
from isthmus.model.names import HostName
from isthmus.model.status import Status, check_move
from isthmus.store import prepared, record_tables, schema
from isthmus.store.columns import among
from isthmus.store.query import Query, narrowed, ordered
from isthmus.store.reach import EVERYTHING, Reach, owned_by
from isthmus.store.records import LockRow
from isthmus.store.rows import (
    KINDS,
    AuditRow,
    CertificateRow,
    EventRow,
    GrantRow,
    HostRow,
    KeptRow,
    Row,
    SilentRow,
    StatusRow,
    key_of,
)

Kept = TypeVar("Kept", bound=Row)
Staged = TypeVar("Staged", bound=StatusRow)
Value = TypeVar("Value")

KEEP_EVENTS = 100_000
"""How many events are kept, about: the oldest go, a thousand at a time."""


class ReadTx:
    """One consistent view of what is in reach: the rest is not there. Public shares are in everybody's reach here."""

    _sees_public: ClassVar[bool] = True

    def __init__(self, connection: sa.Connection, now: datetime.datetime, reach: Reach = EVERYTHING) -> None:
        self._connection = connection
        self.now = now
        self.reach = reach

    @property
    def revision(self) -> int:
        """The revision of the last change to anything."""
        return int(self._connection.execute(sa.select(schema.COUNTER.c.revision)).scalar_one())

    def get(self, kind: type[Kept], key: str) -> Kept | None:
        """The row of this key, or None."""
        found = self._equal(kind, {_key(schema.TABLES[kind]).name: key})
        return found[0] if found else None

    def need(self, kind: type[Kept], key: str) -> Kept:
        """The row of this key. Raises ``NotFound``."""
        row = self.get(kind, key)
        if row is None:
            raise NotFound(KINDS[kind], key)
        return row

    def all(
        self, kind: type[Kept], /, *, after: str = "", limit: int | None = None, **equal: str | Sequence[str] | None
    ) -> list[Kept]:
        """The rows whose columns equal ``equal`` (a sequence: are among its items; None: hold nothing), by ascending
        key, from beyond the key ``after``, at most ``limit``."""
        if not after and limit is None and all(isinstance(value, str) for value in equal.values()):
            return self._equal(kind, equal)
        table = schema.TABLES[kind]
        query = sa.select(table).where(*_equal(table, equal), *self._within(table)).order_by(_key(table)).limit(limit)
        if after:
            query = query.where(_key(table) > after)
        return self._rows(kind, query)

    def events(self, *, after: int = 0, limit: int = 100, **equal: str) -> list[EventRow]:
        """Events beyond the id ``after``, oldest first."""
        table = schema.EVENTS
        narrowed = (table.c.id > after, *_equal(table, equal), *self._within(table))
        query = sa.select(table).where(*narrowed).order_by(table.c.id).limit(limit)
        return self._rows(EventRow, query)

    def entries(self, *, after: int = 0, limit: int = 100, target: str = "", **equal: str) -> list[AuditRow]:
        """The audit's entries beyond the id ``after``, oldest first; with ``target`` (``kind/key``), those that name
        it."""
        table = schema.AUDIT
        query = sa.select(table).where(table.c.id > after, *_equal(table, equal), *self._within(table))
        if target:
            # A target stands in the JSON list as a text of its own; its quotes keep one key from being part of another.
            query = query.where(sa.cast(table.c.targets, sa.String).contains(json.dumps(target), autoescape=True))
        query = query.order_by(table.c.id).limit(limit)
        return self._rows(AuditRow, query)

    def page(self, kind: type[Kept], query: Query) -> list[Kept]:
        """The rows that the query asks for."""
        table = schema.TABLES[kind]
        return self._rows(kind, self._paged(table, sa.select(table), query))

    def pick(self, kind: type[Row], names: Sequence[str], query: Query) -> list[tuple[Any, ...]]:
        """These columns of the rows that the query asks for: lists of thousands need no more."""
        table = schema.TABLES[kind]
        found = self._connection.execute(self._paged(table, sa.select(*(table.c[name] for name in names)), query))
        return found.all()  # type: ignore[return-value]

    def count(self, kind: type[Row], query: Query) -> int:
        """How many rows the query would find without its limit and offset."""
        table = schema.TABLES[kind]
        counted = (
            sa.select(sa.func.count()).select_from(table).where(*narrowed(table, query), *self._beyond(table, query))
        )
        return int(self._connection.execute(counted).scalar_one())

    def total(self, kind: type[Row], name: str, query: Query) -> tuple[int, int]:
        """How many rows the query would find, and what this column of theirs adds up to."""
        table = schema.TABLES[kind]
        added = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(table.c[name]), 0))
        count, amount = self._connection.execute(
            added.select_from(table).where(*narrowed(table, query), *self._beyond(table, query))
        ).one()
        return int(count), int(amount)

    def labels(self, owners: Sequence[str]) -> dict[str, dict[str, str]]:
        """The metadata of these objects, whose rows the caller has loaded: what is in reach is decided there."""
        if len(owners) == 1:
            return {owners[0]: self.labels_of(owners[0])}
        table = record_tables.LABELS
        found: dict[str, dict[str, str]] = {}
        if owners:
            query = sa.select(table.c.owner, table.c.name, table.c.value).where(among(table.c.owner, owners))
            for owner, name, value in self._connection.execute(query.order_by(table.c.owner, table.c.name)):
                found.setdefault(owner, {})[name] = value
        return found

    def labels_of(self, owner: str) -> dict[str, str]:
        """The same of one object."""
        wanted = prepared.labels(self._connection.dialect)
        return {str(name): str(value) for name, value in wanted.rows(self._connection, {"owner": owner})}

    def locks_of(self, resources: Sequence[str], action: str) -> list[LockRow]:
        """The locks on these objects, whose rows the caller has loaded: also those that other projects placed."""
        table = record_tables.LOCKS
        query = sa.select(table).where(among(table.c.resource, resources), table.c.action == action)
        return self._rows(LockRow, query.order_by(table.c.created_at, table.c.id)) if resources else []

    def is_volume(self, volume: str) -> bool:
        """Whether a share or a copy, whosever it is, has its files in a volume of this id."""
        tables = (schema.SHARES, schema.COPIES)
        asked = (sa.select(table.c.volume).where(table.c.volume == volume).limit(1) for table in tables)
        return any(self._connection.execute(one).first() is not None for one in asked)

    def promised(self, pool: str) -> int:
        """Bytes that the pool's shares and copies may come to hold. A share that has not shrunk yet counts as large as
        it is."""
        shares, copies = schema.SHARES, schema.COPIES
        largest = sa.case((shares.c.actual > shares.c.size, shares.c.actual), else_=shares.c.size)
        placed = sa.select(sa.func.sum(largest)).where(shares.c.pool == pool, shares.c.placed == sa.true())
        copied = sa.select(sa.func.sum(copies.c.size)).where(copies.c.pool == pool)
        return sum(int(self._connection.execute(one).scalar() or 0) for one in (placed, copied))

    def _equal(self, kind: type[Kept], equal: Mapping[str, Any]) -> list[Kept]:
        """The rows whose columns equal these texts, by ascending key."""
        names, confined = tuple(sorted(equal)), self.reach.project is not None
        dialect, table = self._connection.dialect, schema.TABLES[kind]
        wanted = prepared.by_columns(dialect, table, names, confined, self._sees_public)
        return _made(kind, wanted.names, wanted.rows(self._connection, {**equal, "reach": self.reach.project}))

    def _paged(self, table: sa.Table, chosen: sa.Select[Any], query: Query) -> sa.Select[Any]:
        chosen = chosen.where(*narrowed(table, query), *self._beyond(table, query)).order_by(*ordered(table, query))
        return chosen.limit(query.limit).offset(query.offset or None)

    def _rows(self, kind: Callable[..., Value], query: sa.Select[Any]) -> list[Value]:
        found = self._connection.execute(query)
        return _made(kind, tuple(found.keys()), found)

    def _beyond(self, table: sa.Table, query: Query) -> tuple[sa.ColumnElement[bool], ...]:
        """What the query does not say itself of what is in reach: one that asks for the reach's own project says all,
        and can be answered from an index."""
        mine = self.reach.project is not None and query.equal.get("project") == self.reach.project
        return () if mine else self._within(table)

    def _within(self, table: sa.Table) -> tuple[sa.ColumnElement[bool], ...]:
        """What of the table is in reach."""
        project = self.reach.project
        owned = None if project is None else owned_by(table, project, or_public=self._sees_public)
        return () if owned is None else (owned,)


class Tx(ReadTx):
    """The one writing transaction of the moment. ``changes`` are the objects that it touched, as ``kind/key``, and
    ``desired/HOST`` for every host whose document changed.

    Only what is the caller's own is in reach here. A row that is not is refused (``Forbidden``), wherever it came from;
    one that only says so is not found.
    """

    _sees_public = False

    def __init__(self, connection: sa.Connection, now: datetime.datetime, reach: Reach = EVERYTHING) -> None:
        super().__init__(connection, now, reach)
        self._next: int | None = None
        self.changes: set[str] = set()

    @property
    def touched(self) -> frozenset[str]:
        """The objects among ``changes``: what the audit names."""
        return frozenset(change for change in self.changes if "/" in change and not change.startswith("desired/"))

    def audit(self, entry: AuditRow) -> None:
        """The entry is in the audit. Its ``id`` and time are given here."""
        values = {field.name: getattr(entry, field.name) for field in fields(entry) if field.name != "id"}
        self._connection.execute(sa.insert(schema.AUDIT), {**values, "created_at": self.now})

    def advance(self) -> int:
        """The revision of this transaction's changes: one beyond the last, taken when the first change is made."""
        if self._next is None:
            counter = schema.COUNTER
            taken = sa.update(counter).values(revision=counter.c.revision + 1).returning(counter.c.revision)
            self._next = int(self._connection.execute(taken).scalar_one())
        return self._next

    def add(self, row: Kept, message: str = "added") -> Kept:
        """The row, with its revision and time, now in the database; an event says so. Raises ``Forbidden`` for one
        of another project than the caller's."""
        self._check(row, f"make a {KINDS[type(row)]}")
        fresh: dict[str, Any] = {"revision": self.advance(), "created_at": self.now}
        if "wanted" in {field.name for field in fields(row)}:
            fresh["wanted"] = self.advance()
        row = replace(row, **fresh)
        self._check_free(row)
        self._connection.execute(sa.insert(schema.TABLES[type(row)]), _values(row))
        if isinstance(row, SilentRow):
            self._mark(row)
        else:
            self.tell(row, message, after=str(getattr(row, "status", "")))
        return row

    def change(self, row: Kept, **values: object) -> Kept:
        """The row with these values. Writes nothing if they are its values already. Never a status."""
        changed = {name: value for name, value in values.items() if getattr(row, name) != value}
        return self._update(row, {**changed, "revision": self.advance()}) if changed else row

    def measure(self, row: Kept, **values: object) -> Kept:
        """The row with these figures. They are no change of the object: its revision stays, nobody is woken."""
        changed = {name: value for name, value in values.items() if getattr(row, name) != value}
        return self._update(row, changed) if changed else row

    def want(self, row: Staged, **values: object) -> Staged:
        """The row with a new intent: reports made before it say nothing of it by their silence."""
        return self.change(row, **values, wanted=self.advance())

    def move(self, row: Staged, status: Status, reason: str = "", code: str = "") -> Staged:
        """The row in its new status; in ``gone``, it is no longer in the database. The one place that sets a status.

        Raises ``Conflict`` if the table of legal moves does not have it. An event tells of the move, and of a new
        reason for the same status; neither new: nothing is written.
        """
        check_move(KINDS[type(row)], row.id, row.status, status)
        if (row.status, row.reason, row.code) == (status, reason, code):
            return row
        self.tell(row, reason or f"is {status}", before=str(row.status), after=str(status))
        values: dict[str, object] = {"status": status, "reason": reason, "code": code, "revision": self.advance()}
        if str(status) == "gone":
            self._delete(row)
            return replace(row, **values)  # type: ignore[arg-type]
        return self._update(row, values)

    def remove(self, row: Row, message: str = "removed") -> None:
        """The row is no longer in the database; an event says so."""
        if isinstance(row, SilentRow):
            self.advance()
            self._mark(row)
        else:
            self.tell(row, message)
        self._delete(row)

    def label(self, owner: str, labels: Mapping[str, str]) -> None:
        """The object has this metadata besides what it had, or in its place. The caller has loaded its row."""
        table = record_tables.LABELS
        if labels:
            self.unlabel(owner, list(labels))
            rows = [{"owner": owner, "name": name, "value": value} for name, value in labels.items()]
            self._connection.execute(sa.insert(table), rows)

    def unlabel(self, owner: str, names: Sequence[str] | None = None) -> None:
        """The object has no metadata of these names any more; without names, none at all."""
        table = record_tables.LABELS
        gone = sa.delete(table).where(table.c.owner == owner)
        self._connection.execute(gone if names is None else gone.where(among(table.c.name, names)))

    def release(self, lock: LockRow) -> None:
        """The lock is no longer in the database, whoever placed it: the caller may let go what it is on."""
        table = record_tables.LOCKS
        self.advance()
        self._mark(lock)
        self._connection.execute(sa.delete(table).where(table.c.id == lock.id))

    def expire(self, kind: type[GrantRow | CertificateRow]) -> int:
        """The rows that have come to the end of their time are no longer in the database. Returns how many. Nothing
        that is in force has changed: it takes no revision and wakes nobody."""
        table = schema.TABLES[kind]
        over = sa.delete(table).where(table.c.not_after <= self.now, *self._within(table))
        return self._connection.execute(over).rowcount

    def wake(self, host: HostName) -> None:
        """The host's document has changed."""
        self.change(self.need(HostRow, host), desired=self.advance())
        self.changes.add(f"desired/{host}")

    def tell(self, row: KeptRow, message: str, *, before: str = "", after: str = "") -> None:
        """An event about the row's object."""
        kind = KINDS[type(row)]
        event = {
            "kind": kind,
            "subject": key_of(row),
            "message": message,
            "project": getattr(row, "project", ""),
            "before": before,
            "after": after,
            "revision": self.advance(),
            "created_at": self.now,
        }
        table = schema.EVENTS
        number = int(self._connection.execute(sa.insert(table).returning(table.c.id), event).scalar_one())
        if number % 1000 == 0:
            self._connection.execute(sa.delete(table).where(table.c.id <= number - KEEP_EVENTS))
        self.changes |= {f"{kind}/{key_of(row)}", "events"}

    def _mark(self, row: Row) -> None:
        self.changes.add(f"{KINDS[type(row)]}/{key_of(row)}")

    def _check(self, row: Row, doing: str) -> None:
        if isinstance(owner := getattr(row, "project", None), str):
            self.reach.check_owner(owner, doing)

    def _check_free(self, row: Row) -> None:
        """Raise ``Conflict`` if a row out of reach has this key: it was not found when it was looked for."""
        if self.reach.project is None:
            return
        table, key = schema.TABLES[type(row)], key_of(row)
        if self._connection.execute(sa.select(_key(table)).where(_key(table) == key)).first() is not None:
            raise Conflict(f"cannot make {KINDS[type(row)]} {key}: the id is taken", code="id-taken")

    def _update(self, row: Kept, values: dict[str, Any]) -> Kept:
        self._check(row, f"change {KINDS[type(row)]} {key_of(row)}")
        table = schema.TABLES[type(row)]
        if "revision" in values and "updated_at" in table.c:
            values = {**values, "updated_at": self.now}
        self._reached(row, self._connection.execute(sa.update(table).where(*self._at(row)), values))
        if "revision" in values:
            self._mark(row)
        return replace(row, **values)

    def _delete(self, row: Row) -> None:
        self._check(row, f"remove {KINDS[type(row)]} {key_of(row)}")
        self._reached(row, self._connection.execute(sa.delete(schema.TABLES[type(row)]).where(*self._at(row))))

    def _at(self, row: Row) -> tuple[sa.ColumnElement[bool], ...]:
        """Where the row is: in reach by what the database says of it, whatever the row itself says."""
        table = schema.TABLES[type(row)]
        return (_key(table) == key_of(row), *self._within(table))

    def _reached(self, row: Row, result: sa.CursorResult[Any]) -> None:
        """Raise ``NotFound`` if the statement found no row."""
        if result.rowcount == 0:
            raise NotFound(KINDS[type(row)], key_of(row))


def _made(kind: Callable[..., Value], names: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[Value]:
    # Documents are made of thousands of rows: a mapping per row, as SQLAlchemy has them, takes three times as long.
    take = _arranged(kind, tuple(names))
    return [kind(*take(row)) for row in rows]


@cache
def _arranged(kind: Callable[..., Any], names: tuple[str, ...]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Puts the columns of these names into the order of the fields."""
    return itemgetter(*(names.index(field.name) for field in fields(kind)))  # type: ignore[arg-type]


def _key(table: sa.Table) -> sa.Column[Any]:
    return next(iter(table.primary_key.columns))


def _equal(table: sa.Table, equal: dict[str, Any]) -> list[sa.ColumnElement[bool]]:
    return [
        table.c[name] == value if value is None or isinstance(value, str) else among(table.c[name], value)
        for name, value in equal.items()
    ]


def _values(row: Row) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in fields(row)}
