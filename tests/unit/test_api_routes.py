"""The API over ASGI: from table to answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.model.desired import Report
from isthmus.model.errors import IsthmusError
from isthmus.model.names import MIB, new_id
from isthmus.service import faults
from isthmus.service.routes import ROUTES, described
from isthmus.service.service import Service
from isthmus.store import Store
from isthmus.wire.agent import decode_desired, encode_report
from isthmus.wire.api import FaultEnvelope
from isthmus.wire.decode import decode
from tests import service_kit as kit
from tests.service_kit import ABLE, GUEST, HOST, POOL, all_well


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = kit.opened(tmp_path)
    kit.equip(store)
    return store


@pytest.fixture
async def service(store: Store) -> AsyncIterator[Service]:
    service = Service(store)
    yield service
    await service.close()
    store.close()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service.app), base_url="http://isthmus") as client:
        yield client


SHARE: dict[str, Any] = {"project": "acme", "pool": "p1", "size": 100 * MIB}


def refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The fault in an answer of this status."""
    assert answer.status_code == status, answer.text
    fault = decode(answer.content, FaultEnvelope).error
    assert fault.request_id == answer.headers["x-request-id"]
    return {"code": fault.code, "message": fault.message, **fault.detail}


async def test_a_share_s_life(client: httpx.AsyncClient, store: Store) -> None:
    made = await client.post("/v1/shares", json={**SHARE, "name": "home"})
    assert made.status_code == 202
    share = made.json()
    assert (share["status"], share["host"], share["name"]) == ("creating", "h1", "home")
    path = f"/v1/shares/{share['id']}"
    all_well(store)
    assert (await client.get(path)).json()["status"] == "available"

    taken = await client.post("/v1/snapshots", json={"share": share["id"]})
    assert taken.status_code == 202
    all_well(store)
    snapshot = f"/v1/snapshots/{taken.json()['id']}"
    assert (await client.patch(snapshot, json={"name": "monday"})).json()["name"] == "monday"
    assert (await client.post(f"{path}/revert", json={"snapshot": taken.json()["id"]})).json()["status"] == "reverting"
    all_well(store)

    attached = await client.post("/v1/attachments", json={"share": share["id"], "guest": GUEST})
    assert attached.status_code == 202
    assert (attached.json()["at"], attached.json()["mode"]) == ("/home", "nfs")
    assert refused(await client.delete(path), 409)["attachments"] == 1
    attachment = f"/v1/attachments/{attached.json()['id']}"
    assert (await client.delete(attachment)).json()["status"] == "detaching"
    all_well(store)
    assert refused(await client.get(attachment), 404)["code"] == "attachment-not-found"

    assert (await client.patch(path, json={"name": "other"})).status_code == 200
    assert (await client.patch(path, json={"size": 200 * MIB})).json()["status"] == "extending"
    all_well(store)
    assert (await client.delete(snapshot)).status_code == 202
    all_well(store)
    assert (await client.delete(path)).status_code == 202
    all_well(store)
    assert refused(await client.get(path), 404)["code"] == "share-not-found"
    told = (await client.get("/v1/events", params={"subject": share["id"], "limit": 1000})).json()["items"]
    assert [event["after"] for event in told][-1] == "gone"


async def test_an_agent_s_turn(client: httpx.AsyncClient, store: Store) -> None:
    share = (await client.post("/v1/shares", json=SHARE)).json()
    answer = await client.get("/v1/hosts/h1/desired")
    document = decode_desired(answer.content)
    assert [spec.id for spec in document.shares] == [share["id"]]
    empty = await client.get("/v1/hosts/h1/desired", params={"after": document.revision, "timeout": 0})
    assert (empty.status_code, empty.content) == (204, b"")
    said = Report(HOST, document.revision, pools={POOL: ABLE})
    headers = {"content-type": "application/json"}
    assert (await client.post("/v1/hosts/h1/report", content=encode_report(said), headers=headers)).status_code == 204
    wrong = await client.post("/v1/hosts/h2/report", content=encode_report(said), headers=headers)
    assert refused(wrong, 400)["field"] == "host"


