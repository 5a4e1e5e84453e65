"""The first tables: pools, shares, snapshots, hosts, guests, attachments, events.

Types are spelled out, not taken from ``schema``: a migration stays what it was when the code moves on.
"""

import time

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "counter",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_counter")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("before", sa.String(), nullable=False),
        sa.Column("after", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_events_subject"), "events", ["subject"], unique=False)
    op.create_table(
        "hosts",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("desired", sa.BigInteger(), nullable=False),
        sa.Column("applied", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_hosts")),
    )
    op.create_table(
        "share_types",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("filesystem", sa.String(), nullable=False),
        sa.Column("checksums", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_share_types")),
    )
    op.create_table(
        "guests",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("static", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(), nullable=True),
        sa.Column("plugs", sa.JSON(), nullable=False),
        sa.Column("last_slot", sa.Integer(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name=op.f("fk_guests_host")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_guests")),
    )
    op.create_index(op.f("ix_guests_host"), "guests", ["host"], unique=False)
    op.create_index(op.f("ix_guests_project"), "guests", ["project"], unique=False)
    op.create_table(
        "pools",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("driver", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("overcommit", sa.Float(), nullable=False),
        sa.Column("reserve", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("free", sa.BigInteger(), nullable=True),
        sa.Column("powers", sa.JSON(), nullable=False),
        sa.Column("minimum", sa.JSON(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name=op.f("fk_pools_host")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_pools")),
    )
    op.create_index(op.f("ix_pools_host"), "pools", ["host"], unique=False)
    op.create_table(
        "shares",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("filesystem", sa.String(), nullable=False),
        sa.Column("checksums", sa.Boolean(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("actual", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("made", sa.Boolean(), nullable=False),
        sa.Column("origin_share", sa.String(), nullable=True),
        sa.Column("origin_snapshot", sa.String(), nullable=True),
        sa.Column("revert_to", sa.String(), nullable=True),
        sa.Column("reverts", sa.BigInteger(), nullable=False),
        sa.Column("reverted", sa.BigInteger(), nullable=False),
        sa.Column("wanted", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_shares_pool")),
        sa.ForeignKeyConstraint(["type"], ["share_types.name"], name=op.f("fk_shares_type")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shares")),
    )
    op.create_index(op.f("ix_shares_origin_share"), "shares", ["origin_share"], unique=False)
    op.create_index(op.f("ix_shares_pool"), "shares", ["pool"], unique=False)
    op.create_index(op.f("ix_shares_project"), "shares", ["project"], unique=False)
    op.create_index(op.f("ix_shares_type"), "shares", ["type"], unique=False)
    op.create_table(
        "attachments",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("share", sa.String(), nullable=False),
        sa.Column("guest", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("mode_reason", sa.String(), nullable=False),
        sa.Column("access", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("wanted", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["guest"], ["guests.id"], name=op.f("fk_attachments_guest")),
        sa.ForeignKeyConstraint(["share"], ["shares.id"], name=op.f("fk_attachments_share")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attachments")),
        sa.UniqueConstraint("guest", "place", name=op.f("uq_attachments_guest_place")),
        sa.UniqueConstraint("guest", "share", name=op.f("uq_attachments_guest_share")),
        sa.UniqueConstraint("guest", "slot", name=op.f("uq_attachments_guest_slot")),
    )
    op.create_index(op.f("ix_attachments_project"), "attachments", ["project"], unique=False)
    op.create_index(op.f("ix_attachments_share"), "attachments", ["share"], unique=False)
    op.create_table(
        "snapshots",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("share", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("made", sa.Boolean(), nullable=False),
        sa.Column("wanted", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["share"], ["shares.id"], name=op.f("fk_snapshots_share")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshots")),
    )
    op.create_index(op.f("ix_snapshots_project"), "snapshots", ["project"], unique=False)
    op.create_index(op.f("ix_snapshots_share"), "snapshots", ["share"], unique=False)
    op.execute("INSERT INTO counter (id, revision) VALUES (1, 0)")
    op.execute(
        sa.text(
            "INSERT INTO share_types (name, filesystem, checksums, revision, created_at) "
            "VALUES ('default', 'btrfs', :checksums, 0, :now)"
        ).bindparams(checksums=False, now=time.time_ns() // 1000)
    )
