"""No route of the Shared File Systems API lets one project at another's objects. Generated from the table of routes: a
route that is new is tried too, and one that answers a stranger has to be named here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from isthmus.service.manila.router import Route
from isthmus.service.manila.routes import ROUTES
from isthmus.service.routes import Access
from isthmus.store import Store
from tests import service_kit as kit
from tests.manila_kit import Client, manila_over

OPEN = frozenset(
    {
        # what belongs to no project
        *("/types", "/types/default", "/types/{id}", "/qos-types", "/qos-types/{id}", "/share-group-types"),
        *("/share-group-types/{id}", "/availability-zones", "/os-availability-zone", "/limits", "/extensions"),
    }
)
BODIES: dict[str, Any] = {
    "reset_status": {"status": "error"},
    "os-reset_status": {"status": "error"},
    "extend": {"new_size": 5},
    "os-extend": {"new_size": 5},
    "shrink": {"new_size": 1},
    "os-shrink": {"new_size": 1},
    "allow_access": {"access_type": "ip", "access_to": "0.0.0.0/0"},
    "os-allow_access": {"access_type": "ip", "access_to": "0.0.0.0/0"},
    "metadata": {"stolen": "yes"},
    "share": {"display_name": "stolen"},
    "snapshot": {"display_name": "stolen"},
    "share_group": {"name": "stolen"},
    "share_group_snapshot": {"name": "stolen"},
    "share_network": {"name": "stolen"},
    "security_service": {"name": "stolen"},
    "resource_lock": {"lock_reason": "stolen"},
    "update_access": {"access_level": "ro"},
    "quota_set": {"shares": 1},
    "quota_class_set": {"shares": 1},
    "accept": {"auth_key": "0" * 32},
    "share-network-subnet": {},
    "share_network_subnet_create_check": {},
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = kit.opened(tmp_path)
    kit.equip(store, overcommit=100.0)
    yield store
    store.close()


@pytest.fixture
async def client(store: Store) -> AsyncIterator[Client]:
    async with manila_over(store) as made:
        yield made


async def objects(client: Client, store: Store) -> dict[str, dict[str, str]]:
    """Ids of acme's, by the first segment of the path that names them: ``id`` and what comes below it."""
    share = (await client.share(name="mine", metadata={"k": "v"}))["id"]
    kit.all_well(store)
    body = {"allow_access": {"access_type": "ip", "access_to": "192.0.2.1", "metadata": {"k": "v"}}}
    rule = (await client.do("POST", f"/shares/{share}/action", body))["access"]["id"]
    snapshot = (await client.do("POST", "/snapshots", {"snapshot": {"share_id": share}}))["snapshot"]["id"]
    kit.all_well(store)
    (where,) = (await client.get(f"/shares/{share}/export_locations"))["export_locations"]
    lock = await client.do("POST", "/resource-locks", {"resource_lock": {"resource_id": share}})
    await client.share(size=9999)
    (message,) = (await client.get("/messages"))["messages"]
    gift = (await client.share())["id"]
    kit.all_well(store)
    offer = await client.do("POST", "/share-transfers", {"transfer": {"share_id": gift}})
    service = await client.do("POST", "/security-services", {"security_service": {"type": "ldap"}})
    network = (await client.do("POST", "/share-networks", {"share_network": {}}))["share_network"]
    kind = {"share_group_type": {"name": "gt", "share_types": ["default"]}}
    made = await client.do("POST", "/share-group-types", kind, caller="operator")
    kind_id = made["share_group_type"]["id"]
    group = (await client.do("POST", "/share-groups", {"share_group": {"share_group_type_id": kind_id}}))["share_group"]
    wanted = {"share_group_snapshot": {"share_group_id": group["id"]}}
    taken = (await client.do("POST", "/share-group-snapshots", wanted))["share_group_snapshot"]["id"]
    return {
        "shares": {"id": share, "key": "k", "location": where["id"]},
        "share_instances": {"id": share, "location": where["id"]},
        "os-share-unmanage": {"id": share},
        "snapshots": {"id": snapshot, "key": "k", "location": "x"},
        "snapshot-instances": {"id": snapshot, "location": "x"},
        "share-access-rules": {"id": rule, "key": "k"},
        "messages": {"id": message["id"]},
        "resource-locks": {"id": lock["resource_lock"]["id"]},
        "share-transfers": {"id": offer["transfer"]["id"]},
        "security-services": {"id": service["security_service"]["id"]},
        "share-networks": {"id": network["id"], "subnet": network["share_network_subnets"][0]["id"], "key": "k"},
        "share-groups": {"id": group["id"]},
        "share-group-snapshots": {"id": taken},
        "quota-sets": {"id": "acme"},
        "os-quota-sets": {"id": "acme"},
        "types": {"id": "default", "key": "k"},
        "share-group-types": {"id": kind_id, "key": "k"},
        "qos-types": {"id": "none", "key": "k"},
    }


