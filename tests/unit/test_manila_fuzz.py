"""Whatever is sent to any route of the Shared File Systems API is answered, and never by a defect of the service."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from isthmus.model.names import new_id
from isthmus.service.manila.router import Route
from isthmus.service.manila.routes import ROUTES
from isthmus.wire.manila import fault
from tests import service_kit
from tests.manila_kit import Client, manila_over

CALLERS = ("owner", "reader", "other project", "operator", "observer", "unscoped")
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1 << 70,
    1.5,
    "",
    "x" * 3000,
    "\u0000",
    "\ud7ff\U0001f4a9",
    "'; DROP TABLE shares; --",
    "../../etc/passwd",
    "2026-01-01T00:00:00",
    [],
    [None],
    {},
    {"a": {"b": []}},
)
FILTERS = (
    *("limit", "offset", "sort_key", "sort_dir", "name", "name~", "status", "metadata", "extra_specs", "is_public"),
    *(
        "all_tenants",
        "with_count",
        "share_id",
        "share_type",
        "share_type_id",
        "host",
        "created_since",
        "is_soft_deleted",
    ),
    *("export_location_path", "export_location_id", "availability_zone", "user_id", "project_id", "access_to", "pool"),
)
QUERIES = (
    "",
    "-1",
    "0",
    "5",
    "True",
    "zzz",
    "{'a': 'b'}",
    "[]",
    "%ff",
    "created_at",
    "9" * 40,
    "{" * 200,
    "\u00e9",
    "desc",
)


def _value(chance: random.Random, schema: Any, ids: list[str]) -> Any:
    """Something that the schema may or may not allow."""
    if chance.random() < 0.25:
        return chance.choice(ODD)
    if "oneOf" in schema:
        return _value(chance, chance.choice(schema["oneOf"]), ids)
    if "enum" in schema:
        return chance.choice(schema["enum"])
    kinds = schema.get("type", "string")
    kind = chance.choice(kinds) if isinstance(kinds, list) else kinds
    if kind == "object":
        inner = {name: _value(chance, part, ids) for name, part in schema.get("properties", {}).items()}
        return inner or {"a": _value(chance, {"type": "string"}, ids)}
    plain = {
        "string": chance.choice([*ids, "default", "ip", "user", "10.0.0.0/8", "::/0", "NFS", "a", "rw", "nova"]),
        "integer": chance.choice([1, 2, 5]),
        "number": 1.5,
        "boolean": chance.choice([True, False]),
        "array": [chance.choice(ids)],
    }
    return plain.get(kind)


def _body(chance: random.Random, route: Route, minor: int, ids: list[str]) -> Any:
    if route.body is None:
        return chance.choice(ODD)
    schema = route.body.at(minor)
    if route.body.root:
        inner = _value(chance, schema["properties"][route.body.root], ids)
        return chance.choice(ODD) if chance.random() < 0.05 else {route.body.root: inner}
    return _value(chance, schema, ids)


async def _try(client: Client, chance: random.Random, route: Route, ids: list[str]) -> None:
    minor = chance.choice([route.since, route.until, chance.randint(0, 98)])
    path = route.path
    while "{" in path:
        before, _, rest = path.partition("{")
        path = before + chance.choice([*ids, "x", "%00", "..%2f..", "default", "enable"]) + rest.partition("}")[2]
    if route.method == "GET" and chance.random() < 0.7:
        pairs = [f"{chance.choice(FILTERS)}={chance.choice(QUERIES)}" for _ in range(chance.randint(1, 3))]
        path += "?" + "&".join(pairs).replace("\u00e9", "%C3%A9")
    body = None if route.method in ("GET", "DELETE") else _body(chance, route, minor, ids)
    answer = await client.ask(
        route.method,
        path,
        body,
        caller=chance.choice(CALLERS),
        minor=minor,
        **{"x-openstack-manila-api-experimental": "true"},
    )
    about = (route.method, path, minor, body, answer.status_code, answer.text[:500])
    assert answer.status_code not in (500, 502, 503), about
    if answer.status_code >= 400:
        ((name, told),) = answer.json().items()
        assert name == fault.NAMES[answer.status_code], about
        assert told["message"], about


@pytest.mark.parametrize("seed", range(4))
async def test_every_route_survives_whatever_is_sent_to_it(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - to be the same each time
    store = service_kit.opened(tmp_path)
    service_kit.equip(store, overcommit=1000.0)
    async with manila_over(store) as client:
        share = await client.share(name="a")
        service_kit.all_well(store)
        snapshot = (await client.do("POST", "/snapshots", {"snapshot": {"share_id": share["id"]}}))["snapshot"]
        service_kit.all_well(store)
        ids = [share["id"], snapshot["id"], service_kit.GUEST, service_kit.PROJECT, new_id()]
        for _ in range(3):
            for route in chance.sample(ROUTES, len(ROUTES)):
                await _try(client, chance, route, ids)
    store.close()
