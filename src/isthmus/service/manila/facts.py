"""Rows as facts under the API's names; ``wire.manila.shapes`` says which of them a version shows."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isthmus.model.share import Filesystem, Power
from isthmus.model.status import ShareStatus
from isthmus.service.domain import rules, types
from isthmus.service.domain.pools import DEFAULT_TYPE
from isthmus.service.domain.quotas import gib
from isthmus.service.manila.ask import Ask, stamp
from isthmus.store.query import Query
from isthmus.store.rows import AttachmentRow, CopyRow, HostRow, PoolRow, ShareRow, SnapshotRow, TypeRow
from isthmus.store.tx import ReadTx

_NAMESPACE = uuid.UUID("5b3c0a4e-6f0c-4a54-9f57-1b8f6f7a2d11")
"""Of ids that follow from others: export locations, availability zones, services."""


def derived(*parts: str) -> str:
    """An id that follows from these."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(parts)))


def share_status(row: ShareRow) -> str:
    """In Manila's words: an error says what failed."""
    if row.shown:
        return row.shown
    match row.status:
        case ShareStatus.CREATING if row.adopt:
            return "manage_starting"
        case ShareStatus.CREATING:
            return "creating_from_snapshot" if row.origin_snapshot else "creating"
        case ShareStatus.DELETING:
            return "error_deleting" if row.code else "deleting"
        case ShareStatus.REVERTING if row.fill_from:
            return "backup_restoring"
        case ShareStatus.ERROR if row.adopt:
            return "manage_error"
        case ShareStatus.ERROR if row.made and row.reverted < row.reverts:
            return "backup_restoring_error" if row.fill_from else "reverting_error"
        case ShareStatus.ERROR if row.made and row.actual and row.size > row.actual:
            return "extending_error"
        case ShareStatus.ERROR if row.made and row.actual and row.size < row.actual:
            return "shrinking_error"
    return str(row.status)


def status_of(row: SnapshotRow | CopyRow) -> str:
    """That of a snapshot or a backup in Manila's words."""
    if row.shown:
        return row.shown
    return "error_deleting" if row.status == "deleting" and row.code else str(row.status)


@dataclass(slots=True)
class Around:
    """What the rows of a list have in common, looked up once."""

    tx: ReadTx
    kinds: dict[str, TypeRow] = field(default_factory=dict)
    pools: dict[str, tuple[PoolRow, HostRow]] = field(default_factory=dict)
    able: dict[tuple[str, ...], bool] = field(default_factory=dict)

    def kind(self, name: str) -> TypeRow:
        """The share type of this name."""
        if name not in self.kinds:
            self.kinds[name] = self.tx.need(TypeRow, name)
        return self.kinds[name]

    def pool(self, name: str) -> tuple[PoolRow, HostRow]:
        """A pool and its host."""
        if name not in self.pools:
            pool = self.tx.need(PoolRow, name)
            self.pools[name] = (pool, self.tx.need(HostRow, pool.host))
        return self.pools[name]

    def address(self, name: str) -> str:
        """A pool as ``HOST@DRIVER#POOL``."""
        pool, host = self.pool(name)
        return f"{host.name}@{pool.driver}#{pool.name}"

    def powers(self, row: ShareRow) -> frozenset[Power]:
        """What the share's pool can do with it."""
        return self.pool(row.pool)[0].powers.get(Filesystem(row.filesystem), frozenset())

    def can(self, row: ShareRow, spec: str) -> bool:
        """Whether the share has the power of this spec: its type promises it, and its pool keeps it."""
        key = (spec, row.type, row.pool, row.filesystem)
        if key not in self.able:
            power = types.POWERS.get(spec)
            self.able[key] = power is not None and types.has(self.kind(row.type), spec) and power in self.powers(row)
        return self.able[key]


def shares(ask: Ask, tx: ReadTx, rows: Sequence[ShareRow], around: Around | None = None) -> list[dict[str, Any]]:
    """Shares in detail."""
    around = around or Around(tx)
    ids = [row.id for row in rows]
    labels = tx.labels(ids)
    syncing = rules.rules_status(tx, ids) if ids else {}
    return [_share(ask, row, around, labels.get(row.id, {}), syncing.get(row.id, "active")) for row in rows]


