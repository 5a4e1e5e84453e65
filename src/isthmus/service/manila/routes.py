"""The Shared File Systems API as one table: method, path, who, what, in which versions. Rules have Manila's names."""

from __future__ import annotations

from typing import Any

from isthmus.service.manila.handlers import (
    access,
    actions,
    infra,
    instances,
    locations,
    locks,
    messages,
    metadata,
    quotas,
    shares,
    snapshots,
    transfers,
    types,
)
from isthmus.service.manila.router import Route
from isthmus.service.routes import Access
from isthmus.wire.manila import requests as r

_MEMBER, _OPERATOR = Access.MEMBER, Access.OPERATOR


def _get(path: str, rule: str, handler: Any, summary: str, who: Access = _MEMBER, **more: Any) -> Route:
    return Route("GET", path, who, handler, rule, summary, **more)


def _post(path: str, rule: str, handler: Any, summary: str, body: Any, who: Access = _MEMBER, **more: Any) -> Route:
    return Route("POST", path, who, handler, rule, summary, body=body, **more)


def _put(path: str, rule: str, handler: Any, summary: str, body: Any, who: Access = _MEMBER, **more: Any) -> Route:
    return Route("PUT", path, who, handler, rule, summary, body=body, **more)


def _delete(path: str, rule: str, handler: Any, summary: str, who: Access = _MEMBER, **more: Any) -> Route:
    return Route("DELETE", path, who, handler, rule, summary, **{"status": 202, **more})


def _act(noun: str, rule: str, handler: Any, summary: str, body: Any, who: Access = _MEMBER, **more: Any) -> Route:
    path = f"/{noun}/{{id}}/action"
    return Route("POST", path, who, handler, rule, summary, body=body, action=body.root, **{"status": 202, **more})


def _metadata(path: str, rule: str, since: int = 0, name: str = "share") -> tuple[Route, ...]:
    m, get, put, drop = metadata, f"{rule}:get_{name}", f"{rule}:update_{name}", f"{rule}:delete_{name}"
    key = f"{path}/{{key}}"
    return (
        _get(path, get, m.index, "List metadata", since=since),
        _post(path, put, m.add, "Add metadata", r.METADATA, since=since),
        _put(path, put, m.replace, "Replace metadata", r.METADATA, since=since),
        _get(key, get, m.show, "Show an item of metadata", since=since),
        _post(key, put, m.put, "Set an item of metadata", r.METADATA, since=since),
        _put(key, put, m.put, "Set an item of metadata", r.METADATA, since=since),
        _delete(key, drop, m.delete, "Delete an item of metadata", since=since, status=200),
    )


