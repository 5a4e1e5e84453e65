"""Rows of what the Shared File Systems API keeps besides shares: rules, locks, messages, transfers, quotas, groups,
networks. One class per table, as in ``rows``; no event is about them, the audit tells what became of them.

``updated_at`` is set by every change. A ``project`` owns its rows (see ``reach``); what has a ``tenant`` is the
operator's, about that project.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field

from isthmus.model.attachment import Access
from isthmus.model.names import ProjectId, ShareId

_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)


@dataclass(frozen=True, slots=True)
class RuleRow:
    """An access rule: which guests of the share's project get the share. ``kind`` is ``ip`` or ``user``, ``to`` an
    address, a network, or a guest's id. ``denied``: it is on its way out, and so are its attachments."""

    id: str
    share: ShareId
    project: ProjectId
    kind: str
    to: str
    access: Access
    user: str = ""
    denied: bool = False
    reason: str = ""
    revision: int = 0
    created_at: datetime.datetime = _EPOCH
    updated_at: datetime.datetime | None = None


@dataclass(frozen=True, slots=True)
class LockRow:
    """A resource lock. ``kind``: ``share`` or ``access_rule``; ``action``: ``delete`` or ``show``; ``context``: whose
    it is: ``user``, ``admin`` or ``service``. ``cause``: the lock that this one came with, "" if it came by itself."""

    id: str
    project: ProjectId
    user: str
    context: str
    kind: str
    resource: str
    action: str
    reason: str = ""
    cause: str = ""
    revision: int = 0
    created_at: datetime.datetime = _EPOCH
    updated_at: datetime.datetime | None = None


@dataclass(frozen=True, slots=True)
class MessageRow:
    """Why something that a user asked for failed. ``action`` and ``detail``: the three-digit codes of the API."""

    id: str
    project: ProjectId
    kind: str
    resource: str
    action: str
    detail: str
    text: str
    expires_at: datetime.datetime
    request: str = ""
    revision: int = 0
    created_at: datetime.datetime = _EPOCH


@dataclass(frozen=True, slots=True)
class TransferRow:
    """A share on offer to whoever has the key: SHA-256 of ``salt`` and key, hex. ``project``: that which offers it."""

    id: str
    project: ProjectId
    share: ShareId
    name: str
    salt: str
    digest: str
    expires_at: datetime.datetime
    destination: str = ""
    revision: int = 0
    created_at: datetime.datetime = _EPOCH


@dataclass(frozen=True, slots=True)
class QuotaRow:
    """A limit that the operator set. ``tenant``, ``user`` and ``type`` are "" where it is for all of them; a row
    without a ``tenant`` is the default of every project. ``most``: -1 for no limit."""

    id: str
    tenant: str
    user: str
    type: str
    resource: str
    most: int
    revision: int = 0
    created_at: datetime.datetime = _EPOCH


@dataclass(frozen=True, slots=True)
class AllowedRow:
    """A project that may use a share type (or share group type) which is not public. ``kind``: ``type`` or
    ``group-type``."""

    id: str
    kind: str
    what: str
    tenant: str
    revision: int = 0
    created_at: datetime.datetime = _EPOCH


@dataclass(frozen=True, slots=True)
class GroupTypeRow:
    """A kind of share group. ``types``: ids of the share types that its shares may be of."""

    id: str
    name: str
    types: frozenset[str]
    public: bool = True
    specs: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0
    created_at: datetime.datetime = _EPOCH


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A share group. ``types``: ids of its share types; ``shown``: a status that the operator set, "" if none."""

    id: str
    project: ProjectId
    user: str
    name: str
    description: str
    type: str
    types: frozenset[str]
    zone: str = ""
    network: str = ""
    origin: str = ""
    shown: str = ""
    revision: int = 0
    created_at: datetime.datetime = _EPOCH


@dataclass(frozen=True, slots=True)
class GroupSnapshotRow:
    """A snapshot of every share of a group; its members are snapshots that name it."""

    id: str
    group: str
    project: ProjectId
    user: str
    name: str
    description: str
    shown: str = ""
    revision: int = 0
    created_at: datetime.datetime = _EPOCH


@dataclass(frozen=True, slots=True)
class LeftRow:
    """A volume that was left in its pool when its share was forgotten. Nobody may have its id, and so its data, but by
    having it managed again."""

    id: str
    pool: str
    revision: int = 0
    created_at: datetime.datetime = _EPOCH


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """A share network, a record: no pool here makes servers of its own. ``services``: ids of security services."""

    id: str
    project: ProjectId
    user: str
    name: str
    description: str
    services: frozenset[str] = frozenset()
    shown: str = "active"
    revision: int = 0
    created_at: datetime.datetime = _EPOCH
    updated_at: datetime.datetime | None = None


@dataclass(frozen=True, slots=True)
class SubnetRow:
    """A subnet of a share network."""

    id: str
    network: str
    project: ProjectId
    neutron_network: str = ""
    neutron_subnet: str = ""
    zone: str = ""
    revision: int = 0
    created_at: datetime.datetime = _EPOCH
    updated_at: datetime.datetime | None = None


@dataclass(frozen=True, slots=True)
class SecurityServiceRow:
    """A directory of users: ``active_directory``, ``ldap`` or ``kerberos``. ``password`` is sealed by the service's key
    (see ``service.seal``): it is never in the database in clear."""

    id: str
    project: ProjectId
    kind: str
    name: str = ""
    description: str = ""
    dns_ip: str = ""
    server: str = ""
    domain: str = ""
    user: str = ""
    password: str = ""
    ou: str = ""
    default_ad_site: str = ""
    revision: int = 0
    created_at: datetime.datetime = _EPOCH
    updated_at: datetime.datetime | None = None


@dataclass(frozen=True, slots=True)
class QosTypeRow:
    """A kind of quality of service, which share types name by ``default_qos_type``."""

    id: str
    name: str
    description: str = ""
    specs: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0
    created_at: datetime.datetime = _EPOCH
    updated_at: datetime.datetime | None = None


RecordRow = (
    RuleRow
    | LockRow
    | MessageRow
    | TransferRow
    | QuotaRow
    | AllowedRow
    | GroupTypeRow
    | GroupRow
    | GroupSnapshotRow
    | LeftRow
    | NetworkRow
    | SubnetRow
    | SecurityServiceRow
    | QosTypeRow
)

RECORD_KINDS: Mapping[type, str] = {
    RuleRow: "access rule",
    LockRow: "lock",
    MessageRow: "message",
    TransferRow: "transfer",
    QuotaRow: "quota",
    AllowedRow: "type access",
    GroupTypeRow: "share group type",
    GroupRow: "share group",
    GroupSnapshotRow: "share group snapshot",
    LeftRow: "volume",
    NetworkRow: "share network",
    SubnetRow: "share network subnet",
    SecurityServiceRow: "security service",
    QosTypeRow: "qos type",
}
