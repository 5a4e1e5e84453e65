"""Schemathesis reads the OpenAPI document of the Shared File Systems API and tries what it allows and what it forbids:
no answer but those described."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    missing_required_header,
    negative_data_rejection,
    positive_data_acceptance,
)

from isthmus.service.manila.app import Manila
from isthmus.service.manila.openapi import document
from isthmus.service.policy import Policy
from isthmus.service.seal import Seal
from isthmus.service.service import Service
from isthmus.store import Store
from isthmus.wire.manila import version
from tests import service_kit as kit
from tests.api_kit import HeaderVoucher, as_caller

SHARE = "22222222-2222-4222-8222-222222222222"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = kit.opened(tmp_path_factory.mktemp("schema"))
    kit.equip(store, overcommit=1000.0)
    kit.made(store, name="home", share_id=SHARE)
    yield store
    store.close()


@pytest.fixture(scope="module")
def api(store: Store) -> Iterator[Any]:
    service = Service(store)
    app = Manila(service, HeaderVoucher(), Policy(), gateway="169.254.77.2", seal=Seal(Fernet.generate_key()))
    yield schemathesis.openapi.from_asgi(
        "/v2/openapi.json", app, headers={version.HEADER: version.shown(version.MAX), **as_caller("owner")}
    )
    asyncio.run(service.close())


CASES = [
    pytest.param(path, method.upper(), mode, id=f"{mode.value} {method.upper()} {path}")
    for path, operations in document(version.MAX)["paths"].items()
    for method, operation in operations.items()
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    # Where nothing varies, nothing can be got wrong.
    if mode == GenerationMode.POSITIVE or "requestBody" in operation
]


@pytest.mark.parametrize(("path", "method", "mode"), CASES)
def test_no_answer_but_those_described(api: Any, path: str, method: str, mode: GenerationMode) -> None:
    operation = api[path][method]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    def check(case: schemathesis.Case[Any]) -> None:
        if path.startswith("/v2/shares/{id}"):
            case.path_parameters["id"] = SHARE
        case.headers.update({version.HEADER: version.shown(version.MAX), **as_caller("owner")})
        # Rules beyond a schema may refuse what it allows; what no version knows is ignored, as Manila does.
        response = case.call_and_validate(
            excluded_checks=[
                positive_data_acceptance,
                negative_data_rejection,
                missing_required_header,
                not_a_server_error,
            ]
        )
        assert response.status_code != 500

    check()


@pytest.mark.parametrize("minor", [version.MIN, 7, 45, version.MAX])
def test_every_version_has_its_document(minor: int) -> None:
    found = document(minor)
    assert found["info"]["version"] == version.shown(minor)
    assert ("/v2/share-backups" in found["paths"]) is (minor >= 80)
    assert ("/v2/os-quota-sets/{id}" in found["paths"]) is (minor <= 6)
