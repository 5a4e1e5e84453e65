"""Every operation of the API for every kind of caller: generated from the route table, decided here cell by cell.

A route that nobody decided about fails, and so does a caller that a route's row leaves out.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.model.names import MIB, AttachmentId, GuestId, new_id
from isthmus.pki.facts import facts_of
from isthmus.pki.request import make_request, new_key
from isthmus.service.domain import enrolment, grants
from isthmus.service.domain.guests import register_guest
from isthmus.service.domain.hosts import register_host
from isthmus.service.domain.snapshots import create_snapshot
from isthmus.service.routes import ROUTES, Route
from isthmus.service.service import A_WEEK, Service
from isthmus.store import Store
from isthmus.store.rows import AuditRow, CertificateRow
from tests import service_kit as kit
from tests.api_kit import ANONYMOUS, CALLERS, EXPIRED, as_caller, client_of
from tests.fakes.authority import authority
from tests.service_kit import GUEST, HOST, POOL

COLUMNS = [*CALLERS, ANONYMOUS, EXPIRED]
OK, DENIED, ABSENT, WHO = "done", 403, 404, 401

# What each kind of caller gets from each kind of route, when the object is project acme's or host h1's.
Row = Mapping[str, object]
EVERYBODY: Row = {**dict.fromkeys(COLUMNS, OK), EXPIRED: WHO}
_NOBODY: Row = {ANONYMOUS: WHO, EXPIRED: WHO, "unscoped": DENIED, "agent": DENIED, "other agent": DENIED}
READ: Row = {
    **_NOBODY,
    "owner": OK,
    "reader": OK,
    "other project": ABSENT,
    "other's admin": ABSENT,
    "operator": OK,
    "observer": OK,
}
LIST: Row = {**READ, "other project": OK, "other's admin": OK}
CHANGE: Row = {**READ, "reader": DENIED, "observer": DENIED}
CREATE: Row = {**CHANGE}
OPERATE: Row = {
    **_NOBODY,
    "owner": DENIED,
    "reader": DENIED,
    "other project": DENIED,
    "other's admin": DENIED,
    "operator": OK,
    "observer": DENIED,
}
OBSERVE: Row = {**OPERATE, "observer": OK}
SPEAK: Row = {**OPERATE, "agent": OK}

DECIDED: Mapping[str, Row] = {
    "isthmus:about:version": EVERYBODY,
    "isthmus:about:health": EVERYBODY,
    "isthmus:about:openapi": EVERYBODY,
    "isthmus:authority:show": EVERYBODY,
    "isthmus:enrolments:enrol": EVERYBODY,
    "isthmus:hosts:index": OBSERVE,
    "isthmus:hosts:show": OBSERVE,
    "isthmus:hosts:register": OPERATE,
    "isthmus:hosts:remove": OPERATE,
    "isthmus:hosts:desired": SPEAK,
    "isthmus:hosts:report": SPEAK,
    "isthmus:grants:sign": SPEAK,
    "isthmus:enrolments:make_token": OPERATE,
    "isthmus:enrolments:renew": SPEAK,
    "isthmus:enrolments:revoke": OPERATE,
    "isthmus:pools:index": OBSERVE,
    "isthmus:pools:show": OBSERVE,
    "isthmus:pools:register": OPERATE,
    "isthmus:pools:update": OPERATE,
    "isthmus:pools:remove": OPERATE,
    "isthmus:pools:index_types": LIST,
    "isthmus:pools:show_type": LIST,
    "isthmus:pools:register_type": OPERATE,
    "isthmus:pools:remove_type": OPERATE,
    "isthmus:shares:index": LIST,
    "isthmus:shares:show": READ,
    # created in project acme: one's own is not asked about here, another's is refused by name
    "isthmus:shares:create": {**CREATE, "other project": DENIED, "other's admin": DENIED},
    "isthmus:shares:update": CHANGE,
    "isthmus:shares:delete": CHANGE,
    "isthmus:shares:revert": CHANGE,
    "isthmus:snapshots:index": LIST,
    "isthmus:snapshots:show": READ,
    "isthmus:snapshots:create": CREATE,
    "isthmus:snapshots:update": CHANGE,
    "isthmus:snapshots:delete": CHANGE,
    "isthmus:guests:index": OBSERVE,
    "isthmus:guests:register": OPERATE,
    "isthmus:guests:show": READ,
    "isthmus:guests:update": OPERATE,
    "isthmus:guests:remove": OPERATE,
    "isthmus:guests:index_attachments": LIST,
    "isthmus:guests:attach": CREATE,
    "isthmus:guests:show_attachment": READ,
    "isthmus:guests:detach": CHANGE,
    "isthmus:grants:revoke": CHANGE,
    "isthmus:grants:renew": CHANGE,
    "isthmus:grants:index": LIST,
    "isthmus:grants:show": READ,
    "isthmus:audit:index": OBSERVE,
    "isthmus:events:index": LIST,
}


class Scene:
    """Objects of project acme, and the requests that each route is asked with."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.share = kit.made(store)
        self.second = kit.made(store)
        self.attachment = kit.given(store, self.share)
        self.spare = new_id()
        with store.write() as tx:
            register_host(tx, "h2")
            register_guest(tx, guest_id=self.spare, project="acme", host=HOST)
            self.snapshot = create_snapshot(tx, share=self.share.id)
            requests = {AttachmentId(self.attachment.id): make_request(new_key())}
            assert grants.issue(tx, authority(), HOST, requests, A_WEEK) == {}
            host = authority().sign_host(HOST, new_key().public_key(), now=tx.now)
            tx.add(CertificateRow(facts_of(host).serial, HOST, facts_of(host).not_after))
        kit.all_well(store)
        with store.read() as tx:
            from isthmus.store.rows import GrantRow

            self.grant = tx.all(GrantRow)[0].serial

    def path(self, route: Route) -> str:
        keys = {
            "host": HOST,
            "pool": POOL,
            "type": "default",
            "share": self.share.id,
            "snapshot": self.snapshot.id,
            "guest": GUEST,
            "attachment": self.attachment.id,
            "grant": self.grant,
        }
        return route.path.format(**keys)

    def token(self) -> str:
        with self.store.write() as tx:
            return enrolment.make_token(tx, "h2", "0" * 64, replace=True)[0]

    def body(self, route: Route) -> Any:
        request = make_request(new_key())
        bodies: dict[str, Any] = {
            "isthmus:hosts:register": {"name": "h3"},
            "isthmus:hosts:report": {"host": HOST, "revision": 0},
            "isthmus:grants:sign": {"requests": {}},
            "isthmus:enrolments:make_token": {},
            "isthmus:enrolments:enrol": {"token": self.token(), "request": _base64(request)},
            "isthmus:enrolments:renew": {"request": _base64(request)},
            "isthmus:pools:register": {"name": "p9", "host": HOST, "path": "/srv/p9"},
            "isthmus:pools:update": {"reserve": 0},
            "isthmus:pools:register_type": {"name": "fast"},
            "isthmus:shares:create": {"project": "acme", "pool": POOL, "size": 64 * MIB},
            "isthmus:shares:update": {"name": "renamed"},
            "isthmus:shares:revert": {"snapshot": self.snapshot.id},
            "isthmus:snapshots:create": {"share": self.share.id},
            "isthmus:snapshots:update": {"name": "renamed"},
            "isthmus:guests:register": {"id": new_id(), "project": "acme", "host": HOST},
            "isthmus:guests:update": {"name": "renamed"},
            "isthmus:guests:attach": {"share": self.second.id, "guest": GuestId(self.spare)},
        }
        assert (route.request is None) == (route.rule not in bodies), f"no body for {route.rule}"
        return bodies.get(route.rule)


