"""Copies of shares in other pools, for migrations and backups; volumes by names of their own; volumes that were left.

Types are spelled out, not taken from ``schema``: a migration stays what it was when the code moves on.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_TEXTS = (
    *("purpose", "share", "project", "volume", "pool", "source", "source_pool", "type", "filesystem", "status"),
    *("reason", "code", "name", "description", "user", "shown"),
)
_NUMBERS = ("size", "actual", "used", "rounds", "filled", "wanted", "revision", "created_at")
_FLAGS = ("checksums", "made")


def upgrade() -> None:
    _add("pools", "backups", sa.String(), "")
    _add("shares", "adopt", sa.Boolean(), sa.false())
    for name in ("volume", "fill_from", "fill_pool", "from_backup"):
        op.add_column("shares", sa.Column(name, sa.String(), nullable=True))
    op.create_index(op.f("ix_shares_volume"), "shares", ["volume"], unique=False)
    op.create_table(
        "copies",
        sa.Column("id", sa.String(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in _TEXTS),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _NUMBERS),
        *(sa.Column(name, sa.Boolean(), nullable=False) for name in _FLAGS),
        sa.Column("updated_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_copies")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_copies_pool_pools")),
    )
    for column in ("share", "pool"):
        op.create_index(op.f(f"ix_copies_{column}"), "copies", [column], unique=False)
    op.create_index(op.f("ix_copies_volume"), "copies", ["volume"], unique=True)
    op.create_index("ix_copies_owner_age", "copies", ["project", "created_at", "id"], unique=False)
    op.create_table(
        "left_volumes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_left_volumes")),
    )
    op.create_index(op.f("ix_left_volumes_pool"), "left_volumes", ["pool"], unique=False)


def _add(table: str, name: str, kind: sa.types.TypeEngine[Any], value: Any) -> None:
    """A column. What is there needs a value; what comes brings its own."""
    op.add_column(table, sa.Column(name, kind, nullable=False, server_default=value))
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column(table, name, server_default=None)