class TestWaiting:
    async def test_a_document_comes_as_soon_as_it_changes(self, service: Service, client: httpx.AsyncClient) -> None:
        revision = (await client.get("/v1/hosts/h1")).json()["desired_revision"]
        waiting = asyncio.create_task(service.desired(HOST, revision, 60))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        share = (await client.post("/v1/shares", json=SHARE)).json()
        async with asyncio.timeout(5):
            document = await waiting
        assert document is not None
        assert document.shares[0].id == share["id"]

    async def test_a_share_is_waited_for_until_it_changes_and_until_it_is_gone(
        self, client: httpx.AsyncClient, store: Store
    ) -> None:
        share = (await client.post("/v1/shares", json=SHARE)).json()
        path = f"/v1/shares/{share['id']}"
        waiting = asyncio.create_task(client.get(path, params={"after": share["revision"], "timeout": 60}))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(all_well, store)
        async with asyncio.timeout(5):
            changed = (await waiting).json()
        assert changed["status"] == "available"
        deleting = (await client.delete(path)).json()
        waiting = asyncio.create_task(client.get(path, params={"after": deleting["revision"], "timeout": 60}))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(all_well, store)
        async with asyncio.timeout(5):
            refused(await waiting, 404)

    async def test_nothing_new_is_no_error(self, client: httpx.AsyncClient) -> None:
        nothing = await client.get("/v1/pools/p1", params={"after": 10_000, "timeout": 0.01})
        assert (nothing.status_code, nothing.content) == (204, b"")
        none = await client.get("/v1/events", params={"after": 10_000, "timeout": 0.01})
        assert (none.status_code, none.json()["items"]) == (200, [])

    async def test_events_come_as_they_happen(self, client: httpx.AsyncClient) -> None:
        last = (await client.get("/v1/events", params={"limit": 1000})).json()["items"][-1]["id"]
        waiting = asyncio.create_task(client.get("/v1/events", params={"after": last, "timeout": 60, "kind": "share"}))
        await asyncio.sleep(0.05)
        await client.post("/v1/hosts", json={"name": "h9"})
        share = (await client.post("/v1/shares", json=SHARE)).json()
        async with asyncio.timeout(5):
            told = (await waiting).json()["items"]
        assert [event["subject"] for event in told] == [share["id"]]

    async def test_closing_answers_everybody(self, service: Service) -> None:
        waiting = asyncio.create_task(service.desired(HOST, (await service.desired(HOST, -1, 0)).revision, 60))  # type: ignore[union-attr]
        await asyncio.sleep(0.05)
        service.watch.close()
        async with asyncio.timeout(5):
            assert await waiting is None


async def test_lists_are_filtered_and_paged(client: httpx.AsyncClient) -> None:
    ids = sorted([(await client.post("/v1/shares", json={**SHARE, "name": str(n)})).json()["id"] for n in range(5)])
    found: list[str] = []
    marker: dict[str, Any] = {}
    while True:
        part = (await client.get("/v1/shares", params={"limit": 2, **marker})).json()
        found += [item["id"] for item in part["items"]]
        if part["next"] is None:
            break
        marker = {"marker": part["next"]}
    assert found == ids
    named = (await client.get("/v1/shares", params={"name": "3", "status": "creating", "pool": "p1"})).json()["items"]
    assert [item["name"] for item in named] == ["3"]
    assert (await client.get("/v1/shares", params={"project": "nobody"})).json()["items"] == []


