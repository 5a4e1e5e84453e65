"""A part of a list: what it is narrowed by, in which order it comes, and where it begins."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from isthmus.store.columns import among
from isthmus.store.record_tables import LABELS

Value = str | bool | int | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Query:
    """``equal``: columns that equal a value (a sequence: are among its items; None: hold nothing). ``filled``: columns
    that hold something. ``holds``: columns that contain a text. ``labels``: metadata that the object has. ``sort`` by
    this column, then by the key; rows that come after the first ``offset``, at most ``limit``."""

    equal: Mapping[str, Value] = field(default_factory=dict)
    filled: Iterable[str] = ()
    holds: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    since: datetime.datetime | None = None
    before: datetime.datetime | None = None
    due: tuple[str, datetime.datetime] | None = None
    """A column with a time that is not after this one."""
    either: Mapping[str, Value] = field(default_factory=dict)
    """Columns of which one equals its value."""
    sort: str = "created_at"
    descending: bool = True
    limit: int | None = None
    offset: int = 0


def narrowed(table: sa.Table, query: Query) -> list[sa.ColumnElement[bool]]:
    """The conditions on the table's rows."""
    found = [_equals(table.c[name], value) for name, value in query.equal.items()]
    found += [table.c[name].is_not(None) for name in query.filled]
    found += [table.c[name].contains(text, autoescape=True) for name, text in query.holds.items()]
    if query.either:
        found.append(sa.or_(*(_equals(table.c[name], value) for name, value in query.either.items())))
    if query.since is not None:
        found.append(table.c.created_at >= query.since)
    if query.before is not None:
        found.append(table.c.created_at <= query.before)
    if query.due is not None:
        found.append(table.c[query.due[0]] <= query.due[1])
    for name, value in query.labels.items():
        labelled = sa.select(LABELS.c.owner).where(LABELS.c.name == name, LABELS.c.value == value)
        found.append(table.c.id.in_(labelled))
    return found


def ordered(table: sa.Table, query: Query) -> list[sa.ColumnElement[Any]]:
    """The order of the table's rows: total, so that pages neither overlap nor leave anything out."""
    key = next(iter(table.primary_key.columns))
    columns = [table.c[query.sort]] + ([] if query.sort == key.name else [key])
    return [column.desc() if query.descending else column.asc() for column in columns]


def _equals(column: sa.Column[Any], value: Value) -> sa.ColumnElement[bool]:
    if value is None or isinstance(value, str | bool | int):
        return column == value
    return among(column, value)
