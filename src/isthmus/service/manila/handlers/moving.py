"""What operators do with shares and pools: migration from one to another, and managing what lies in one."""

from __future__ import annotations

from isthmus.model.errors import Conflict, Invalid
from isthmus.model.names import MAX_DESCRIPTION, SnapshotId, parse_project, parse_title, parse_uuid
from isthmus.model.status import SnapshotStatus
from isthmus.service.domain import copies, scheduler, types
from isthmus.service.domain.pools import DEFAULT_TYPE
from isthmus.service.manila import facts
from isthmus.service.manila.ask import Ask
from isthmus.service.manila.handlers import shares, snapshots
from isthmus.service.manila.handlers.common import first
from isthmus.store.rows import CopyRow, PoolRow, ShareRow, SnapshotRow, TypeRow
from isthmus.store.tx import ReadTx, Tx
from isthmus.wire.manila.shape import flag, labels


def start(ask: Ask, tx: Tx) -> object:
    """A share begins to be copied to another pool. It may be written to meanwhile; guests lose it for a moment when
    the migration is completed, and what is not a file (snapshots) does not come along."""
    ask.need_admin("migrate a share")
    row, body = tx.need(ShareRow, ask.id), ask.body
    if flag(body["nondisruptive"]):
        raise Invalid(
            f"cannot migrate share {row.id} without disruption: guests have to open its files anew",
            field="migration_start.nondisruptive",
        )
    if body.get("new_share_network_id"):
        raise Invalid("cannot use new_share_network_id: no pool here has share servers", field="new_share_network_id")
    kind = tx.need(TypeRow, row.type)
    if body.get("new_share_type_id"):
        kind = types.find_type(tx, body["new_share_type_id"])
    target = _pool(tx, body["host"], "migration_start.host")
    wish = scheduler.wish_for(tx, kind, row.size)
    for test in (scheduler.offers_filesystem, scheduler.offers_powers, scheduler.offers_capabilities):
        if why := test(target, wish):
            raise Invalid(f"cannot migrate share {row.id} to pool {target.pool.name}: {why}", field="host")
    copies.migrate(tx, row, target.pool, kind)
    return None


def complete(ask: Ask, tx: Tx) -> object:
    """What was written since is copied, and the share is in the other pool."""
    ask.need_admin("complete a migration")
    copies.complete(tx, *_migrating(ask, tx))
    return None


def cancel(ask: Ask, tx: Tx) -> object:
    """The share stays."""
    ask.need_admin("cancel a migration")
    copies.cancel(tx, *_migrating(ask, tx))
    return None


def progress(ask: Ask, tx: ReadTx) -> object:
    """How far it is."""
    ask.need_admin("see a migration")
    row = tx.need(ShareRow, ask.id)
    copy = copies.migration_of(tx, row)
    if copy is None and row.task != "migration_success":
        raise Invalid(f"cannot show a migration of share {row.id}: there is none")
    done = 100 if copy is None else copies.progress(copy, row)
    return {"total_progress": done, "task_state": row.task or None}


def manage_share(ask: Ask, tx: Tx) -> object:
    """A volume that lies in a pool becomes a share of the caller's project, or of that which ``driver_options`` name:
    an operator of the whole system acts for none."""
    body = ask.body
    if str(body["protocol"]).upper() not in shares.PROTOCOLS:
        raise Invalid(f"cannot manage a share by this protocol: {', '.join(shares.PROTOCOLS)}", field="share.protocol")
    home = _pool(tx, body["service_host"], "share.service_host")
    kind = types.find_type(tx, body.get("share_type") or DEFAULT_TYPE)
    row = copies.adopt(
        tx,
        pool=home.pool,
        volume=_volume(body["export_path"]),
        kind=kind,
        project=_owner(ask),
        name=first(body, "display_name", "name") or "",
        description=first(body, "display_description", "description") or "",
        user=ask.caller.user,
        public=flag(body.get("is_public")),
    )
    return {"share": shares.shown(ask, tx, row)}


def manage_snapshot(ask: Ask, tx: Tx) -> object:
    """A snapshot that lies in a share is known from now on, by the id that it has there."""
    body = ask.body
    share = tx.need(ShareRow, body["share_id"])
    copies.check_idle(share, f"manage a snapshot of share {share.id}")
    if not facts.Around(tx).can(share, types.SNAPSHOTS):
        raise Invalid(f"cannot manage a snapshot of share {share.id}: it does not have that capability")
    name = SnapshotId(parse_uuid(body["provider_location"].rpartition("/")[2], "provider_location"))
    if tx.get(SnapshotRow, name) is not None:
        raise Conflict(f"cannot manage snapshot {name}: it is known already", code="id-taken")
    described = parse_title(
        first(body, "display_description", "description") or "", "description", most=MAX_DESCRIPTION
    )
    row = tx.add(
        SnapshotRow(
            name,
            share.id,
            share.project,
            SnapshotStatus.CREATING,
            name=parse_title(first(body, "display_name", "name") or ""),
            description=described,
            user=ask.caller.user,
            size=share.size,
            made=True,
        ),
        "to be managed",
    )
    tx.label(row.id, labels(body.get("metadata")))
    tx.wake(tx.need(PoolRow, share.pool).host)
    return {"snapshot": snapshots.shown(ask, tx, row)}


def _owner(ask: Ask) -> str:
    options = ask.body.get("driver_options") or {}
    if extra := sorted(set(options) - {"project_id"}):
        raise Invalid(
            f"cannot use the driver option {ascii(extra[0])[:60]}: there is project_id", field="driver_options"
        )
    return parse_project(str(options["project_id"])) if "project_id" in options else ask.project


def _migrating(ask: Ask, tx: Tx) -> tuple[ShareRow, CopyRow]:
    """The share and its migration."""
    row = tx.need(ShareRow, ask.id)
    copy = copies.migration_of(tx, row)
    if copy is None:
        raise Invalid(f"cannot do this with share {row.id}: it is not being migrated")
    return row, copy


def _pool(tx: ReadTx, host: str, field: str) -> scheduler.Candidate:
    """The pool at ``HOST@DRIVER#POOL``."""
    found = next((one for one in scheduler.candidates(tx) if one.address == host), None)
    if found is None:
        raise Invalid(f"cannot find {ascii(host)[:80]}: give HOST@DRIVER#POOL as pools are listed", field=field)
    return found


def _volume(path: object) -> str:
    """The volume's id: the last part of a path, as it lies in the pool or is exported."""
    text = path.get("path", "") if isinstance(path, dict) else path
    return parse_uuid(str(text).rstrip("/").rpartition("/")[2].rpartition(":")[2], "export_path")
