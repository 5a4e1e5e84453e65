"""What requests hold, field by field, with the versions that take them."""

from __future__ import annotations

from isthmus.wire.manila.shape import (
    FLAG_OR_NONE,
    GIB,
    LABELS,
    LABELS_OR_NONE,
    LIMIT,
    LONG,
    OBJECT_OR_NONE,
    SPECS,
    TEXT,
    TEXT_OR_NONE,
    TEXTS_OR_NONE,
    UUID,
    UUID_OR_NONE,
    Body,
    Part,
)

_TITLED = (Part("name", TEXT_OR_NONE), Part("description", LONG))
_NAMES = (
    Part("name", TEXT_OR_NONE),
    Part("display_name", TEXT_OR_NONE),
    Part("description", LONG),
    Part("display_description", LONG),
)
_HINT = {"type": ["string", "null"], "maxLength": 4096}

SHARE_CREATE = Body(
    "share",
    (
        Part("share_proto", {"type": "string", "minLength": 1, "maxLength": 40}, required=True),
        Part("size", GIB, required=True),
        *_NAMES,
        Part("share_type", TEXT_OR_NONE),
        Part("volume_type", TEXT_OR_NONE),
        Part("is_public", FLAG_OR_NONE),
        Part("metadata", LABELS_OR_NONE),
        Part("availability_zone", TEXT_OR_NONE),
        Part("snapshot_id", UUID_OR_NONE),
        Part("share_network_id", UUID_OR_NONE),
        Part("share_group_id", UUID_OR_NONE, 31),
        Part(
            "scheduler_hints",
            {
                "type": ["object", "null"],
                "properties": {"same_host": _HINT, "different_host": _HINT, "only_host": _HINT},
            },
            65,
        ),
        Part("mount_point_name", TEXT_OR_NONE, 84),
        Part("encryption_key_ref", {"type": "null"}, 90),
    ),
)
SHARE_UPDATE = Body("share", (*_NAMES, Part("is_public", FLAG_OR_NONE)))
MANAGE = Body(
    "share",
    (
        Part("export_path", {"type": ["string", "object"], "minLength": 1, "maxLength": 1024}, required=True),
        Part("service_host", {"type": "string", "minLength": 1, "maxLength": 255}, required=True),
        Part("protocol", {"type": "string", "minLength": 1, "maxLength": 40}, required=True),
        *_NAMES,
        Part("share_type", TEXT_OR_NONE),
        Part("is_public", FLAG_OR_NONE, 8),
        Part("driver_options", OBJECT_OR_NONE),
        Part("mount_point_name", TEXT_OR_NONE, 92),
    ),
)


def resize(action: str) -> Body:
    """A new size in GiB."""
    return Body(action, (Part("new_size", GIB, required=True), Part("force", FLAG_OR_NONE, 64)))


def status(action: str, *known: str) -> Body:
    """A status to show."""
    word = {"type": "string", "enum": sorted(known)}
    inner = {
        "type": "object",
        "properties": {"status": word, "os-status": word},
        "anyOf": [{"required": ["status"]}, {"required": ["os-status"]}],
    }
    return Body(action, schema=inner)


def nothing(action: str) -> Body:
    """An action that takes nothing."""
    return Body(action, schema={"type": ["object", "null"], "maxProperties": 0})


def anything(action: str) -> Body:
    """An action that is refused whatever it says."""
    return Body(action, schema=OBJECT_OR_NONE)


SHARE_STATUSES = (
    *("creating", "creating_from_snapshot", "deleting", "deferred_deleting", "deleted", "error", "error_deleting"),
    *("error_deferred_deleting", "available", "manage_starting", "manage_error", "unmanage_starting"),
    *("unmanage_manage_error", "unmanage_error", "unmanaged", "extending", "extending_error", "shrinking"),
    *("shrinking_error", "migrating", "migrating_to", "shrinking_possible_data_loss_error", "replication_change"),
    *("restoring", "reverting", "reverting_error", "awaiting_transfer", "backup_creating", "backup_restoring"),
    *("backup_restoring_error", "ensuring", "server_migrating", "server_migrating_to", "inactive"),
)
SNAPSHOT_STATUSES = (
    *("available", "error", "creating", "deleting", "error_deleting", "manage_starting", "unmanage_starting"),
    *("unmanage_error", "manage_error", "migrating", "migrating_to", "restoring"),
)
TASK_STATES = (
    *("migration_starting", "migration_in_progress", "migration_completing", "migration_success", "migration_error"),
    *("migration_cancelled", "migration_driver_in_progress", "migration_driver_phase1_done", "data_copying_starting"),
    *("data_copying_in_progress", "data_copying_completing", "data_copying_completed", "data_copying_cancelled"),
    "data_copying_error",
)
TASK = Body("reset_task_state", (Part("task_state", {"enum": [*TASK_STATES, None]}, required=True),))
REVERT = Body("revert", (Part("snapshot_id", UUID, required=True),))