def _base64(body: bytes) -> str:
    import base64

    return base64.b64encode(body).decode()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = kit.opened(tmp_path)
    kit.equip(store)
    return store


@pytest.fixture
async def service(store: Store) -> AsyncIterator[Service]:
    service = Service(store, signer=authority())
    yield service
    await service.close()
    store.close()


def test_every_operation_is_decided_for_everybody() -> None:
    rules = [route.rule for route in ROUTES]
    assert sorted(DECIDED) == sorted(rules), "decide who may do it, in DECIDED"
    assert len(set(rules)) == len(rules)
    for rule, row in DECIDED.items():
        assert sorted(row) == sorted(COLUMNS), f"{rule} leaves somebody out"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.rule)
async def test_the_route(route: Route, service: Service, store: Store) -> None:
    scene = Scene(store)
    order = sorted(COLUMNS, key=lambda name: DECIDED[route.rule][name] == OK)  # those who change something come last
    async with client_of(service) as client:
        for caller in order:
            answer = await _ask(client, route, scene, caller)
            decided = DECIDED[route.rule][caller]
            if decided != OK:
                assert answer.status_code == decided, f"{caller}: {answer.text}"
            else:  # whatever the state of the object makes of it, it is neither hidden nor forbidden
                assert answer.status_code not in (401, 403, 404), f"{caller}: {answer.text}"
                assert answer.status_code < 500, f"{caller}: {answer.text}"
            if decided == WHO:
                assert answer.headers["www-authenticate"] == 'Test realm="isthmus"'