# fmt: off
SHARES: tuple[Route, ...] = (
    _get("/shares", "share:get_all", shares.index, "List shares"),
    _get("/shares/detail", "share:get_all", shares.detail, "List shares with details"),
    _post("/shares", "share:create", shares.create, "Create a share", r.SHARE_CREATE),
    _get("/shares/{id}", "share:get", shares.show, "Show a share"),
    _put("/shares/{id}", "share:update", shares.update, "Update a share", r.SHARE_UPDATE),
    _delete("/shares/{id}", "share:delete", shares.delete, "Delete a share"),
    *_metadata("/shares/{id}/metadata", "share", name="share_metadata"),
    _act("shares", "share:extend", actions.extend, "Extend a share", r.resize("extend"), since=7),
    _act("shares", "share:extend", actions.extend, "Extend a share", r.resize("os-extend"), until=6),
    _act("shares", "share:shrink", actions.shrink, "Shrink a share", r.resize("shrink"), since=7),
    _act("shares", "share:shrink", actions.shrink, "Shrink a share", r.resize("os-shrink"), until=6),
    _act("shares", "share:revert_to_snapshot", actions.revert, "Revert a share to its latest snapshot", r.REVERT,
         since=27),
    _act("shares", "share:soft_delete", actions.soft_delete, "Put a share into the recycle bin",
         r.nothing("soft_delete"), since=69),
    _act("shares", "share:restore", actions.restore, "Restore a share from the recycle bin", r.nothing("restore"),
         since=69),
    _act("shares", "share:force_delete", shares.force_delete, "Delete a share by force", r.nothing("force_delete"),
         _OPERATOR, since=7),
    _act("shares", "share:force_delete", shares.force_delete, "Delete a share by force", r.nothing("os-force_delete"),
         _OPERATOR, until=6),
    _act("shares", "share:reset_status", actions.reset_status, "Reset a share's status",
         r.status("reset_status", *r.SHARE_STATUSES), _OPERATOR, since=7),
    _act("shares", "share:reset_status", actions.reset_status, "Reset a share's status",
         r.status("os-reset_status", *r.SHARE_STATUSES), _OPERATOR, until=6),
    _act("shares", "share:reset_task_state", actions.reset_task_state, "Reset a share's task state", r.TASK, _OPERATOR,
         since=22, experimental=95),
    _act("shares", "share:unmanage", actions.unmanage, "Forget a share, and keep its data", r.nothing("unmanage"),
         _OPERATOR, since=7),
    _post("/os-share-unmanage/{id}/unmanage", "share:unmanage", actions.unmanage, "Forget a share, and keep its data",
          None, _OPERATOR, until=6, status=202),
    _act("shares", "share:migration_start", actions.migration_refused, "Migrate a share to another pool",
         r.anything("migration_start"), _OPERATOR, since=29, experimental=95),
    _act("shares", "share:migration_complete", actions.migration_refused, "Complete a migration",
         r.anything("migration_complete"), _OPERATOR, since=22, experimental=95),
    _act("shares", "share:migration_cancel", actions.migration_refused, "Cancel a migration",
         r.anything("migration_cancel"), _OPERATOR, since=22, experimental=95),
    _act("shares", "share:migration_get_progress", actions.migration_refused, "Show a migration's progress",
         r.anything("migration_get_progress"), _OPERATOR, since=22, until=97, experimental=95),
    _get("/shares/{id}/migration-progress", "share:migration_get_progress", actions.migration_refused,
         "Show a migration's progress", _OPERATOR, since=98),
)

ACCESS: tuple[Route, ...] = (
    _act("shares", "share:allow_access", access.allow, "Allow access to a share", r.allow("allow_access"), since=7,
         status=200),
    _act("shares", "share:allow_access", access.allow, "Allow access to a share", r.allow("os-allow_access"), until=6,
         status=200),
    _act("shares", "share:deny_access", access.deny, "Deny access to a share", r.deny("deny_access"), since=7),
    _act("shares", "share:deny_access", access.deny, "Deny access to a share", r.deny("os-deny_access"), until=6),
    _act("shares", "share:access_get_all", access.listed_by_action, "List access rules", r.anything("access_list"),
         since=7, until=44, status=200, changes=False),
    _act("shares", "share:access_get_all", access.listed_by_action, "List access rules", r.anything("os-access_list"),
         until=6, status=200, changes=False),
    _get("/share-access-rules", "share_access_rule:index", access.index, "List access rules", since=45),
    _get("/share-access-rules/{id}", "share_access_rule:get", access.show, "Show an access rule", since=45),
    _put("/share-access-rules/{id}", "share_access_rule:update", access.update, "Change an access rule's level",
         r.RULE_UPDATE, since=88),
    _put("/share-access-rules/{id}/metadata", "share_access_metadata:update", access.set_metadata,
         "Set an access rule's metadata", r.METADATA, since=45),
    _delete("/share-access-rules/{id}/metadata/{key}", "share_access_metadata:delete", access.unset_metadata,
            "Delete an item of an access rule's metadata", since=45, status=200),
    _get("/shares/{id}/export_locations", "share_export_location:index", locations.index, "List export locations",
         since=9),
    _get("/shares/{id}/export_locations/{location}", "share_export_location:show", locations.show,
         "Show an export location", since=9),
    *_metadata("/shares/{id}/export_locations/{location}/metadata", "share_export_location", 87, "metadata"),
)

