"""Share networks and security services: records, since no pool here makes servers of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from isthmus.model.errors import Conflict, Forbidden, Invalid, NotFound
from isthmus.model.names import MAX_DESCRIPTION, new_id, parse_title
from isthmus.service.domain import hosts, quotas
from isthmus.service.manila.ask import Ask, stamp
from isthmus.service.manila.handlers.common import titled
from isthmus.store.query import Query
from isthmus.store.records import NetworkRow, SecurityServiceRow, SubnetRow
from isthmus.store.rows import ShareRow
from isthmus.store.tx import ReadTx, Tx
from isthmus.wire.manila import shapes
from isthmus.wire.manila.shape import labels

SORTS = {"id": "id", "name": "name", "created_at": "created_at"}
_TEXTS = ("dns_ip", "server", "domain", "user", "ou", "default_ad_site")


def index(ask: Ask, tx: ReadTx) -> object:
    """Ids and names."""
    return ask.page("share_networks", [{"id": one.id, "name": one.name or None} for one in _listed(ask, tx)])


def detail(ask: Ask, tx: ReadTx) -> object:
    """All fields."""
    return ask.page("share_networks", [_view(ask, tx, one) for one in _listed(ask, tx)])


def show(ask: Ask, tx: ReadTx) -> object:
    """One share network."""
    return {"share_network": _view(ask, tx, tx.need(NetworkRow, ask.id))}


def create(ask: Ask, tx: Tx) -> object:
    """A share network with its first subnet."""
    body = ask.body
    _check_pair(body)
    quotas.check(tx, "create a share network", ask.project, user=ask.caller.user, share_networks=1)
    described = parse_title(body.get("description") or "", "description", most=MAX_DESCRIPTION)
    row = tx.add(NetworkRow(new_id(), ask.project, ask.caller.user, parse_title(body.get("name") or ""), described))
    _add_subnet(ask, tx, row)
    return {"share_network": _view(ask, tx, row)}


def update(ask: Ask, tx: Tx) -> object:
    """A share network with another name, description, or network behind its default subnet."""
    row, body = tx.need(NetworkRow, ask.id), ask.body
    values = titled(body)
    networks = {name: body[name] for name in ("neutron_net_id", "neutron_subnet_id") if name in body}
    if networks:
        if _in_use(tx, row):
            raise Forbidden(f"cannot change share network {row.id}: shares are in it")
        _check_pair(networks)
        default = next((one for one in tx.all(SubnetRow, network=row.id) if not one.zone), None)
        if default is None:
            raise Invalid(f"cannot change share network {row.id}: it has no default subnet", field="neutron_net_id")
        tx.change(
            default,
            neutron_network=networks.get("neutron_net_id") or "",
            neutron_subnet=networks.get("neutron_subnet_id") or "",
        )
    return {"share_network": _view(ask, tx, tx.change(row, **values))}


def delete(ask: Ask, tx: Tx) -> object:
    """The share network is gone."""
    row = tx.need(NetworkRow, ask.id)
    if _in_use(tx, row):
        raise Conflict(f"cannot delete share network {row.id}: shares are in it", code="network-in-use")
    for subnet in tx.all(SubnetRow, network=row.id):
        tx.unlabel(subnet.id)
        tx.remove(subnet)
    tx.remove(row)
    return None


def add_service(ask: Ask, tx: Tx) -> object:
    """A security service is of the share network."""
    row = tx.need(NetworkRow, ask.id)
    service = _service(tx, ask.body["security_service_id"])
    if service.id in row.services:
        raise Conflict(f"cannot add security service {service.id}: it is there already", code="service-exists")
    if service.kind in {_service(tx, one).kind for one in row.services}:
        raise Conflict(f"cannot add security service {service.id}: there is one of its type", code="service-exists")
    return {"share_network": _view(ask, tx, tx.change(row, services=row.services | {service.id}))}


def remove_service(ask: Ask, tx: Tx) -> object:
    """A security service is no longer of the share network."""
    row = tx.need(NetworkRow, ask.id)
    service = ask.body["security_service_id"]
    if _in_use(tx, row):
        raise Forbidden(f"cannot remove security service {service[:64]}: shares are in share network {row.id}")
    if service not in row.services:
        raise NotFound("security service", service[:64])
    return {"share_network": _view(ask, tx, tx.change(row, services=row.services - {service}))}


def update_service(ask: Ask, tx: Tx) -> object:
    """One security service is in another's place."""
    row, body = tx.need(NetworkRow, ask.id), ask.body
    old, new = body["current_service_id"], _service(tx, body["new_service_id"])
    if old not in row.services:
        raise Invalid(f"share network {row.id} does not have security service {old[:64]}", field="current_service_id")
    if _service(tx, old).kind != new.kind:
        raise Invalid("cannot replace a security service by one of another type", field="new_service_id")
    return {"share_network": _view(ask, tx, tx.change(row, services=row.services - {old} | {new.id}))}