def allow(action: str) -> Body:
    """An access rule."""
    return Body(
        action,
        (
            Part("access_type", {"type": "string", "minLength": 1, "maxLength": 255}, required=True),
            Part("access_to", {"type": "string", "minLength": 1, "maxLength": 255}, required=True),
            Part("access_level", TEXT_OR_NONE),
            Part("metadata", LABELS_OR_NONE, 45),
            Part("lock_visibility", FLAG_OR_NONE, 82),
            Part("lock_deletion", FLAG_OR_NONE, 82),
            Part("lock_reason", LONG, 82),
        ),
    )


def deny(action: str) -> Body:
    """The id of a rule."""
    return Body(
        action,
        (
            Part("access_id", {"type": "string", "minLength": 1, "maxLength": 64}, required=True),
            Part("unrestrict", FLAG_OR_NONE, 82),
        ),
    )


RULE_UPDATE = Body("update_access", (Part("access_level", {"enum": ["rw", "ro"]}, required=True),))
METADATA = Body("metadata", schema=LABELS, also=("meta",))
SNAPSHOT_CREATE = Body(
    "snapshot",
    (
        Part("share_id", UUID, required=True),
        *_NAMES,
        Part("force", FLAG_OR_NONE),
        Part("metadata", LABELS_OR_NONE, 73),
    ),
)
SNAPSHOT_UPDATE = Body("snapshot", _NAMES)
SNAPSHOT_MANAGE = Body(
    "snapshot",
    (
        Part("share_id", UUID, required=True),
        Part("provider_location", {"type": "string", "minLength": 1, "maxLength": 255}, required=True),
        *_NAMES,
        Part("driver_options", OBJECT_OR_NONE),
        Part("metadata", LABELS_OR_NONE, 73),
    ),
)

_TYPE_NAME = {"type": "string", "minLength": 1, "maxLength": 255}
TYPE_CREATE = Body(
    "share_type",
    (
        Part("name", _TYPE_NAME, required=True),
        Part("description", LONG),
        Part("extra_specs", SPECS, required=True),
        Part("share_type_access:is_public", FLAG_OR_NONE, 7),
        Part("os-share-type-access:is_public", FLAG_OR_NONE, 0),
    ),
    also=("volume_type",),
)
TYPE_UPDATE = Body(
    "share_type",
    (
        Part("name", {"type": ["string", "null"], "minLength": 1, "maxLength": 255}),
        Part("description", LONG),
        Part("share_type_access:is_public", FLAG_OR_NONE),
    ),
)
SPECS_SET = Body("extra_specs", schema={**SPECS, "minProperties": 1})
SPEC_PUT = Body("", schema={**SPECS, "minProperties": 1, "maxProperties": 1})


def project(action: str) -> Body:
    """A project that may, or may not, use a type."""
    wanted = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"}
    return Body(action, (Part("project", wanted, required=True),))


_LIMITS = {
    "type": "object",
    "maxProperties": 64,
    "properties": {"force": FLAG_OR_NONE, "tenant_id": TEXT_OR_NONE, "class_name": TEXT_OR_NONE},
    "additionalProperties": LIMIT,
}
QUOTA_SET = Body("quota_set", schema=_LIMITS)
QUOTA_CLASS = Body("quota_class_set", schema=_LIMITS)
SERVICE_SET = Body(
    "",
    (
        Part("host", {"type": "string", "minLength": 1, "maxLength": 255}, required=True),
        Part("binary", {"type": "string", "minLength": 1, "maxLength": 255}, required=True),
        Part("disabled_reason", TEXT_OR_NONE),
    ),
)
# The published API has it below "ensure_shares"; python-manilaclient sends it without.
_ENSURED = {"type": "object", "properties": {"host": TEXT}, "required": ["host"]}
ENSURE = Body(
    "",
    schema={
        "anyOf": [_ENSURED, {**_ENSURED, "properties": {"ensure_shares": _ENSURED}, "required": ["ensure_shares"]}]
    },
)
LOCK_CREATE = Body(
    "resource_lock",
    (
        Part("resource_id", UUID, required=True),
        Part("resource_type", TEXT_OR_NONE),
        Part("resource_action", TEXT_OR_NONE),
        Part("lock_reason", LONG),
    ),
)
LOCK_UPDATE = Body(
    "resource_lock",
    schema={
        "type": "object",
        "maxProperties": 20,
        "properties": {"resource_action": TEXT_OR_NONE, "lock_reason": LONG},
    },
)
TRANSFER_CREATE = Body("transfer", (Part("share_id", UUID, required=True), Part("name", TEXT_OR_NONE)))
TRANSFER_ACCEPT = Body(
    "accept",
    (
        Part("auth_key", {"type": "string", "minLength": 1, "maxLength": 255}, required=True),
        Part("clear_access_rules", FLAG_OR_NONE),
    ),
)

