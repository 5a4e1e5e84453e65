"""Statements that are built and compiled once: looking up a row by its key takes SQLAlchemy ten times as long to put
into words as it takes the database to answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from isthmus.store.reach import owned_by
from isthmus.store.record_tables import LABELS


@dataclass(frozen=True, slots=True)
class Prepared:
    """A SELECT as its driver takes it. ``order``: the names of its parameters where these go by position."""

    sql: str
    order: tuple[str, ...] | None
    names: tuple[str, ...]
    converters: tuple[tuple[int, Callable[[Any], Any]], ...]

    def rows(self, connection: sa.Connection, values: Mapping[str, Any]) -> list[list[Any]]:
        """What it finds, in the connection's transaction, converted as SQLAlchemy would."""
        cursor = connection.connection.cursor()
        try:
            given: Any = dict(values) if self.order is None else tuple(values[name] for name in self.order)
            cursor.execute(self.sql, given)
            found = [list(row) for row in cursor.fetchall()]
        except connection.dialect.loaded_dbapi.Error as error:
            raise exc.DBAPIError.instance(
                self.sql, None, error, connection.dialect.loaded_dbapi.Error, dialect=connection.dialect
            ) from error
        finally:
            cursor.close()
        for row in found:
            for at, convert in self.converters:
                row[at] = convert(row[at])
        return found


@lru_cache(maxsize=512)
def by_columns(dialect: sa.Dialect, table: sa.Table, names: tuple[str, ...], confined: bool, public: bool) -> Prepared:
    """The rows of which these columns equal the parameters of their names, by ascending key; ``confined``: those of
    the project ``reach``, a parameter too, or, if ``public``, such as everybody may read."""
    (key,) = table.primary_key.columns
    query = sa.select(table).where(*(table.c[name] == sa.bindparam(name) for name in names)).order_by(key)
    owned = owned_by(table, sa.bindparam("reach"), or_public=public) if confined else None
    return prepare(dialect, query if owned is None else query.where(owned))


@lru_cache(maxsize=8)
def labels(dialect: sa.Dialect) -> Prepared:
    """The metadata of one ``owner``."""
    table = LABELS
    query = sa.select(table.c.name, table.c.value).where(table.c.owner == sa.bindparam("owner"))
    return prepare(dialect, query.order_by(table.c.name))


def prepare(dialect: sa.Dialect, query: sa.Select[Any]) -> Prepared:
    """The query, compiled."""
    compiled = query.compile(dialect=dialect)
    converters = []
    for at, column in enumerate(query.selected_columns):
        if isinstance(column.type, sa.Float):
            continue  # both drivers give a float; SQLAlchemy would want to know the driver's number for it
        convert = column.type.dialect_impl(dialect).result_processor(dialect, None)
        if convert is not None:
            converters.append((at, convert))
    order = tuple(compiled.positiontup or ()) if compiled.positional else None
    names = tuple(str(column.key) for column in query.selected_columns)
    return Prepared(str(compiled), order, names, tuple(converters))