async def _ask(client: httpx.AsyncClient, route: Route, scene: Scene, caller: str) -> httpx.Response:
    body = scene.body(route)
    return await client.request(route.method, scene.path(route), json=body, headers=as_caller(caller))


WITH_OBJECT = [
    route
    for route in ROUTES
    if re.search(r"\{(share|snapshot|guest|attachment|grant)\}", route.path) and DECIDED[route.rule]["owner"] == OK
]
IN_BODY = {"isthmus:snapshots:create": "share", "isthmus:guests:attach": "share", "isthmus:shares:create": ""}


@pytest.mark.parametrize("route", WITH_OBJECT, ids=lambda route: route.rule)
async def test_another_s_object_answers_as_one_that_does_not_exist(
    route: Route, service: Service, store: Store
) -> None:
    scene = Scene(store)
    async with client_of(service) as client:
        there = await _ask(client, route, scene, "other's admin")
        path = scene.path(route)
        for key in (scene.share.id, scene.snapshot.id, GUEST, scene.attachment.id, scene.grant):
            path = path.replace(key, new_id() if "-" in key else "abc123")
        body = scene.body(route)
        nowhere = await client.request(route.method, path, json=body, headers=as_caller("other's admin"))
    assert there.status_code == nowhere.status_code == 404
    assert _masked(there) == _masked(nowhere)


@pytest.mark.parametrize("field", ["share", "guest"])
async def test_so_does_one_that_a_body_names(field: str, service: Service, store: Store) -> None:
    scene = Scene(store)
    mine = new_id()
    with store.write() as tx:
        register_guest(tx, guest_id=mine, project="other", host=HOST)
    own = kit.made(store, project="other")
    right = {"share": own.id, "guest": mine}
    foreign = {"share": scene.second.id, "guest": scene.spare}
    async with client_of(service) as client:
        answers = [
            await client.post("/v1/attachments", json={**right, field: key}, headers=as_caller("other project"))
            for key in (foreign[field], new_id())
        ]
        kept = await client.post("/v1/attachments", json=right, headers=as_caller("other project"))
    assert [answer.status_code for answer in answers] == [404, 404]
    assert _masked(answers[0]) == _masked(answers[1])
    assert kept.status_code == 202


def _masked(answer: httpx.Response) -> str:
    fault = json.loads(answer.text)["error"]
    return re.sub(r"(req-)?[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{30,40}|abc123", "ID", json.dumps(fault, sort_keys=True))


