"""Bringing the tables up to date. Alembic is loaded only when there is something to do."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from isthmus.model.errors import Refused

HEAD = "0004"
"""The newest migration in ``versions``; they are numbered, so a greater one is unknown to this code."""

HERE = Path(__file__).parent
_LOCK = 0x1574A45  # a number of our own among PostgreSQL's advisory locks
_BOOKMARK = sa.table("alembic_version", sa.column("version_num", sa.String))


def upgrade(engine: sa.Engine) -> None:
    """The tables are those of ``HEAD``; several processes may call this at once. Raises ``Refused`` for a database
    that a newer Isthmus wrote: going back is the operator's decision (restore a backup)."""
    with engine.connect() as connection, connection.begin():
        if not _behind(connection):
            return
    with engine.connect().execution_options(writer=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        if _behind(connection):
            migrate(connection, HEAD)


def current(connection: sa.Connection) -> str:
    """The database's migration, "" for an empty one."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return ""
    return connection.execute(sa.select(_BOOKMARK.c.version_num)).scalar() or ""


def migrate(connection: sa.Connection, to: str) -> None:
    """Run the migrations up to ``to`` in the connection's transaction."""
    from alembic import command  # noqa: PLC0415 - heavy, and rarely needed
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    command.upgrade(config, to)


def _behind(connection: sa.Connection) -> bool:
    now = current(connection)
    if now > HEAD:
        raise Refused(
            f"cannot open the database: a newer Isthmus wrote it (its tables are {now}, this one knows {HEAD}): "
            "upgrade Isthmus, or restore a backup",
            code="database-too-new",
            detail={"found": now, "known": HEAD},
        )
    return now < HEAD
