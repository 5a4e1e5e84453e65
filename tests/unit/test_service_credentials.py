"""Grants in Keystone's credential store, among credentials that others write there as they like."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isthmus.model.desired import Desired
from isthmus.model.errors import Unavailable
from isthmus.model.names import AttachmentId
from isthmus.pki.request import make_request, new_key, read_request
from isthmus.service.credentials import CredentialKeeper
from isthmus.service.domain.attachments import detach
from isthmus.service.service import Service
from isthmus.store import Store
from isthmus.store.rows import AttachmentRow, GrantRow
from tests import service_kit as kit
from tests.fakes.authority import WEEK, authority, grant_for, utc_now
from tests.fakes.keystone import FakeKeystone, keystone_at
from tests.service_kit import HOST, PROJECT

ALICE, BOB = "a1" * 16, "b0" * 32


@pytest.fixture
def keystone(tmp_path: Path) -> Iterator[FakeKeystone]:
    with keystone_at(tmp_path) as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = kit.opened(tmp_path)
    kit.equip(store)
    yield store
    store.close()


@pytest.fixture
async def service(store: Store) -> Any:
    made = Service(store, signer=authority())
    yield made
    await made.close()


@pytest.fixture
def keeper(service: Service, keystone: FakeKeystone) -> CredentialKeeper:
    return CredentialKeeper(service, keystone.config)


async def granted(service: Service, store: Store, user: str) -> AttachmentRow:
    """An attachment of the user's, with a grant."""
    attachment = kit.given(store, kit.made(store), user=user)
    await again(service, attachment)
    return attachment


async def again(service: Service, attachment: AttachmentRow) -> None:
    assert await service.sign(HOST, {AttachmentId(attachment.id): make_request(new_key())}) == {}


def grants(store: Store) -> dict[str, GrantRow]:
    with store.read() as tx:
        return {row.attachment: row for row in tx.all(GrantRow, ended_at=None)}


def kept(keystone: FakeKeystone) -> dict[str, str]:
    """The users of credentials, by the attachment that their grants are for."""
    blobs = ((json.loads(one["blob"]), one["user_id"]) for one in keystone.credentials.values())
    return {blob["isthmus"]["attachment"]: user for blob, user in blobs}


async def test_there_is_one_for_each_grant_of_a_user_of_keystone_s(
    service: Service, store: Store, keystone: FakeKeystone, keeper: CredentialKeeper
) -> None:
    one, two, _ = [await granted(service, store, user) for user in (ALICE, BOB, "root")]
    await keeper.settle()
    assert kept(keystone) == {one.id: ALICE, two.id: BOB}
    for attachment in (one, two):
        grant = grants(store)[attachment.id]
        credential = keystone.credentials[grant.credential]
        blob = json.loads(credential["blob"])
        assert ssl.PEM_cert_to_DER_cert(blob["certificate"]) == grant.certificate
        assert (blob["isthmus"]["serial"], blob["isthmus"]["share"]) == (grant.serial, attachment.share)
        assert (credential["type"], credential["project_id"]) == ("cert", PROJECT)
    before = dict(keystone.credentials)
    await keeper.settle()
    assert keystone.credentials == before

    await again(service, one)
    with store.write() as tx:
        detach(tx, two.id)
    await keeper.settle()
    assert kept(keystone) == {one.id: ALICE}
    assert not keystone.credentials.keys() & before.keys()


async def test_noting_where_a_grant_is_kept_is_no_change_of_it(
    service: Service, store: Store, keeper: CredentialKeeper
) -> None:
    attachment = await granted(service, store, ALICE)
    before = grants(store)[attachment.id]
    await keeper.settle()
    after = grants(store)[attachment.id]
    assert after.credential
    assert replace(after, credential="") == before


async def test_it_is_looked_at_when_grants_change(
    service: Service, store: Store, keystone: FakeKeystone, keeper: CredentialKeeper
) -> None:
    assert await keeper.changed(), "what is there was never seen"
    attachment = await granted(service, store, ALICE)
    await keeper.settle()
    assert not await keeper.changed()
    await again(service, attachment)
    assert await keeper.changed()
    keystone.may = False
    with pytest.raises(Unavailable, match="give the service's user the role admin"):
        await keeper.settle()
    assert await keeper.changed(), "what failed is not settled"
    keystone.may = True
    await keeper.settle()
    assert not await keeper.changed()


async def test_what_a_crash_left_is_found_again(
    service: Service, store: Store, keystone: FakeKeystone, keeper: CredentialKeeper
) -> None:
    attachment = await granted(service, store, ALICE)
    await keeper.settle()
    grant = grants(store)[attachment.id]
    with store.write() as tx:
        tx.measure(tx.need(GrantRow, grant.serial), credential="")
    twin = {**keystone.credentials[grant.credential], "id": "f" * 32}
    keystone.credentials[twin["id"]] = twin
    await keeper.settle()
    assert kept(keystone) == {attachment.id: ALICE}
    assert list(keystone.credentials) == [grants(store)[attachment.id].credential]


