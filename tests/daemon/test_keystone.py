"""Users by a real Keystone's tokens, and grants in its credential store."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.model.caller import Way
from isthmus.model.errors import Unauthenticated, Unavailable
from isthmus.model.names import MIB, AttachmentId
from isthmus.pki.request import make_request, new_key
from isthmus.service.app import build
from isthmus.service.credentials import CredentialKeeper
from isthmus.service.domain.guests import register_guest
from isthmus.service.identity.base import Presented
from isthmus.service.identity.keystone import RETRY, KeystoneVoucher
from isthmus.service.policy import Policy
from isthmus.service.service import Service
from isthmus.store import Store
from tests import service_kit as kit
from tests.daemon.keystone import Keystone, keystone  # noqa: F401 - a fixture
from tests.fakes.authority import authority
from tests.service_kit import HOST, POOL

CACHE = 60.0


@dataclass
class Clock:
    ahead: datetime.timedelta = field(default_factory=datetime.timedelta)

    def __call__(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC) + self.ahead

    def pass_(self, seconds: float) -> None:
        self.ahead += datetime.timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def voucher(keystone: Keystone, clock: Clock) -> AsyncIterator[KeystoneVoucher]:  # noqa: F811
    made = KeystoneVoucher(replace(keystone.config, cache=CACHE), clock)
    yield made
    await made.close()


def bearing(token: str) -> Presented:
    return Presented({"x-auth-token": token}, "192.0.2.1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = kit.opened(tmp_path)
    kit.equip(store)
    yield store
    store.close()


async def test_a_token_says_who_asks(keystone: Keystone, voucher: KeystoneVoucher) -> None:  # noqa: F811
    member = await voucher.caller(bearing(keystone.token("member-of-acme", "acme")))
    assert (member.way, member.user, member.name, member.project, member.system, member.address) == (
        Way.KEYSTONE,
        keystone.ids["member-of-acme"],
        "member-of-acme",
        keystone.ids["acme"],
        False,
        "192.0.2.1",
    )
    assert member.roles == {"reader", "member"}
    reader = await voucher.caller(bearing(keystone.token("reader-of-acme", "acme")))
    assert reader.roles == {"reader"}
    admin = await voucher.caller(bearing(keystone.token("system-admin", system=True)))
    assert (admin.project, admin.system) == (None, True)
    assert {"reader", "member", "manager", "admin"} <= admin.roles
    manager = await voucher.caller(bearing(keystone.token("manager-of-acme", "acme")))
    assert manager.roles == {"reader", "member", "manager"}
    unscoped = await voucher.caller(bearing(keystone.token("member-of-acme")))
    assert (unscoped.project, unscoped.system, unscoped.roles) == (None, False, frozenset())


@pytest.mark.parametrize("token", ["", "nonsense", "x" * 9000, "gAAAAAB\u00e9"])
async def test_what_is_no_token_is_refused(voucher: KeystoneVoucher, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await voucher.caller(bearing(token))
    assert (await voucher.caller(Presented())).way is Way.NOBODY


async def test_a_revoked_token_ends_within_the_cache_s_bound(
    keystone: Keystone,  # noqa: F811
    voucher: KeystoneVoucher,
    clock: Clock,
) -> None:
    token = keystone.token("member-of-acme", "acme")
    await voucher.caller(bearing(token))
    keystone.revoke(token)
    assert (await voucher.caller(bearing(token))).name == "member-of-acme"
    clock.pass_(CACHE + 1)
    with pytest.raises(Unauthenticated):
        await voucher.caller(bearing(token))


async def test_a_token_ends_with_its_time(keystone: Keystone, voucher: KeystoneVoucher, clock: Clock) -> None:  # noqa: F811
    token = keystone.token("member-of-acme", "acme")
    await voucher.caller(bearing(token))
    clock.pass_(2 * 3600)
    with pytest.raises(Unauthenticated):
        await voucher.caller(bearing(token))


async def test_application_credentials_pass_but_not_with_rules_of_their_own(
    keystone: Keystone,  # noqa: F811
    voucher: KeystoneVoucher,
) -> None:
    plain = await voucher.caller(bearing(keystone.application_token("member-of-acme", "acme")))
    assert (plain.user, plain.project) == (keystone.ids["member-of-acme"], keystone.ids["acme"])
    assert plain.roles == {"reader", "member"}
    rules = [{"service": "isthmus", "method": "GET", "path": "/v1/shares"}]
    with pytest.raises(Unauthenticated):
        await voucher.caller(bearing(keystone.application_token("member-of-acme", "acme", rules)))


async def test_a_service_user_without_the_role_refuses_nobody(keystone: Keystone, clock: Clock) -> None:  # noqa: F811
    config = replace(keystone.config, user="member-of-acme", project="acme")
    voucher = KeystoneVoucher(config, clock)
    with pytest.raises(Unavailable, match="403: user member-of-acme may not validate tokens"):
        await voucher.caller(bearing(keystone.token("member-of-other", "other")))
    await voucher.close()


async def test_the_role_service_is_enough_to_validate(keystone: Keystone, clock: Clock) -> None:  # noqa: F811
    voucher = KeystoneVoucher(replace(keystone.config, user="validator"), clock)
    caller = await voucher.caller(bearing(keystone.token("member-of-other", "other")))
    assert caller.project == keystone.ids["other"]
    await voucher.close()


async def test_many_at_once_ask_once(
    keystone: Keystone,  # noqa: F811
    voucher: KeystoneVoucher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    validate = voucher._validate

    def counted(token: str) -> Any:
        asked.append(token)
        return validate(token)

    monkeypatch.setattr(voucher, "_validate", counted)
    token = keystone.token("member-of-acme", "acme")
    callers = await asyncio.gather(*(voucher.caller(bearing(token)) for _ in range(20)))
    assert len(set(callers)) == 1
    assert len(asked) == 1


async def test_while_keystone_is_down_known_tokens_go_on_and_others_wait(
    keystone: Keystone,  # noqa: F811
    voucher: KeystoneVoucher,
    clock: Clock,
) -> None:
    known, unknown = (keystone.token("member-of-acme", "acme") for _ in range(2))
    await voucher.caller(bearing(known))
    await asyncio.to_thread(keystone.stop)
    try:
        clock.pass_(CACHE * 10)
        assert (await voucher.caller(bearing(known))).name == "member-of-acme"
        with pytest.raises(Unavailable, match="Keystone does not answer") as away:
            await voucher.caller(bearing(unknown))
        assert away.value.code == "keystone-unavailable"
    finally:
        await asyncio.to_thread(keystone.start)
    clock.pass_(RETRY.total_seconds())
    assert (await voucher.caller(bearing(unknown))).name == "member-of-acme"


async def test_requests_by_its_tokens(keystone: Keystone, voucher: KeystoneVoucher, store: Store) -> None:  # noqa: F811
    service = Service(store, signer=authority())
    app = build(service, voucher, Policy())
    acme, other = ({"X-Auth-Token": keystone.token(f"member-of-{project}", project)} for project in ("acme", "other"))
    operator = {"X-Auth-Token": keystone.token("system-admin", system=True)}
    project_admin = {"X-Auth-Token": keystone.token("admin-of-other", "other")}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://isthmus") as client:
        nobody = await client.get("/v1/shares")
        assert nobody.status_code == 401
        assert nobody.headers["www-authenticate"] == f'Keystone uri="{keystone.url}"'
        made = await client.post("/v1/shares", json={"pool": POOL, "size": 64 * MIB}, headers=acme)
        assert made.status_code == 202
        assert made.json()["project"] == keystone.ids["acme"]
        path = f"/v1/shares/{made.json()['id']}"
        assert (await client.get(path, headers=acme)).status_code == 200
        assert (await client.get(path, headers=operator)).status_code == 200
        for stranger in (other, project_admin):
            assert (await client.get(path, headers=stranger)).status_code == 404
        assert (await client.get("/v1/pools", headers=project_admin)).status_code == 403
        unscoped = {"X-Auth-Token": keystone.token("member-of-acme")}
        assert (await client.get("/v1/shares", headers=unscoped)).status_code == 403
    await service.close()


async def test_grants_are_kept_in_its_credential_store(
    keystone: Keystone,  # noqa: F811
    voucher: KeystoneVoucher,
    store: Store,
) -> None:
    service = Service(store, signer=authority())
    keeper = CredentialKeeper(service, keystone.config)
    acme = keystone.ids["acme"]
    guest = "22222222-2222-4222-8222-222222222222"
    with store.write() as tx:
        register_guest(tx, guest_id=guest, project=acme, host=HOST)
    share = kit.made(store, project=acme)
    given = kit.given(store, share, guest=guest, user=keystone.ids["member-of-acme"])
    foreign = kit.given(store, kit.made(store), user="root")  # asked for by nobody that Keystone knows

    def there() -> list[dict[str, str]]:
        found: list[dict[str, str]] = keystone.ask("GET", "/credentials?type=cert")["credentials"]
        return found

    requests = {AttachmentId(row.id): make_request(new_key()) for row in (given, foreign)}
    assert await service.sign(HOST, requests) == {}
    for _ in range(2):
        await keeper.settle()
        (credential,) = there()
    assert credential["user_id"] == keystone.ids["member-of-acme"]
    assert credential["project_id"] == acme
    blob = json.loads(credential["blob"])
    assert blob["isthmus"]["share"] == share.id
    assert blob["certificate"].startswith("-----BEGIN CERTIFICATE-----")

    # a tenant's tool finds it as that user
    mine = keystone.ask("GET", "/credentials?type=cert", token=keystone.token("member-of-acme", "acme"))
    assert [one["id"] for one in mine["credentials"]] == [credential["id"]]

    keystone.ask("POST", "/credentials", {"credential": {**_bare(credential)}})
    keystone.ask(
        "POST",
        "/credentials",
        {"credential": {"type": "cert", "blob": "somebody's", "user_id": credential["user_id"], "project_id": acme}},
    )
    assert len(there()) == 3
    await keeper.settle()
    assert len(there()) == 2, "the duplicate is gone, somebody's own is not"

    await service.sign(HOST, {given.id: make_request(new_key())})
    await keeper.settle()
    blobs = [json.loads(one["blob"]) for one in there() if one["blob"].startswith("{")]
    assert [one["isthmus"]["sequence"] for one in blobs] == [kit.row(store, given).sequence]

    from isthmus.service.domain.attachments import detach

    with store.write() as tx:
        detach(tx, given.id)
    await keeper.settle()
    assert [one["blob"] for one in there()] == ["somebody's"]
    keystone.ask("DELETE", f"/credentials/{there()[0]['id']}")

    await asyncio.to_thread(keystone.stop)
    try:
        with pytest.raises(Unavailable, match="credential store"):
            await keeper.settle()
    finally:
        await asyncio.to_thread(keystone.start)
    await service.close()


def _bare(credential: dict[str, str]) -> dict[str, str]:
    return {name: credential[name] for name in ("type", "blob", "user_id", "project_id")}