def filled(route: Route, known: dict[str, dict[str, str]]) -> str:
    """The route's path for acme's objects."""
    path = route.path
    for name, value in known.get(path.split("/")[1], {}).items():
        path = path.replace(f"{{{name}}}", value)
    return path.replace("{id}", "default").replace("{key}", "k").replace("{location}", "x")


async def attempt(client: Client, route: Route, path: str, caller: str) -> Any:
    root = route.body.root if route.body else ""
    body = {root: BODIES.get(root)} if root else BODIES.get(root, {"host": "h1@local", "binary": "manila-share"})
    headers = {"x-openstack-manila-api-experimental": "true"}
    sent = None if route.method in ("GET", "DELETE") else body
    return await client.ask(route.method, path, sent, caller=caller, minor=route.until, **headers)


async def everything(client: Client) -> dict[str, Any]:
    """What acme has, as it sees it."""
    lists = ["shares/detail", "snapshots/detail", "resource-locks", "share-transfers", "security-services/detail"]
    lists += ("share-networks/detail", "share-groups/detail", "share-group-snapshots/detail", "messages")
    found = {name: await client.get(f"/{name}") for name in lists}
    for share in found["shares/detail"]["shares"]:
        found[share["id"]] = await client.get(f"/share-access-rules?share_id={share['id']}")
    return found


@pytest.mark.parametrize("caller", ["other project", "other's admin", "unscoped"])
async def test_a_stranger_finds_and_changes_nothing(client: Client, store: Store, caller: str) -> None:
    known = await objects(client, store)
    before = await everything(client)
    for route in ROUTES:
        path = filled(route, known)
        answer = await attempt(client, route, path, caller)
        about = (route.method, path, answer.status_code, answer.text[:300])
        assert answer.status_code < 500, about
        if route.path in OPEN:
            continue
        if "{id}" in route.path:
            assert answer.status_code in (400, 403, 404, 409), about
        for ids in known.values():
            assert (
                ids["id"] in ("acme", "default", "none")
                or route.path.startswith("/share-group-types")
                or (ids["id"] not in answer.text.replace(path, "") or answer.status_code >= 400)
            ), about
    assert await everything(client) == before


@pytest.mark.parametrize("caller", ["owner", "other's admin"])
async def test_what_is_the_operators_is_nobody_elses(client: Client, store: Store, caller: str) -> None:
    known = await objects(client, store)
    for route in ROUTES:
        if route.access is Access.OPERATOR:
            answer = await attempt(client, route, filled(route, known), caller)
            assert answer.status_code in (400, 403, 404), (route.method, route.path, answer.status_code, answer.text)
            if route.body is None or not route.writes:
                assert answer.status_code == 403, (route.method, route.path, answer.text)


async def test_a_reader_changes_nothing(client: Client, store: Store) -> None:
    known = await objects(client, store)
    for route in ROUTES:
        if route.writes:
            answer = await attempt(client, route, filled(route, known), "reader")
            assert answer.status_code in (400, 403, 404), (route.method, route.path, answer.status_code, answer.text)


async def test_nobody_is_answered_without_credentials(client: Client) -> None:
    for route in ROUTES:
        answer = await client.http.request(route.method, "/v2" + filled(route, {}))
        assert answer.status_code == 401, (route.method, route.path, answer.status_code)
        assert answer.headers["www-authenticate"]