@pytest.mark.parametrize(
    "blob",
    [
        "somebody's",
        "7",
        "null",
        "[" * 100_000,
        '{"isthmus": {"serial": []}}',
        '{"isthmus": {"serial": {}}, "certificate": 7}',
        '{"isthmus": [], "certificate": "-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n"}',
        json.dumps({"isthmus": {}, "certificate": ssl.DER_cert_to_PEM_cert(authority().roots[0])}),
    ],
)
async def test_what_others_wrote_stays_and_stops_nothing(
    service: Service, store: Store, keystone: FakeKeystone, keeper: CredentialKeeper, blob: str
) -> None:
    foreign = {"id": "f" * 32, "user_id": BOB, "project_id": PROJECT, "type": "cert", "blob": blob}
    keystone.credentials["f" * 32] = foreign
    await granted(service, store, ALICE)
    await keeper.settle()
    assert keystone.credentials.pop("f" * 32) == foreign
    assert len(keystone.credentials) == 1


async def test_who_claims_another_s_grant_displaces_nothing(
    service: Service, store: Store, keystone: FakeKeystone, keeper: CredentialKeeper
) -> None:
    attachment = await granted(service, store, ALICE)
    await keeper.settle()
    name = grants(store)[attachment.id].credential
    true = keystone.credentials[name]
    serial = {"serial": grants(store)[attachment.id].serial}
    claims = {
        "0" * 32: {**true, "user_id": BOB},
        "1" * 32: {**true, "blob": json.dumps({**json.loads(true["blob"]), "isthmus": serial})},
        "2" * 32: {**true, "blob": json.dumps({"isthmus": serial}), "user_id": BOB},
    }
    keystone.credentials |= {key: {**claim, "id": key} for key, claim in claims.items()}
    await keeper.settle()
    assert set(keystone.credentials) == {name, "2" * 32}, "copies of the grant go; what holds none is nobody's business"
    assert grants(store)[attachment.id].credential == name

    keystone.credentials[name] = {**true, "blob": '{"mine": "now"}'}
    await keeper.settle()
    assert true in [{**one, "id": name} for one in keystone.credentials.values()], "what its user broke is there again"


async def test_another_service_s_grants_stay_until_they_end(
    service: Service, store: Store, keystone: FakeKeystone, keeper: CredentialKeeper
) -> None:
    attachment = await granted(service, store, ALICE)
    await keeper.settle()
    own = set(keystone.credentials)
    document: Desired = kit.desired(store)
    grant = grant_for(document, document.attachments[0], 1)
    key = read_request(make_request(new_key()))
    for name, days in (("live", 1), ("over", 10)):
        other = authority("another root", days_ago=20)
        der = other.sign_grant(grant, key, now=utc_now() - WEEK / 7 * days, lifetime=WEEK)
        blob = json.dumps({"isthmus": {"serial": "12"}, "certificate": ssl.DER_cert_to_PEM_cert(der)})
        keystone.credentials[name] = {
            "id": name, "user_id": ALICE, "project_id": PROJECT, "type": "cert", "blob": blob,
        }  # fmt: skip
    await keeper.settle()
    assert set(keystone.credentials) == own | {"live"}
    assert attachment.id in grants(store)


async def test_one_that_keystone_does_not_want_holds_no_other_up(
    service: Service,
    store: Store,
    keystone: FakeKeystone,
    keeper: CredentialKeeper,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, two = [await granted(service, store, user) for user in (ALICE, BOB)]
    keystone.refuses = lambda credential: 403 if credential["user_id"] == ALICE else 0
    await keeper.settle()
    assert kept(keystone) == {two.id: BOB}
    assert f"cannot keep grant {grants(store)[one.id].serial}" in caplog.text
    assert not await keeper.changed(), "it is asked again when something changes, or at the next round"
    keystone.refuses = lambda _: 500
    await again(service, two)
    with pytest.raises(Unavailable, match="POST is answered by 500"):
        await keeper.settle()
    keystone.refuses = lambda _: 0
    await keeper.settle()
    assert kept(keystone) == {one.id: ALICE, two.id: BOB}


async def test_a_list_that_is_cut_short_makes_no_twins(
    service: Service, store: Store, keystone: FakeKeystone, keeper: CredentialKeeper
) -> None:
    shares = [await granted(service, store, user) for user in (ALICE, BOB, ALICE)]
    await keeper.settle()
    before = dict(keystone.credentials)
    keystone.most = 2
    await keeper.settle()
    assert keystone.credentials == before
    with store.write() as tx:
        detach(tx, shares[1].id)
    await keeper.settle()
    assert kept(keystone) == {shares[0].id: ALICE, shares[2].id: ALICE}