def check_service(ask: Ask, tx: Tx) -> object:
    """Whether a security service could be added or replaced: nothing here depends on it."""
    tx.need(NetworkRow, ask.id)
    body = ask.body
    adding = "security_service_id" in body
    new = _service(tx, body["security_service_id"] if adding else body["new_service_id"])
    return {
        "compatible": True,
        "requested_operation": {
            "operation": "add_security_service" if adding else "update_security_service",
            "current_security_service": body.get("current_service_id"),
            "new_security_service": new.id,
        },
        **({"hosts_check_result": {}} if ask.admin else {}),
    }


def reset_status(ask: Ask, tx: Tx) -> object:
    """A share network shows this status."""
    ask.need_admin("reset the status of a share network")
    tx.change(tx.need(NetworkRow, ask.id), shown=ask.body["status"])
    return None


# -- subnets -----------------------------------------------------------------------------------------------------------


def subnets(ask: Ask, tx: ReadTx) -> object:
    """The subnets of a share network."""
    row = tx.need(NetworkRow, ask.id)
    return {"share_network_subnets": _subnets(ask, tx, row)}


def subnet(ask: Ask, tx: ReadTx) -> object:
    """One of them."""
    row = tx.need(NetworkRow, ask.id)
    for one in _subnets(ask, tx, row):
        if one["id"] == ask.path["subnet"]:
            return {"share_network_subnet": one}
    raise NotFound("share network subnet", ask.path["subnet"][:80])


def create_subnet(ask: Ask, tx: Tx) -> object:
    """One more subnet."""
    row = tx.need(NetworkRow, ask.id)
    _check_pair(ask.body)
    made = _add_subnet(ask, tx, row)
    tx.label(made.id, labels(ask.body.get("metadata")))
    shown = next(one for one in _subnets(ask, tx, row) if one["id"] == made.id)
    return {"share_network_subnet": shown}


def check_subnet(ask: Ask, tx: Tx) -> object:
    """Whether a subnet could be made: nothing here depends on it."""
    tx.need(NetworkRow, ask.id)
    _check_pair(ask.body)
    return {"compatible": True, **({"hosts_check_result": {}} if ask.admin else {})}


def delete_subnet(ask: Ask, tx: Tx) -> object:
    """The subnet is gone."""
    row = tx.need(NetworkRow, ask.id)
    found = tx.need(SubnetRow, ask.path["subnet"])
    if found.network != row.id:
        raise NotFound("share network subnet", found.id)
    if _in_use(tx, row):
        raise Conflict(f"cannot delete subnet {found.id}: shares are in its share network", code="network-in-use")
    tx.unlabel(found.id)
    tx.remove(found)
    return None


# -- security services -------------------------------------------------------------------------------------------------


def services(ask: Ask, tx: ReadTx) -> object:
    """What they are called."""
    names = ("id", "name", "type", "status")
    return {"security_services": [{name: one[name] for name in names} for one in _services(ask, tx)]}


def services_detail(ask: Ask, tx: ReadTx) -> object:
    """All fields."""
    return {"security_services": _services(ask, tx)}


def service(ask: Ask, tx: ReadTx) -> object:
    """One security service, its password with it: it is the tenant's own."""
    return {"security_service": _service_view(ask, tx, tx.need(SecurityServiceRow, ask.id))}


def create_security_service(ask: Ask, tx: Tx) -> object:
    """A security service."""
    body = ask.body
    texts: dict[str, Any] = {name: body.get(name) or "" for name in _TEXTS}
    row = SecurityServiceRow(
        new_id(),
        ask.project,
        body["type"],
        parse_title(body.get("name") or ""),
        parse_title(body.get("description") or "", "description", most=MAX_DESCRIPTION),
        **texts,
        password=ask.seal.close(body.get("password") or ""),
    )
    return {"security_service": _service_view(ask, tx, tx.add(row))}


def update_security_service(ask: Ask, tx: Tx) -> object:
    """A security service with other values."""
    row, body = tx.need(SecurityServiceRow, ask.id), ask.body
    values = titled(body) | {name: body[name] or "" for name in _TEXTS if name in body}
    if "password" in body:
        values["password"] = ask.seal.close(body["password"] or "")
    if body.get("type") and body["type"] != row.kind:
        raise Forbidden(f"cannot change the type of security service {row.id}")
    return {"security_service": _service_view(ask, tx, tx.change(row, **values))}


def delete_security_service(ask: Ask, tx: Tx) -> object:
    """The security service is gone."""
    row = tx.need(SecurityServiceRow, ask.id)
    if any(row.id in network.services for network in tx.all(NetworkRow, project=row.project)):
        raise Forbidden(f"cannot delete security service {row.id}: a share network has it")
    tx.remove(row)
    return None


def _service(tx: ReadTx, key: str) -> SecurityServiceRow:
    return tx.need(SecurityServiceRow, key)


def _services(ask: Ask, tx: ReadTx) -> list[dict[str, Any]]:
    pairs = (("name", "name"), ("type", "kind"), *((name, name) for name in _TEXTS[:4]))
    equal = ask.scope() | ask.equals(*pairs)
    query = Query(equal=equal, limit=ask.limit, offset=ask.offset)
    if network := ask.query.get("share_network_id"):
        equal["id"] = sorted(tx.need(NetworkRow, network).services)
    rows = tx.page(SecurityServiceRow, query)
    networks = tx.all(NetworkRow, project=sorted({row.project for row in rows}))
    return [_service_facts(ask, row, networks) for row in rows]