SNAPSHOTS: tuple[Route, ...] = (
    _get("/snapshots", "share_snapshot:get_all_snapshots", snapshots.index, "List snapshots"),
    _get("/snapshots/detail", "share_snapshot:get_all_snapshots", snapshots.detail, "List snapshots with details"),
    _post("/snapshots", "share:create_snapshot", snapshots.create, "Take a snapshot", r.SNAPSHOT_CREATE, status=202),
    _get("/snapshots/{id}", "share_snapshot:get_snapshot", snapshots.show, "Show a snapshot"),
    _put("/snapshots/{id}", "share:snapshot_update", snapshots.update, "Update a snapshot", r.SNAPSHOT_UPDATE),
    _delete("/snapshots/{id}", "share:delete_snapshot", snapshots.delete, "Delete a snapshot"),
    _act("snapshots", "share_snapshot:force_delete", snapshots.force_delete, "Delete a snapshot by force",
         r.nothing("force_delete"), _OPERATOR, since=7),
    _act("snapshots", "share_snapshot:force_delete", snapshots.force_delete, "Delete a snapshot by force",
         r.nothing("os-force_delete"), _OPERATOR, until=6),
    _act("snapshots", "share_snapshot:reset_status", snapshots.reset_status, "Reset a snapshot's status",
         r.status("reset_status", *r.SNAPSHOT_STATUSES), _OPERATOR, since=7),
    _act("snapshots", "share_snapshot:reset_status", snapshots.reset_status, "Reset a snapshot's status",
         r.status("os-reset_status", *r.SNAPSHOT_STATUSES), _OPERATOR, until=6),
    _act("snapshots", "share_snapshot:unmanage_snapshot", snapshots.unmanage, "Forget a snapshot",
         r.nothing("unmanage"), _OPERATOR, since=12),
    _act("snapshots", "share_snapshot:allow_access", snapshots.access_refused, "Allow access to a snapshot",
         r.anything("allow_access"), since=32),
    _act("snapshots", "share_snapshot:deny_access", snapshots.access_refused, "Deny access to a snapshot",
         r.anything("deny_access"), since=32),
    _get("/snapshots/{id}/access-list", "share_snapshot:access_list", snapshots.access_list,
         "List access rules of a snapshot", since=32),
    _get("/snapshots/{id}/export-locations", "share_snapshot_export_location:index", snapshots.locations,
         "List export locations of a snapshot", since=32),
    _get("/snapshots/{id}/export-locations/{location}", "share_snapshot_export_location:show", snapshots.location,
         "Show an export location of a snapshot", since=32),
    *_metadata("/snapshots/{id}/metadata", "share_snapshot", 73, "metadata"),
    _get("/snapshot-instances", "share_snapshot_instance:index", snapshots.instances, "List snapshot instances",
         _OPERATOR, since=19),
    _get("/snapshot-instances/detail", "share_snapshot_instance:detail", snapshots.instances_detail,
         "List snapshot instances with details", _OPERATOR, since=19),
    _get("/snapshot-instances/{id}", "share_snapshot_instance:show", snapshots.instance, "Show a snapshot instance",
         _OPERATOR, since=19),
    _act("snapshot-instances", "share_snapshot_instance:reset_status", snapshots.reset_status,
         "Reset a snapshot instance's status", r.status("reset_status", *r.SNAPSHOT_STATUSES), _OPERATOR, since=19),
    _get("/snapshot-instances/{id}/export-locations", "share_snapshot_instance_export_location:index",
         snapshots.locations, "List export locations of a snapshot instance", _OPERATOR, since=32),
    _get("/snapshot-instances/{id}/export-locations/{location}", "share_snapshot_instance_export_location:show",
         snapshots.location, "Show an export location of a snapshot instance", _OPERATOR, since=32),
)

