"""Opening the database, and its two kinds of transaction.

One writer at a time, on both databases: SQLite by ``BEGIN IMMEDIATE``, PostgreSQL by locking the row of the revision
counter first. What a writer reads stays true until it commits, so no rule is ever decided on stale facts, no
transaction has to be tried again, and revisions and events become visible in their order. Readers see one snapshot and
wait for nobody.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from isthmus.model.errors import Invalid, Unavailable
from isthmus.store import migrations
from isthmus.store.reach import EVERYTHING, Reach
from isthmus.store.schema import COUNTER
from isthmus.store.tx import ReadTx, Tx

Clock = Callable[[], datetime.datetime]

BUSY_SECONDS = 10
"""How long a writer waits for its turn."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What a committed transaction touched (``kind/key``, ``desired/HOST``, ``events``), and its revision."""

    topics: frozenset[str]
    revision: int


Listener = Callable[[Changed], None]


def utc_now() -> datetime.datetime:
    """The present time in UTC."""
    return datetime.datetime.now(datetime.UTC)


class Store:
    """The database. Its methods block: call them in a thread. May be shared by threads."""

    def __init__(self, engine: sa.Engine, now: Clock) -> None:
        self._engine = engine
        self._now = now
        self._listeners: list[Listener] = []
        self._turn = threading.Lock()

    @classmethod
    def open(cls, url: str, *, now: Clock = utc_now, connections: int = 8) -> Store:
        """The database at ``url`` (``sqlite:////var/lib/isthmus/isthmus.db``, ``postgresql+psycopg://...``), its tables
        brought up to date; a SQLite file is made, readable by its owner alone.

        Raises ``Invalid`` for another kind of database, ``Refused`` for one that a newer Isthmus wrote,
        ``Unavailable`` if it does not answer.
        """
        engine = _engine(url, connections)
        try:
            with _translated():
                migrations.upgrade(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, now)

    def close(self) -> None:
        """Connections are closed."""
        self._engine.dispose()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """``listener`` is called after each commit of this process that changed something, in the writer's thread.
        Returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @contextlib.contextmanager
    def read(self, reach: Reach = EVERYTHING) -> Iterator[ReadTx]:
        """A consistent view of what is in ``reach``. Raises ``Unavailable`` if the database does not answer."""
        with _translated(), self._engine.connect() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            connection.begin()
            yield ReadTx(connection, self._now(), reach)

    @contextlib.contextmanager
    def write(self, reach: Reach = EVERYTHING) -> Iterator[Tx]:
        """The one writing transaction, over what is in ``reach``: committed at the end, rolled back by an exception.

        Raises ``Unavailable`` if the database does not answer, or others kept it busy for ten seconds.
        """
        with self._queued(), _translated(), self._engine.connect() as connection:
            connection.execution_options(writer=True)
            with connection.begin():
                connection.execute(sa.select(COUNTER.c.revision).with_for_update())
                tx = Tx(connection, self._now(), reach)
                yield tx
        if tx.changes:
            changed = Changed(frozenset(tx.changes), tx.advance())
            for listener in tuple(self._listeners):
                listener(changed)

    @contextlib.contextmanager
    def _queued(self) -> Iterator[None]:
        """Writers of this process wait here. In SQLite's own queue they would poll, with pauses that grow to 100 ms."""
        if not self._turn.acquire(timeout=BUSY_SECONDS):
            raise Unavailable("cannot use the database: other writers keep it busy", code="database-unavailable")
        try:
            yield
        finally:
            self._turn.release()


def _engine(url: str, connections: int) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError as error:
        raise Invalid("cannot open the database: its URL is not one", field="database") from error
    if parsed.drivername == "sqlite":
        return _sqlite(parsed, connections)
    if parsed.drivername == "postgresql+psycopg":
        return _postgresql(parsed, connections)
    raise Invalid(
        f"cannot open the database: {parsed.drivername} is not supported: use sqlite or postgresql+psycopg",
        field="database",
    )


def _sqlite(url: sa.URL, connections: int) -> sa.Engine:
    if not url.database or url.database == ":memory:":
        raise Invalid("cannot open the database: SQLite needs the path of a file", field="database")
    path = Path(url.database)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise Unavailable(f"cannot open the database {path}: {error.strerror}", detail={"path": str(path)}) from error
    engine = sa.create_engine(
        url, pool_size=connections, max_overflow=0, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Runs for each new connection. ``synchronous=FULL`` costs a sync per commit and keeps every answered request
    through a power failure; NORMAL might forget the last ones, and with them shares that hosts made since."""
    connection.isolation_level = None  # BEGIN is ours, not the driver's
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writer") else "BEGIN")


def _postgresql(url: sa.URL, connections: int) -> sa.Engine:
    limits = f"-c lock_timeout={BUSY_SECONDS}s -c idle_in_transaction_session_timeout=60s"
    try:
        return sa.create_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            pool_pre_ping=True,
            isolation_level="READ COMMITTED",  # after the counter's lock, every statement sees all earlier commits
            connect_args={"connect_timeout": BUSY_SECONDS, "options": limits, "application_name": "isthmus"},
        )
    except ImportError as error:
        raise Invalid(
            "cannot open the database: psycopg is not installed: install isthmus[postgresql]", field="database"
        ) from error


# What the database thinks of our statements, not of itself.
_DEFECTS = (exc.IntegrityError, exc.DataError, exc.ProgrammingError, exc.InternalError, exc.NotSupportedError)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """A database that cannot be used now is ``Unavailable``; the driver's words stay in the detail."""
    try:
        yield
    except (exc.DatabaseError, exc.TimeoutError, exc.InterfaceError) as error:
        if isinstance(error, _DEFECTS):
            raise
        cause = str(getattr(error, "orig", None) or error).strip()
        raise Unavailable(
            f"cannot use the database: {cause.splitlines()[0]}", code="database-unavailable", detail={"cause": cause}
        ) from error