def _service_view(ask: Ask, tx: ReadTx, row: SecurityServiceRow) -> dict[str, Any]:
    return _service_facts(ask, row, tx.all(NetworkRow, project=row.project))


def _service_facts(ask: Ask, row: SecurityServiceRow, networks: Iterable[NetworkRow]) -> dict[str, Any]:
    facts = {name: getattr(row, name) or None for name in _TEXTS}
    facts |= {
        "id": row.id,
        "name": row.name or None,
        "created_at": stamp(row.created_at),
        "updated_at": stamp(row.updated_at),
        "status": "new",
        "description": row.description or None,
        "project_id": row.project,
        "type": row.kind,
        "password": ask.seal.open(row.password) or None,
        "share_networks": [one.id for one in networks if row.id in one.services],
    }
    return ask.show(shapes.SECURITY_SERVICE, facts)


def _check_pair(body: Any) -> None:
    if bool(body.get("neutron_net_id")) != bool(body.get("neutron_subnet_id")):
        raise Invalid("Both neutron_net_id and neutron_subnet_id should be specified, or neither.", field="neutron")


def _add_subnet(ask: Ask, tx: Tx, network: NetworkRow) -> SubnetRow:
    zone = ask.body.get("availability_zone") or ""
    if zone and zone not in hosts.zones(tx):
        raise Invalid(f"The provided availability zone {ascii(zone)[:60]} does not exist.", field="availability_zone")
    if ask.minor < 70 and any(one.zone == zone for one in tx.all(SubnetRow, network=network.id)):
        raise Conflict(f"share network {network.id} has a subnet in this availability zone", code="subnet-exists")
    return tx.add(
        SubnetRow(
            new_id(),
            network.id,
            network.project,
            ask.body.get("neutron_net_id") or "",
            ask.body.get("neutron_subnet_id") or "",
            zone,
        )
    )


def _in_use(tx: ReadTx, row: NetworkRow) -> bool:
    return tx.count(ShareRow, Query(equal={"network": row.id})) > 0


def _listed(ask: Ask, tx: ReadTx) -> list[NetworkRow]:
    equal, asked = ask.scope(), ask.query
    equal |= ask.equals(("name", "name"), ("description", "description"), ("id", "id"))
    holds = ask.holds(("name~", "name"), ("description~", "description"), since=36)
    since, before = ask.when("created_since", 0), ask.when("created_before", 0)
    rows = tx.page(NetworkRow, ask.part(equal, SORTS, holds=holds, since=since, before=before))
    if wanted := asked.get("security_service_id"):
        rows = [row for row in rows if wanted in row.services]
    for name, column in (("neutron_net_id", "neutron_network"), ("neutron_subnet_id", "neutron_subnet")):
        if name in asked:
            fitting = set(tx.pick(SubnetRow, ("network",), Query(equal={column: asked[name]})))
            rows = [row for row in rows if (row.id,) in fitting]
    return rows


def _subnets(ask: Ask, tx: ReadTx, row: NetworkRow) -> list[dict[str, Any]]:
    found = tx.page(SubnetRow, Query(equal={"network": row.id}, descending=False))
    labels = tx.labels([one.id for one in found])
    shown = []
    for one in found:
        facts = dict.fromkeys(("segmentation_id", "ip_version", "cidr", "network_type", "mtu", "gateway"))
        shown.append(
            ask.show(
                shapes.SUBNET,
                {
                    **facts,
                    "id": one.id,
                    "availability_zone": one.zone or None,
                    "created_at": stamp(one.created_at),
                    "updated_at": stamp(one.updated_at),
                    "neutron_net_id": one.neutron_network or None,
                    "neutron_subnet_id": one.neutron_subnet or None,
                    "share_network_id": row.id,
                    "share_network_name": row.name or None,
                    "metadata": labels.get(one.id, {}),
                },
            )
        )
    return shown


def _view(ask: Ask, tx: ReadTx, row: NetworkRow) -> dict[str, Any]:
    below = _subnets(ask, tx, row)
    default = next((one for one in below if one["availability_zone"] is None), None)
    unknown = ("network_type", "segmentation_id", "cidr", "ip_version", "nova_net_id", "gateway", "mtu")
    facts: dict[str, Any] = dict.fromkeys(unknown)
    facts |= {
        "id": row.id,
        "project_id": row.project,
        "created_at": stamp(row.created_at),
        "updated_at": stamp(row.updated_at),
        "name": row.name or None,
        "description": row.description or None,
        "neutron_net_id": default["neutron_net_id"] if default else None,
        "neutron_subnet_id": default["neutron_subnet_id"] if default else None,
        "share_network_subnets": below,
        "status": row.shown,
        "security_service_update_support": True,
        "network_allocation_update_support": True,
    }
    return ask.show(shapes.NETWORK, facts)