TYPES: tuple[Route, ...] = (
    _get("/types", "share_type:index", types.index, "List share types"),
    _get("/types/default", "share_type:default", types.default, "Show the default share type"),
    _post("/types", "share_type:create", types.create, "Create a share type", r.TYPE_CREATE, _OPERATOR),
    _get("/types/{id}", "share_type:show", types.show, "Show a share type"),
    _put("/types/{id}", "share_type:update", types.update, "Update a share type", r.TYPE_UPDATE, _OPERATOR, since=50),
    _delete("/types/{id}", "share_type:delete", types.delete, "Delete a share type", _OPERATOR),
    _get("/types/{id}/extra_specs", "share_types_extra_spec:index", types.specs, "List extra specs", _OPERATOR),
    _post("/types/{id}/extra_specs", "share_types_extra_spec:create", types.set_specs, "Set extra specs", r.SPECS_SET,
          _OPERATOR),
    _get("/types/{id}/extra_specs/{key}", "share_types_extra_spec:show", types.show_spec, "Show an extra spec",
         _OPERATOR),
    _put("/types/{id}/extra_specs/{key}", "share_types_extra_spec:update", types.put_spec, "Set an extra spec",
         r.SPEC_PUT, _OPERATOR),
    _delete("/types/{id}/extra_specs/{key}", "share_types_extra_spec:delete", types.unset_spec, "Unset an extra spec",
            _OPERATOR),
    _get("/types/{id}/share_type_access", "share_type:list_project_access", types.access,
         "List projects that may use a share type", _OPERATOR, since=7),
    _get("/types/{id}/os-share-type-access", "share_type:list_project_access", types.access,
         "List projects that may use a share type", _OPERATOR, until=6),
    _act("types", "share_type:add_project_access", types.add_access, "Let a project use a share type",
         r.project("addProjectAccess"), _OPERATOR),
    _act("types", "share_type:remove_project_access", types.remove_access, "Let a project use a share type no more",
         r.project("removeProjectAccess"), _OPERATOR),
)


def _quotas(path: str, classes: str, since: int, until: int) -> tuple[Route, ...]:
    more: dict[str, Any] = {"since": since, "until": until}
    return (
        _get(f"{path}/{{id}}", "quota_set:show", quotas.show, "Show quotas", **more),
        _get(f"{path}/{{id}}/defaults", "quota_set:show", quotas.defaults, "Show default quotas", **more),
        _put(f"{path}/{{id}}", "quota_set:update", quotas.update, "Set quotas", r.QUOTA_SET, _OPERATOR, **more),
        _delete(f"{path}/{{id}}", "quota_set:delete", quotas.delete, "Unset quotas", _OPERATOR, **more),
        _get(f"{classes}/{{id}}", "quota_class_set:show", quotas.show_class, "Show a quota class", _OPERATOR, **more),
        _put(f"{classes}/{{id}}", "quota_class_set:update", quotas.update_class, "Set a quota class", r.QUOTA_CLASS,
             _OPERATOR, **more),
    )