class TestBadRequests:
    @pytest.mark.parametrize(
        ("path", "field"),
        [
            ("/v1/shares?limit=0", "limit"),
            ("/v1/shares?limit=1&limit=2", "limit"),
            ("/v1/shares?limit=99999999999999999999999999", "limit"),
            ("/v1/shares?colour=red", "query"),
            ("/v1/shares?project=%00", "project"),
            ("/v1/shares?name=%E2%80%AE", "name"),
            ("/v1/shares?status=gone", "status"),
            ("/v1/shares?marker=x", "marker"),
            ("/v1/shares/%2e%2e", None),
            ("/v1/shares/x%00y", "share"),
            ("/v1/shares/{00000000-0000-0000-0000-000000000000}", "share"),
            ("/v1/pools/P1", "pool"),
            ("/v1/hosts/h1/desired?timeout=61", "timeout"),
            ("/v1/hosts/h1/desired?timeout=nan", "timeout"),
            ("/v1/hosts/h1/desired?after=-1", "after"),
            ("/v1/events?subject=%0A", "subject"),
        ],
    )
    async def test_a_wrong_parameter_is_named(self, client: httpx.AsyncClient, path: str, field: str | None) -> None:
        answer = await client.get(path)
        if field is None:
            assert answer.status_code in (400, 404)
        else:
            assert refused(answer, 400)["field"] == field

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({**SHARE, "size": -1}, "size"),
            ({**SHARE, "size": 1}, "size"),
            ({**SHARE, "size": 10**40}, "size"),
            ({**SHARE, "size": True}, "size"),
            ({**SHARE, "name": "a\nb"}, "name"),
            ({**SHARE, "name": "\u202e"}, "name"),
            ({**SHARE, "project": "../x"}, "project"),
            ({**SHARE, "id": "not-a-uuid"}, "id"),
            ({**SHARE, "name": [[[[]]]]}, "name"),
            ({**SHARE, "extra": {}}, "extra"),
            ({"pool": "p1", "size": 1}, "project"),
        ],
    )
    async def test_a_wrong_field_is_named(self, client: httpx.AsyncClient, body: Any, field: str) -> None:
        assert refused(await client.post("/v1/shares", json=body), 400)["field"] == field

    async def test_a_sub_path_says_the_mend(self, client: httpx.AsyncClient, store: Store) -> None:
        share = (await client.post("/v1/shares", json=SHARE)).json()
        all_well(store)
        body = {"share": share["id"], "guest": GUEST, "sub_path": "a"}
        assert "a share of its own" in refused(await client.post("/v1/attachments", json=body), 422)["message"]

    async def test_no_room_is_507_and_no_report_503(self, client: httpx.AsyncClient) -> None:
        assert refused(await client.post("/v1/shares", json={**SHARE, "size": 1 << 50}), 507)["code"] == "pool-full"
        await client.post("/v1/pools", json={"name": "p2", "host": "h1", "path": "/srv/p2"})
        assert refused(await client.post("/v1/shares", json={**SHARE, "pool": "p2"}), 503)["pool"] == "p2"

    async def test_a_body_must_be_json_and_not_too_large(self, client: httpx.AsyncClient) -> None:
        body = json.dumps(SHARE)
        assert refused(await client.post("/v1/shares", content=body), 415)
        assert refused(await client.post("/v1/shares", data=SHARE), 415)
        headers = {"content-type": "application/json; charset=utf-8"}
        assert (await client.post("/v1/shares", content=body, headers=headers)).status_code == 202
        huge = json.dumps({**SHARE, "name": "x" * (1 << 20)})
        assert refused(await client.post("/v1/shares", content=huge, headers=headers), 413)["limit"] == 1 << 20
        assert refused(await client.post("/v1/shares", content=b"[" * 900_000, headers=headers), 400)
        assert refused(await client.post("/v1/shares", content=b"\xff\xfe{", headers=headers), 400)

    async def test_no_such_path_or_method(self, client: httpx.AsyncClient) -> None:
        assert refused(await client.get("/v1/nothing"), 404)["code"] == "no-such-path"
        answer = await client.put("/v1/shares")
        assert refused(answer, 405)["code"] == "no-such-method"
        assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))

    async def test_a_defect_is_500_with_an_id_and_without_its_words(
        self, service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def broken() -> int:
            raise ZeroDivisionError("a secret of the inside")

        monkeypatch.setattr(service, "revision", broken)
        transport = httpx.ASGITransport(service.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://isthmus") as client:
            answer = await client.get("/v1/health")
        assert refused(answer, 500)["code"] == "internal"
        assert "secret" not in answer.text
        assert f"(request {answer.headers['x-request-id']})" in caplog.text


class TestTable:
    def test_every_route_is_in_the_document_and_in_the_app(self, service: Service) -> None:
        document = described()
        in_document = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
        in_app = {
            (method, route.path)  # type: ignore[attr-defined]
            for route in service.app.routes
            for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
        }
        in_table = {(route.method, route.path) for route in ROUTES}
        assert in_document == in_app == in_table
        assert len(in_table) == len(ROUTES)

    def test_operations_have_names_of_their_own(self) -> None:
        names = [operation["operationId"] for path in described()["paths"].values() for operation in path.values()]
        assert len(set(names)) == len(names)

    async def test_the_document_is_served(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/v1/openapi.json")
        assert answer.json() == json.loads(json.dumps(described()))

    def test_every_error_class_has_a_status(self) -> None:
        def all_below(kind: type[IsthmusError]) -> set[type[IsthmusError]]:
            return {kind}.union(*(all_below(child) for child in kind.__subclasses__()))

        for kind in all_below(IsthmusError):
            assert faults.status_of(kind) in faults.SUMMARY
        assert faults.status_of(IsthmusError) == 500
        table = list(faults.STATUS)
        for place, kind in enumerate(table):
            assert not any(issubclass(kind, earlier) for earlier in table[:place]), "a base stands before its subclass"


async def test_the_same_post_with_the_same_id_is_the_same_object(client: httpx.AsyncClient) -> None:
    body = {**SHARE, "id": new_id()}
    first, again = await client.post("/v1/shares", json=body), await client.post("/v1/shares", json=body)
    assert (again.status_code, again.json()) == (202, first.json())
    assert refused(await client.post("/v1/shares", json={**body, "name": "x"}), 409)["code"] == "id-taken"