GROUP_STATUSES = ("available", "error", "creating", "deleting", "error_deleting")
GROUP_TYPE_CREATE = Body(
    "share_group_type",
    (
        Part("name", _TYPE_NAME, required=True),
        Part("share_types", {**TEXTS_OR_NONE, "type": "array"}, required=True),
        Part("group_specs", {"oneOf": [SPECS, {"type": "null"}]}),
        Part("is_public", FLAG_OR_NONE),
    ),
)
GROUP_SPECS_SET = Body("group_specs", schema={**SPECS, "minProperties": 1})
GROUP_CREATE = Body(
    "share_group",
    (
        *_TITLED,
        Part("share_group_type_id", TEXT_OR_NONE),
        Part("share_types", TEXTS_OR_NONE),
        Part("source_share_group_snapshot_id", UUID_OR_NONE),
        Part("share_network_id", UUID_OR_NONE),
        Part("availability_zone", TEXT_OR_NONE),
    ),
)
GROUP_UPDATE = Body("share_group", _TITLED)
GROUP_SNAPSHOT_CREATE = Body(
    "share_group_snapshot",
    (Part("share_group_id", UUID, required=True), *_TITLED),
)
GROUP_SNAPSHOT_UPDATE = Body("share_group_snapshot", _TITLED)

_SUBNET = (
    Part("neutron_net_id", UUID_OR_NONE),
    Part("neutron_subnet_id", UUID_OR_NONE),
    Part("availability_zone", TEXT_OR_NONE, 51),
)
NETWORK_CREATE = Body("share_network", (*_TITLED, *_SUBNET))
NETWORK_UPDATE = Body("share_network", (*_TITLED, *_SUBNET))
SUBNET_CREATE = Body("share-network-subnet", (*_SUBNET, Part("metadata", LABELS_OR_NONE, 78)))
SUBNET_CHECK = Body("share_network_subnet_create_check", (*_SUBNET, Part("reset_operation", FLAG_OR_NONE)))


def security(action: str) -> Body:
    """A security service of a share network."""
    return Body(
        action,
        (
            Part("security_service_id", {"type": "string", "minLength": 1, "maxLength": 64}, required=True),
            Part("reset_operation", FLAG_OR_NONE, 63),
        ),
    )


def security_change(action: str) -> Body:
    """One security service in another's place."""
    known = {"type": "string", "minLength": 1, "maxLength": 64}
    return Body(
        action,
        (
            Part("current_service_id", known, required=True),
            Part("new_service_id", known, required=True),
            Part("reset_operation", FLAG_OR_NONE),
        ),
    )


_SERVICE = (
    Part("name", TEXT_OR_NONE),
    Part("description", LONG),
    Part("dns_ip", TEXT_OR_NONE),
    Part("server", TEXT_OR_NONE),
    Part("domain", TEXT_OR_NONE),
    Part("user", TEXT_OR_NONE),
    Part("password", TEXT_OR_NONE),
    Part("ou", TEXT_OR_NONE, 44),
    Part("default_ad_site", TEXT_OR_NONE, 76),
)
SECURITY_CREATE = Body(
    "security_service",
    (Part("type", {"enum": ["active_directory", "ldap", "kerberos"]}, required=True), *_SERVICE),
)
SECURITY_UPDATE = Body("security_service", (Part("type", TEXT_OR_NONE), *_SERVICE))
QOS_CREATE = Body(
    "qos_type",
    (
        Part("name", _TYPE_NAME, required=True),
        Part("description", LONG),
        Part("specs", {"oneOf": [SPECS, {"type": "null"}]}),
    ),
)
QOS_UPDATE = Body("qos_type", _TITLED)
QOS_SPECS = Body("specs", schema={**SPECS, "minProperties": 1})


_YES = {"type": ["boolean", "string"], "enum": [True, False, *("true", "false", "True", "False", "1", "0")]}
MIGRATION_START = Body(
    "migration_start",
    (
        Part("host", {"type": "string", "minLength": 1, "maxLength": 255}, required=True),
        Part("preserve_metadata", _YES, required=True),
        Part("writable", _YES, required=True),
        Part("nondisruptive", _YES, required=True),
        Part("preserve_snapshots", _YES, required=True),
        Part("force_host_assisted_migration", FLAG_OR_NONE),
        Part("new_share_network_id", UUID_OR_NONE),
        Part("new_share_type_id", TEXT_OR_NONE),
    ),
)
BACKUP_STATUSES = ("available", "error", "creating", "deleting", "error_deleting", "restoring")
BACKUP_CREATE = Body(
    "share_backup",
    (
        Part("share_id", UUID, required=True),
        *_TITLED,
        Part("backup_options", OBJECT_OR_NONE),
    ),
)
BACKUP_UPDATE = Body("share_backup", _TITLED)
BACKUP_RESTORE = Body("restore", schema={"type": ["string", "object", "null"], "maxLength": 64, "maxProperties": 0})


def of_share(root: str) -> Body:
    """Something of a share."""
    return Body(root, (Part("share_id", {"type": "string", "minLength": 1, "maxLength": 64}, required=True),))