def _share(ask: Ask, row: ShareRow, around: Around, labels: Mapping[str, str], access: str) -> dict[str, Any]:
    kind = around.kind(row.type)
    _, host = around.pool(row.pool)
    status = share_status(row)
    path = f"{ask.gateway}:{rules.place_of(row)}"
    return {
        "id": row.id,
        "size": gib(row.size),
        "availability_zone": host.zone if row.placed else None,
        "created_at": stamp(row.created_at),
        "status": status,
        "old_status": "creating" if status == "creating_from_snapshot" else status,
        "name": row.name or None,
        "description": row.description or None,
        "project_id": row.project,
        "snapshot_id": row.origin_snapshot,
        "share_network_id": row.network,
        "share_proto": row.proto,
        "export_location": path if row.made and not row.adopt else None,
        "export_locations": [path] if row.made and not row.adopt else [],
        "metadata": dict(labels),
        "share_type_id": kind.uuid,
        "share_type_name": kind.name,
        "links": ask.links("shares", row.id),
        "is_public": row.public,
        "snapshot_support": around.can(row, types.SNAPSHOTS),
        "task_state": row.task or None,
        "access_rules_status": access,
        "old_access_rules_status": "out_of_sync" if access == "syncing" else access,
        "replication_type": None,
        "has_replicas": False,
        "user_id": row.user or None,
        "create_share_from_snapshot_support": around.can(row, types.CLONES),
        "revert_to_snapshot_support": around.can(row, types.REVERTS),
        "share_group_id": row.group,
        "source_share_group_snapshot_member_id": row.member,
        "mount_snapshot_support": False,
        "progress": "100%" if row.made and not row.adopt else "0%",
        "is_soft_deleted": row.deleted_until is not None,
        "scheduled_to_be_deleted_at": stamp(row.deleted_until),
        "source_backup_id": row.from_backup,
        "mount_point_name": row.mount_name or None,
        "encryption_key_ref": None,
        "share_server_id": None,
        "host": around.address(row.pool) if row.placed else "",
    }


def instance(ask: Ask, row: ShareRow, around: Around) -> dict[str, Any]:
    """A share's one instance: it has the share's id."""
    known = _share(ask, row, around, {}, "active")
    known |= {
        "share_id": row.id,
        "replica_state": None,
        "share_server_id": None,
        "cast_rules_to_readonly": False,
        "updated_at": stamp(row.updated_at),
    }
    return known


def exports(ask: Ask, tx: ReadTx, row: ShareRow) -> list[dict[str, Any]]:
    """Where guests find the share: the place that access rules give it, there from the start, then the places of what
    was attached by itself. None before the share has been made."""
    if not row.made or row.adopt:
        return []
    places = [rules.place_of(row)]
    attached = tx.page(AttachmentRow, Query(equal={"share": row.id, "rule": None}, descending=False))
    places += [one.place for one in attached]
    found = []
    for place in dict.fromkeys(places):
        key = derived("export", row.id, place)
        found.append(
            {
                "id": key,
                "path": f"{ask.gateway}:{place}",
                "preferred": place == places[0],
                "share_instance_id": row.id,
                "is_admin_only": False,
                "created_at": stamp(row.created_at),
                "updated_at": stamp(row.updated_at),
            }
        )
    labels = tx.labels([str(one["id"]) for one in found])
    return [{**one, "metadata": labels.get(str(one["id"]), {})} for one in found]


def snapshots(ask: Ask, tx: ReadTx, rows: Sequence[SnapshotRow]) -> list[dict[str, Any]]:
    """Snapshots in detail."""
    labels = tx.labels([row.id for row in rows])
    protos = dict(tx.pick(ShareRow, ("id", "proto"), Query(equal={"id": sorted({row.share for row in rows})})))
    return [
        {
            "id": row.id,
            "share_id": row.share,
            "share_size": gib(row.size),
            "size": gib(row.size),
            "created_at": stamp(row.created_at),
            "status": status_of(row),
            "name": row.name or None,
            "description": row.description or None,
            "share_proto": protos.get(row.share, "NFS"),
            "links": ask.links("snapshots", row.id),
            "provider_location": row.id,
            "user_id": row.user or None,
            "project_id": row.project,
            "metadata": labels.get(row.id, {}),
        }
        for row in rows
    ]


def backup(ask: Ask, row: CopyRow, around: Around) -> dict[str, Any]:
    """A backup in detail."""
    _, host = around.pool(row.pool)
    return {
        "id": row.id,
        "share_id": row.share,
        "name": row.name or None,
        "description": row.description or None,
        "status": status_of(row),
        "size": gib(row.size),
        "availability_zone": host.zone,
        "project_id": row.project,
        "created_at": stamp(row.created_at),
        "updated_at": stamp(row.updated_at),
        "progress": "100%" if row.filled else "0%",
        "restore_progress": "0%" if row.shown == "restoring" else "100%",
        "backup_type": "isthmus_pool",
        "host": around.address(row.pool),
        "topic": "isthmus-service",
        "links": ask.links("share-backups", row.id),
    }


def share_type(ask: Ask, row: TypeRow) -> dict[str, Any]:
    """A share type. Tenants see what concerns them, operators what was set."""
    specs = types.specs_of(row)
    required = {types.DHSS: specs[types.DHSS]}
    if not ask.admin:
        specs = {name: value for name, value in specs.items() if name in types.VISIBLE}
        required = dict(required)
        if ask.minor >= 24:
            for name in types.OPTIONAL:
                specs.setdefault(name, str(types.has(row, name)))
    return {
        "id": row.uuid,
        "name": row.name,
        "extra_specs": specs,
        "required_extra_specs": required,
        "is_public": row.public,
        "description": row.description or None,
        "is_default": row.name == DEFAULT_TYPE,
    }