async def test_lists_hold_one_s_own_alone(service: Service, store: Store) -> None:
    Scene(store)
    async with client_of(service) as client:
        for path in ("shares", "snapshots", "attachments", "grants", "events"):
            stranger = await client.get(f"/v1/{path}", headers=as_caller("other project"))
            owner = await client.get(f"/v1/{path}", headers=as_caller("owner"))
            everything = await client.get(f"/v1/{path}", headers=as_caller("observer"))
            asked = await client.get(f"/v1/{path}", params={"project": "acme"}, headers=as_caller("other project"))
            assert stranger.json()["items"] == asked.json()["items"] == [], path
            assert owner.json()["items"], path
            assert len(everything.json()["items"]) >= len(owner.json()["items"])


# --- what went wrong elsewhere ----------------------------------------------------------------------------------------


async def test_a_public_share_is_read_by_strangers_and_managed_by_none(service: Service, store: Store) -> None:
    """The shape of CVE-2026-71195: access to a public share was managed by whoever could see it."""
    scene = Scene(store)
    mine = new_id()
    with store.write() as tx:
        register_guest(tx, guest_id=mine, project="other", host=HOST)
    async with client_of(service) as client:
        path = f"/v1/shares/{scene.share.id}"
        published = await client.patch(path, json={"public": True}, headers=as_caller("owner"))
        assert published.json()["public"] is True
        for stranger in ("other project", "other's admin"):
            headers = as_caller(stranger)
            assert (await client.get(path, headers=headers)).status_code == 200
            assert scene.share.id in {
                one["id"] for one in (await client.get("/v1/shares", headers=headers)).json()["items"]
            }
            refused = [
                await client.patch(path, json={"name": "mine"}, headers=headers),
                await client.patch(path, json={"public": False}, headers=headers),
                await client.delete(path, headers=headers),
                await client.post(f"{path}/revert", json={"snapshot": scene.snapshot.id}, headers=headers),
                await client.post("/v1/snapshots", json={"share": scene.share.id}, headers=headers),
                await client.post("/v1/attachments", json={"share": scene.share.id, "guest": mine}, headers=headers),
                await client.post("/v1/attachments", json={"share": scene.share.id, "guest": GUEST}, headers=headers),
                await client.post(
                    "/v1/shares",
                    json={"pool": POOL, "size": 100 * MIB, "source_share": scene.share.id},
                    headers=headers,
                ),
                await client.get(f"/v1/snapshots/{scene.snapshot.id}", headers=headers),
                await client.get(f"/v1/attachments/{scene.attachment.id}", headers=headers),
            ]
            assert [answer.status_code for answer in refused] == [404] * len(refused), [one.text for one in refused]
            assert (await client.get("/v1/snapshots", headers=headers)).json()["items"] == []
    assert kit.row(store, scene.share).name == ""
    assert kit.row(store, scene.share).public


async def test_a_grant_opens_its_share_and_no_more(service: Service, store: Store) -> None:
    """The shape of CVE-2022-0670: the key to one share opened the pool. A host's request gets what its attachment is,
    whatever else it names."""
    scene = Scene(store)
    from cryptography import x509

    from isthmus.pki.profile import GRANT_OID, decode_grant
    from isthmus.store.rows import GrantRow

    with store.read() as tx:
        certificate = x509.load_der_x509_certificate(tx.need(GrantRow, scene.grant).certificate)
    body = certificate.extensions.get_extension_for_oid(GRANT_OID).value
    assert isinstance(body, x509.UnrecognizedExtension)
    grant = decode_grant(body.value)
    assert (grant.share, grant.volume, grant.guest, grant.host) == (
        scene.share.id,
        scene.share.id,
        GUEST,
        HOST,
    )
    refused = await service.sign(HOST, {AttachmentId(scene.second.id): make_request(new_key())})
    assert set(refused) == {AttachmentId(scene.second.id)}


