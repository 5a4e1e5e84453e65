"""Schemathesis reads the OpenAPI document, tries what it allows and what it forbids: no answer but those described."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance

from isthmus.service.domain.snapshots import create_snapshot
from isthmus.service.routes import ROUTES, Route
from isthmus.service.service import Service
from isthmus.store import Store
from tests import service_kit as kit

REAL = {
    "project": str(kit.PROJECT),
    "host": str(kit.HOST),
    "pool": str(kit.POOL),
    "type": "default",
    "guest": str(kit.GUEST),
    "share": "22222222-2222-4222-8222-222222222222",
    "snapshot": "33333333-3333-4333-8333-333333333333",
    "attachment": "44444444-4444-4444-8444-444444444444",
}
"""What exists: an example that names nothing real gets no further than 404."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = kit.opened(tmp_path_factory.mktemp("schema"))
    kit.equip(store)
    kit.given(store, kit.made(store, name="home", share_id=REAL["share"]), attachment_id=REAL["attachment"])
    with store.write() as tx:
        create_snapshot(tx, share=REAL["share"], snapshot_id=REAL["snapshot"])
    yield store
    store.close()


@pytest.fixture(scope="module")
def api(store: Store) -> Iterator[Any]:
    service = Service(store)
    yield schemathesis.openapi.from_asgi("/v1/openapi.json", service.app)
    asyncio.run(service.close())


CASES = [
    pytest.param(route, mode, id=f"{mode.value} {route.method} {route.path}")
    for route in ROUTES
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    # Where nothing varies, nothing can be got wrong.
    if mode == GenerationMode.POSITIVE or route.request or route.query or "{" in route.path
]


@pytest.mark.parametrize(("route", "mode"), CASES)
def test_no_answer_but_those_described(api: Any, route: Route, mode: GenerationMode) -> None:
    operation = api[route.path][route.method]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    def check(case: schemathesis.Case[Any]) -> None:
        _shorten(case)
        if mode == GenerationMode.POSITIVE:
            _aim(case)
        # Rules beyond a schema may refuse what it allows (positive_data_acceptance). 502 to 507 are answers with a
        # meaning here (not_a_server_error): a defect is 500, which no operation describes.
        response = case.call_and_validate(excluded_checks=[positive_data_acceptance, not_a_server_error])
        assert response.status_code != 500

    check()


def _aim(case: schemathesis.Case[Any]) -> None:
    """The example speaks of what exists; all else in it stays as it was made up."""
    for part in (case.path_parameters, case.body):
        if isinstance(part, dict):
            part.update({name: value for name, value in REAL.items() if name in part})


def _shorten(case: schemathesis.Case[Any]) -> None:
    """A legal wait, made short."""
    query = case.query or {}
    try:
        wait = float(query.get("timeout", 30 if "after" in query else 0))
    except (TypeError, ValueError):
        return
    if 0.05 < wait <= 60:
        case.query["timeout"] = 0.05
