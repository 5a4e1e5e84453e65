"""What tables are made of: kinds of columns, and the one ``MetaData``."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from isthmus.model.share import Filesystem, Power
from isthmus.store import rows


class _Items(FunctionElement[str]):
    """The texts of a JSON list, as rows."""

    name = "items"
    inherit_cache = True


@compiles(_Items, "sqlite")
def _items_sqlite(element: _Items, compiler: sa.Compiled, **more: Any) -> str:
    return f"(SELECT value FROM json_each({compiler.process(element.clauses, **more)}))"  # noqa: S608 - a placeholder


@compiles(_Items, "postgresql")
def _items_postgresql(element: _Items, compiler: sa.Compiled, **more: Any) -> str:
    return f"(SELECT jsonb_array_elements_text(CAST({compiler.process(element.clauses, **more)} AS JSONB)))"


def among(column: sa.ColumnElement[Any], values: Iterable[object]) -> sa.ColumnElement[bool]:
    """The column is one of these texts, however many: they travel as one parameter. A parameter each is another
    statement for every number of them, which the database's driver keeps, and thirty thousand are too many."""
    return column.op("IN", is_comparison=True)(_Items(sa.literal(json.dumps([str(value) for value in values]))))


# Names of constraints that both databases share, so that a migration can speak of them.
METADATA = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Word(sa.TypeDecorator[StrEnum]):
    """A StrEnum, kept as its text."""

    impl = sa.String
    cache_ok = True

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__()
        self.words = words
        self._known = {str(word): word for word in words}  # calling an enumeration takes five times as long

    def process_bind_param(self, value: StrEnum | None, _dialect: sa.Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, _dialect: sa.Dialect) -> StrEnum | None:
        return None if value is None else self._known[value]


class Instant(sa.TypeDecorator[datetime.datetime]):
    """A point in time, kept as microseconds since 1970 in UTC: sorts alike on every database."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime.datetime | None, _dialect: sa.Dialect) -> int | None:
        return None if value is None else (value - rows.EPOCH) // datetime.timedelta(microseconds=1)

    def process_result_value(self, value: int | None, _dialect: sa.Dialect) -> datetime.datetime | None:
        return None if value is None else rows.EPOCH + datetime.timedelta(microseconds=value)


class Powers(sa.TypeDecorator[Mapping[Filesystem, frozenset[Power]]]):
    """What a pool's file systems are able to do, as JSON."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: Mapping[Filesystem, frozenset[Power]] | None, _dialect: sa.Dialect) -> Any:
        return {str(name): sorted(powers) for name, powers in (value or {}).items()}

    def process_result_value(self, value: Any, _dialect: sa.Dialect) -> Mapping[Filesystem, frozenset[Power]]:
        return {Filesystem(name): frozenset(map(Power, powers)) for name, powers in value.items()}


class Sizes(sa.TypeDecorator[Mapping[Filesystem, int]]):
    """Bytes by file system, as JSON."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: Mapping[Filesystem, int] | None, _dialect: sa.Dialect) -> Any:
        return {str(name): size for name, size in (value or {}).items()}

    def process_result_value(self, value: Any, _dialect: sa.Dialect) -> Mapping[Filesystem, int]:
        return {Filesystem(name): size for name, size in value.items()}


class Words(sa.TypeDecorator[frozenset[str]]):
    """A set of short texts, as JSON."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: frozenset[str] | None, _dialect: sa.Dialect) -> Any:
        return sorted(value or ())

    def process_result_value(self, value: Any, _dialect: sa.Dialect) -> frozenset[str]:
        return frozenset(value)


class Lines(sa.TypeDecorator[tuple[str, ...]]):
    """Short texts in their order, as JSON."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, _dialect: sa.Dialect) -> Any:
        return list(value or ())

    def process_result_value(self, value: Any, _dialect: sa.Dialect) -> tuple[str, ...]:
        return tuple(value)


def text(name: str, *arguments: Any, **options: Any) -> sa.Column[Any]:
    """A text, never NULL."""
    return sa.Column(name, sa.String, *arguments, nullable=False, **options)


def number(name: str) -> sa.Column[Any]:
    """A whole number of up to 64 bits, never NULL."""
    return sa.Column(name, sa.BigInteger, nullable=False)


def flag(name: str) -> sa.Column[Any]:
    """True or false."""
    return sa.Column(name, sa.Boolean, nullable=False)


def word(name: str, words: type[StrEnum]) -> sa.Column[Any]:
    """One of these words."""
    return sa.Column(name, Word(words), nullable=False)


def key(name: str) -> sa.Column[Any]:
    """The primary key."""
    return sa.Column(name, sa.String, primary_key=True)


def life() -> tuple[sa.Column[Any], ...]:
    """What every row has."""
    return (number("revision"), sa.Column("created_at", Instant, nullable=False))


class Texts(sa.TypeDecorator[Mapping[str, str]]):
    """Texts by name, as JSON."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: Mapping[str, str] | None, _dialect: sa.Dialect) -> Any:
        return dict(value or {})

    def process_result_value(self, value: Any, _dialect: sa.Dialect) -> Mapping[str, str]:
        return dict(value)