async def test_a_host_gets_no_grant_of_another_s_attachment(service: Service, store: Store) -> None:
    """Nor does it learn that there is one."""
    scene = Scene(store)
    from isthmus.model.names import HostName

    asked = {AttachmentId(scene.attachment.id): make_request(new_key())}
    nothing = {AttachmentId(new_id()): make_request(new_key())}
    mine = await service.sign(HostName("h2"), asked)
    none = await service.sign(HostName("h2"), nothing)
    masked = [re.sub(r"[0-9a-f-]{36}", "ID", reason) for reasons in (mine, none) for reason in reasons.values()]
    assert masked[0] == masked[1] == "cannot sign: host h2 has no attachment ID"


async def test_a_client_s_id_tells_nothing_of_another_s_object(service: Service, store: Store) -> None:
    """The shape of CVE-2020-9543: what belongs to another was reached by naming its id in a request of one's own."""
    scene = Scene(store)
    async with client_of(service) as client:
        answer = await client.post(
            "/v1/shares",
            json={"pool": POOL, "size": 100 * MIB, "id": scene.share.id},
            headers=as_caller("other project"),
        )
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "id-taken"
    assert "acme" not in answer.text
    assert kit.row(store, scene.share).project == "acme"


async def test_a_detach_ends_the_grant_in_the_same_breath(service: Service, store: Store) -> None:
    """The shape of OSSA-2023-003: one side believes in a detach that the other never learned of. The host's document
    has neither the attachment nor its grant, and no later request brings one."""
    scene = Scene(store)
    async with client_of(service) as client:
        answer = await client.delete(f"/v1/attachments/{scene.attachment.id}", headers=as_caller("owner"))
    assert answer.status_code == 202
    document = kit.desired(store)
    assert scene.attachment.id not in {spec.id for spec in document.attachments}
    assert document.grants == {}
    refused = await service.sign(HOST, {AttachmentId(scene.attachment.id): make_request(new_key())})
    assert "being detached" in refused[AttachmentId(scene.attachment.id)]
    assert kit.desired(store).grants == {}


# --- the audit --------------------------------------------------------------------------------------------------------


async def test_the_audit_tells_who_did_what_and_who_was_refused(service: Service, store: Store) -> None:
    scene = Scene(store)
    path = f"/v1/shares/{scene.share.id}"
    async with client_of(service) as client:
        done = await client.patch(path, json={"name": "new"}, headers=as_caller("owner"))
        denied = await client.patch(path, json={"name": "new"}, headers=as_caller("reader"))
        absent = await client.patch(path, json={"name": "new"}, headers=as_caller("other project"))
        unknown = await client.patch(path, json={"name": "new"})
        read = await client.get(path, headers=as_caller("owner"))
        entries = (await client.get("/v1/audit", headers=as_caller("operator"))).json()["items"]
        one = await client.get(
            "/v1/audit",
            params={"target": f"share/{scene.share.id}", "user": "member-of-acme"},
            headers=as_caller("operator"),
        )
    by_request = {entry["request"]: entry for entry in entries}
    assert by_request[done.headers["x-request-id"]]["outcome"] == "done"
    assert by_request[done.headers["x-request-id"]]["targets"] == [f"share/{scene.share.id}"]
    assert by_request[denied.headers["x-request-id"]]["outcome"] == "forbidden"
    assert by_request[absent.headers["x-request-id"]]["outcome"] == "share-not-found"
    assert by_request[absent.headers["x-request-id"]]["project"] == "other"
    assert unknown.headers["x-request-id"] not in by_request
    assert read.headers["x-request-id"] not in by_request
    assert [entry["action"] for entry in one.json()["items"]] == ["isthmus:shares:update"]


async def test_a_change_that_fails_leaves_no_change_and_an_entry(service: Service, store: Store) -> None:
    scene = Scene(store)
    async with client_of(service) as client:
        answer = await client.delete(f"/v1/shares/{scene.share.id}", headers=as_caller("owner"))
    assert answer.status_code == 409
    with store.read() as tx:
        entries: list[AuditRow] = tx.entries()
    assert [entry.outcome for entry in entries if entry.request == answer.headers["x-request-id"]] == ["share-in-use"]