INFRA: tuple[Route, ...] = (
    *_quotas("/os-quota-sets", "/os-quota-class-sets", 0, 6),
    *_quotas("/quota-sets", "/quota-class-sets", 7, 98),
    _get("/quota-sets/{id}/detail", "quota_set:show", quotas.detail, "Show quotas and their use", since=25),
    _get("/limits", "limits:index", quotas.limits, "Show limits and their use"),
    _get("/os-availability-zone", "availability_zone:index", infra.zones, "List availability zones", until=6),
    _get("/availability-zones", "availability_zone:index", infra.zones, "List availability zones", since=7),
    _get("/os-services", "service:index", infra.services, "List services", _OPERATOR, until=6),
    _put("/os-services/{id}", "service:update", infra.set_service, "Enable or disable a service", r.SERVICE_SET,
         _OPERATOR, until=6),
    _get("/services", "service:index", infra.services, "List services", _OPERATOR, since=7),
    _put("/services/{id}", "service:update", infra.set_service, "Enable or disable a service", r.SERVICE_SET,
         _OPERATOR, since=7),
    _post("/services/ensure-shares", "service:ensure_shares", infra.ensure_shares, "Look at all shares of a host again",
          r.ENSURE, _OPERATOR, since=86, status=202),
    _get("/scheduler-stats/pools", "scheduler_stats:pools:index", infra.pools, "List pools", _OPERATOR),
    _get("/scheduler-stats/pools/detail", "scheduler_stats:pools:detail", infra.pools_detail, "List pools with details",
         _OPERATOR),
    _get("/messages", "message:get_all", messages.index, "List user messages", since=37),
    _get("/messages/{id}", "message:get", messages.show, "Show a user message", since=37),
    _delete("/messages/{id}", "message:delete", messages.delete, "Delete a user message", since=37, status=204),
    _get("/resource-locks", "resource_lock:get_all", locks.index, "List resource locks", since=81),
    _post("/resource-locks", "resource_lock:create", locks.create, "Lock a resource", r.LOCK_CREATE, since=81),
    _get("/resource-locks/{id}", "resource_lock:get", locks.show, "Show a resource lock", since=81),
    _put("/resource-locks/{id}", "resource_lock:update", locks.update, "Update a resource lock", r.LOCK_UPDATE,
         since=81),
    _delete("/resource-locks/{id}", "resource_lock:delete", locks.delete, "Remove a resource lock", since=81,
            status=204),
    _get("/share-transfers", "share_transfer:get_all", transfers.index, "List transfers", since=77),
    _get("/share-transfers/detail", "share_transfer:get_all_detail", transfers.detail, "List transfers with details",
         since=77),
    _post("/share-transfers", "share_transfer:create", transfers.create, "Offer a share to another project",
          r.TRANSFER_CREATE, since=77, status=202),
    _get("/share-transfers/{id}", "share_transfer:get", transfers.show, "Show a transfer", since=77),
    _delete("/share-transfers/{id}", "share_transfer:delete", transfers.delete, "Withdraw a transfer", since=77,
            status=200),
    _post("/share-transfers/{id}/accept", "share_transfer:accept", transfers.accept, "Accept a transfer",
          r.TRANSFER_ACCEPT, since=77, status=202, everything=True),
    _get("/share_instances", "share_instance:index", instances.index, "List share instances", _OPERATOR, since=3),
    _get("/share_instances/{id}", "share_instance:show", instances.show, "Show a share instance", _OPERATOR, since=3),
    _get("/shares/{id}/instances", "share_instance:index", instances.of_share, "List a share's instances", _OPERATOR,
         since=3),
    _get("/share_instances/{id}/export_locations", "share_instance_export_location:index", locations.index,
         "List export locations of a share instance", _OPERATOR, since=9),
    _get("/share_instances/{id}/export_locations/{location}", "share_instance_export_location:show", locations.show,
         "Show an export location of a share instance", _OPERATOR, since=9),
    _act("share_instances", "share_instance:reset_status", actions.reset_status, "Reset a share instance's status",
         r.status("reset_status", *r.SHARE_STATUSES), _OPERATOR, since=7),
    _act("share_instances", "share_instance:reset_status", actions.reset_status, "Reset a share instance's status",
         r.status("os-reset_status", *r.SHARE_STATUSES), _OPERATOR, since=3, until=6),
    _act("share_instances", "share_instance:force_delete", shares.force_delete, "Delete a share instance by force",
         r.nothing("force_delete"), _OPERATOR, since=7),
    _act("share_instances", "share_instance:force_delete", shares.force_delete, "Delete a share instance by force",
         r.nothing("os-force_delete"), _OPERATOR, since=3, until=6),
)
# fmt: on

ROUTES: tuple[Route, ...] = (*SHARES, *ACCESS, *SNAPSHOTS, *TYPES, *INFRA)
