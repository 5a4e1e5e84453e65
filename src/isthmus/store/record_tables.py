"""The tables of ``records``, and the labels (metadata) of everything that has some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from isthmus.model.attachment import Access
from isthmus.store import records
from isthmus.store.columns import METADATA, Instant, Texts, Words, flag, key, life, number, text, word


def _updated() -> sa.Column[Any]:
    return sa.Column("updated_at", Instant)


RULES = sa.Table(
    "access_rules",
    METADATA,
    key("id"),
    text("share", index=True),
    text("project", index=True),
    text("kind"),
    text("to"),
    word("access", Access),
    text("user"),
    flag("denied"),
    text("reason"),
    *life(),
    _updated(),
)
LOCKS = sa.Table(
    "locks",
    METADATA,
    key("id"),
    text("project", index=True),
    text("user"),
    text("context"),
    text("kind"),
    text("resource", index=True),
    text("action"),
    text("reason"),
    text("cause"),
    *life(),
    _updated(),
)
MESSAGES = sa.Table(
    "messages",
    METADATA,
    key("id"),
    text("project"),
    text("kind"),
    text("resource", index=True),
    text("action"),
    text("detail"),
    text("text"),
    sa.Column("expires_at", Instant, nullable=False, index=True),
    text("request"),
    *life(),
    sa.Index(None, "project", "created_at", "id"),
)
TRANSFERS = sa.Table(
    "transfers",
    METADATA,
    key("id"),
    text("project", index=True),
    text("share", index=True),
    text("name"),
    text("salt"),
    text("digest"),
    sa.Column("expires_at", Instant, nullable=False),
    text("destination"),
    *life(),
)
QUOTAS = sa.Table(
    "quotas",
    METADATA,
    key("id"),
    text("tenant", index=True),
    text("user"),
    text("type"),
    text("resource"),
    number("most"),
    *life(),
)
ALLOWED = sa.Table(
    "type_access",
    METADATA,
    key("id"),
    text("kind"),
    text("what", index=True),
    text("tenant", index=True),
    *life(),
)
GROUP_TYPES = sa.Table(
    "share_group_types",
    METADATA,
    key("id"),
    text("name", index=True, unique=True),
    sa.Column("types", Words, nullable=False),
    flag("public"),
    sa.Column("specs", Texts, nullable=False),
    *life(),
)
GROUPS = sa.Table(
    "share_groups",
    METADATA,
    key("id"),
    text("project", index=True),
    text("user"),
    text("name"),
    text("description"),
    text("type", index=True),
    sa.Column("types", Words, nullable=False),
    text("zone"),
    text("network"),
    text("origin"),
    text("shown"),
    *life(),
)
GROUP_SNAPSHOTS = sa.Table(
    "share_group_snapshots",
    METADATA,
    key("id"),
    text("group", index=True),
    text("project", index=True),
    text("user"),
    text("name"),
    text("description"),
    text("shown"),
    *life(),
)
LEFT = sa.Table("left_volumes", METADATA, key("id"), text("pool", index=True), *life())
NETWORKS = sa.Table(
    "share_networks",
    METADATA,
    key("id"),
    text("project", index=True),
    text("user"),
    text("name"),
    text("description"),
    sa.Column("services", Words, nullable=False),
    text("shown"),
    *life(),
    _updated(),
)
SUBNETS = sa.Table(
    "share_network_subnets",
    METADATA,
    key("id"),
    text("network", index=True),
    text("project", index=True),
    text("neutron_network"),
    text("neutron_subnet"),
    text("zone"),
    *life(),
    _updated(),
)
SECURITY_SERVICES = sa.Table(
    "security_services",
    METADATA,
    key("id"),
    text("project", index=True),
    text("kind"),
    text("name"),
    text("description"),
    text("dns_ip"),
    text("server"),
    text("domain"),
    text("user"),
    text("password"),
    text("ou"),
    text("default_ad_site"),
    *life(),
    _updated(),
)
QOS_TYPES = sa.Table(
    "qos_types",
    METADATA,
    key("id"),
    text("name", index=True, unique=True),
    text("description"),
    sa.Column("specs", Texts, nullable=False),
    *life(),
    _updated(),
)

LABELS = sa.Table(
    "labels",
    METADATA,
    sa.Column("owner", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    text("value"),
    sa.Index(None, "name", "value"),
)

TABLES: Mapping[type[Any], sa.Table] = {
    records.RuleRow: RULES,
    records.LockRow: LOCKS,
    records.MessageRow: MESSAGES,
    records.TransferRow: TRANSFERS,
    records.QuotaRow: QUOTAS,
    records.AllowedRow: ALLOWED,
    records.GroupTypeRow: GROUP_TYPES,
    records.GroupRow: GROUPS,
    records.GroupSnapshotRow: GROUP_SNAPSHOTS,
    records.LeftRow: LEFT,
    records.NetworkRow: NETWORKS,
    records.SubnetRow: SUBNETS,
    records.SecurityServiceRow: SECURITY_SERVICES,
    records.QosTypeRow: QOS_TYPES,
}
