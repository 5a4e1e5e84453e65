"""What the Shared File Systems API keeps: owners and ages of shares, types, zones, rules, locks, messages, transfers,
quotas, groups, networks, metadata.

Types are spelled out, not taken from ``schema``: a migration stays what it was when the code moves on.
"""

import uuid
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    _columns()
    _types()
    _indexes()
    _records()
    _labels()


def _add(table: str, name: str, kind: sa.types.TypeEngine[Any], value: Any) -> None:
    """A column. What is there needs a value; what comes brings its own."""
    if value is None:
        op.add_column(table, sa.Column(name, kind, nullable=True))
        return
    op.add_column(table, sa.Column(name, kind, nullable=False, server_default=value))
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column(table, name, server_default=None)


def _columns() -> None:
    for table, names in (
        ("hosts", ("zone", "disabled_reason")),
        ("shares", ("user", "description", "proto", "shown", "task", "mount_name")),
        ("snapshots", ("user", "description", "shown")),
        ("share_types", ("uuid", "description")),
    ):
        for name in names:
            _add(table, name, sa.String(), {"zone": "nova", "proto": "NFS"}.get(name, ""))
    _add("hosts", "disabled", sa.Boolean(), sa.false())
    _add("shares", "placed", sa.Boolean(), sa.true())
    for name in ("group", "network", "member"):
        _add("shares", name, sa.String(), None)
    for name in ("deleted_until", "updated_at"):
        _add("shares", name, sa.BigInteger(), None)
    _add("snapshots", "size", sa.BigInteger(), "0")
    _add("snapshots", "group_snapshot", sa.String(), None)
    _add("snapshots", "updated_at", sa.BigInteger(), None)
    _add("guests", "addresses", sa.JSON(), "[]")
    _add("attachments", "rule", sa.String(), None)
    op.execute("UPDATE snapshots SET size = (SELECT size FROM shares WHERE shares.id = snapshots.share)")


def _types() -> None:
    _add("share_types", "public", sa.Boolean(), sa.true())
    _add("share_types", "specs", sa.JSON(), "{}")
    types = sa.table("share_types", sa.column("name", sa.String), sa.column("uuid", sa.String))
    for (name,) in op.get_bind().execute(sa.select(types.c.name)).all():
        op.get_bind().execute(sa.update(types).where(types.c.name == name).values(uuid=str(uuid.uuid4())))
    op.create_index(op.f("ix_share_types_uuid"), "share_types", ["uuid"], unique=True)


def _indexes() -> None:
    for table, column in (("shares", "project"), ("shares", "pool"), ("snapshots", "project")):
        op.drop_index(f"ix_{table}_{column}", table)
    for name, table, columns in (
        ("ix_shares_group", "shares", ["group"]),
        ("ix_shares_deleted_until", "shares", ["deleted_until"]),
        ("ix_shares_owner_age", "shares", ["project", "created_at", "id", "deleted_until"]),
        ("ix_shares_age", "shares", ["created_at", "id"]),
        ("ix_shares_owner_name", "shares", ["project", "name", "created_at", "id"]),
        ("ix_shares_owner_size", "shares", ["project", "type", "user", "size"]),
        ("ix_shares_pool_size", "shares", ["pool", "placed", "size", "actual"]),
        ("ix_snapshots_group_snapshot", "snapshots", ["group_snapshot"]),
        ("ix_snapshots_owner_age", "snapshots", ["project", "created_at", "id"]),
        ("ix_snapshots_age", "snapshots", ["created_at", "id"]),
        ("ix_attachments_rule", "attachments", ["rule"]),
    ):
        op.create_index(name, table, columns, unique=False)


_FLAG, _JSON, _TIME = sa.Boolean(), sa.JSON(), sa.BigInteger()
_RECORDS: dict[str, tuple[tuple[Any, ...], tuple[str, ...], tuple[str, ...]]] = {
    # table: (columns: a text, or a name and a type; those that may be NULL; indexes)
    "access_rules": (
        ("share", "project", "kind", "to", "access", "user", ("denied", _FLAG), "reason"),
        ("updated_at",),
        ("share", "project"),
    ),
    "locks": (
        ("project", "user", "context", "kind", "resource", "action", "reason", "cause"),
        ("updated_at",),
        ("project", "resource"),
    ),
    "messages": (
        ("project", "kind", "resource", "action", "detail", "text", ("expires_at", _TIME), "request"),
        (),
        ("resource", "expires_at"),
    ),
    "transfers": (
        ("project", "share", "name", "salt", "digest", ("expires_at", _TIME), "destination"),
        (),
        ("project", "share"),
    ),
    "quotas": (("tenant", "user", "type", "resource", ("most", _TIME)), (), ("tenant",)),
    "type_access": (("kind", "what", "tenant"), (), ("what", "tenant")),
    "share_group_types": (("name", ("types", _JSON), ("public", _FLAG), ("specs", _JSON)), (), ()),
    "share_groups": (
        ("project", "user", "name", "description", "type", ("types", _JSON), "zone", "network", "origin", "shown"),
        (),
        ("project", "type"),
    ),
    "share_group_snapshots": (
        ("group", "project", "user", "name", "description", "shown"),
        (),
        ("group", "project"),
    ),
    "share_networks": (
        ("project", "user", "name", "description", ("services", _JSON), "shown"),
        ("updated_at",),
        ("project",),
    ),
    "share_network_subnets": (
        ("network", "project", "neutron_network", "neutron_subnet", "zone"),
        ("updated_at",),
        ("network", "project"),
    ),
    "security_services": (
        (
            *("project", "kind", "name", "description", "dns_ip", "server", "domain", "user", "password", "ou"),
            "default_ad_site",
        ),
        ("updated_at",),
        ("project",),
    ),
    "qos_types": (("name", "description", ("specs", _JSON)), ("updated_at",), ()),
}


def _records() -> None:
    for table, (filled, open_, indexes) in _RECORDS.items():
        op.create_table(
            table,
            sa.Column("id", sa.String(), nullable=False),
            *(
                sa.Column(one, sa.String(), nullable=False)
                if isinstance(one, str)
                else sa.Column(one[0], one[1], nullable=False)
                for one in filled
            ),
            sa.Column("revision", sa.BigInteger(), nullable=False),
            sa.Column("created_at", sa.BigInteger(), nullable=False),
            *(sa.Column(name, sa.BigInteger(), nullable=True) for name in open_),
            sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        )
        for column in indexes:
            op.create_index(op.f(f"ix_{table}_{column}"), table, [column], unique=False)
    op.create_index(op.f("ix_messages_project_created_at_id"), "messages", ["project", "created_at", "id"])
    for table in ("share_group_types", "qos_types"):
        op.create_index(op.f(f"ix_{table}_name"), table, ["name"], unique=True)


def _labels() -> None:
    op.create_table(
        "labels",
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "name", name=op.f("pk_labels")),
    )
    op.create_index(op.f("ix_labels_name_value"), "labels", ["name", "value"], unique=False)
