"""What the Shared File Systems API means: rules and attachments, the scheduler, quotas, locks, transfers, versions."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from isthmus.model.attachment import Access
from isthmus.model.names import new_id
from isthmus.model.status import AttachmentStatus
from isthmus.service.chores import is_due, run_due
from isthmus.service.domain import scheduler
from isthmus.service.domain.guests import register_guest, remove_guest, update_guest
from isthmus.service.domain.hosts import register_host
from isthmus.service.domain.pools import register_pool
from isthmus.service.domain.types import DHSS
from isthmus.store import Store
from isthmus.store.rows import AttachmentRow, HostRow
from isthmus.wire.manila import version
from tests import service_kit as kit
from tests.api_kit import as_caller
from tests.manila_kit import GATEWAY, Client, manila_over


class Clock:
    """Real time, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead = datetime.timedelta()

    def __call__(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC) + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    store = kit.opened(tmp_path, now=clock)
    kit.equip(store, overcommit=100.0)
    yield store
    store.close()


@pytest.fixture
async def client(store: Store) -> AsyncIterator[Client]:
    async with manila_over(store) as made:
        yield made


async def test_an_operator_of_all_names_the_owner_in_the_url(client: Client, store: Store) -> None:
    body = {"share": {"share_proto": "NFS", "size": 1}}
    assert "/v2/PROJECT" in await client.refused(400, "POST", "/shares", body, caller="operator")
    made = await client.do("POST", "/acme/shares", body, caller="operator")
    assert made["share"]["project_id"] == "acme"
    await client.refused(400, "POST", "/acme/shares", body, caller="other project")


async def available(client: Client, store: Store, **wanted: Any) -> str:
    """The id of a share that is there."""
    made = await client.share(**wanted)
    kit.all_well(store)
    return str(made["id"])


def attached(store: Store) -> dict[str, tuple[str, Access, str]]:
    """Attachments: place, access and status by guest."""
    with store.read() as tx:
        return {row.guest: (row.place, row.access, str(row.status)) for row in tx.all(AttachmentRow)}


async def allow(client: Client, share: str, kind: str, to: str, level: str = "rw", **more: Any) -> Any:
    body = {"allow_access": {"access_type": kind, "access_to": to, "access_level": level, **more}}
    return (await client.do("POST", f"/shares/{share}/action", body))["access"]


async def deny(client: Client, share: str, rule: str, **more: Any) -> Any:
    return await client.do("POST", f"/shares/{share}/action", {"deny_access": {"access_id": rule, **more}})


def another_guest(store: Store, *, project: str = "acme", **more: Any) -> str:
    key = new_id()
    with store.write() as tx:
        register_guest(tx, guest_id=key, project=project, host=kit.HOST, **more)
    return key


# -- access rules ------------------------------------------------------------------------------------------------------


async def test_a_user_rule_is_an_attachment_of_the_same_id(client: Client, store: Store) -> None:
    share = await available(client, store)
    rule = await allow(client, share, "user", kit.GUEST, "ro")
    assert rule["state"] == "applying"
    assert attached(store) == {kit.GUEST: (f"/{share}", Access.RO, "attaching")}
    with store.read() as tx:
        assert tx.need(AttachmentRow, rule["id"]).rule == rule["id"]
    kit.all_well(store)
    assert (await client.get(f"/share-access-rules/{rule['id']}"))["access"]["state"] == "active"
    (where,) = (await client.get(f"/shares/{share}/export_locations"))["export_locations"]
    assert where["path"] == f"{GATEWAY}:/{share}"
    await deny(client, share, rule["id"])
    assert (await client.get(f"/share-access-rules/{rule['id']}"))["access"]["state"] == "denying"
    kit.all_well(store)
    await client.refused(404, "GET", f"/share-access-rules/{rule['id']}")
    assert attached(store) == {}


async def test_an_ip_rule_chooses_guests_of_its_project_as_they_come_and_go(client: Client, store: Store) -> None:
    share = await available(client, store)
    rule = await allow(client, share, "ip", "192.0.2.0/24")
    assert rule["state"] == "active", "nobody has such an address yet"
    inside = another_guest(store, addresses=["192.0.2.7"])
    another_guest(store, project="other", addresses=["192.0.2.8"])
    another_guest(store, addresses=["198.51.100.1"])
    assert set(attached(store)) == {inside}
    kit.all_well(store)
    with store.write() as tx:
        update_guest(tx, inside, addresses=["198.51.100.2"])
    assert attached(store)[inside][2] == "detaching"
    kit.all_well(store)
    with store.write() as tx:
        update_guest(tx, inside, addresses=["192.0.2.9"])
    kit.all_well(store)
    assert attached(store)[inside][2] == "attached"
    with store.write() as tx:
        remove_guest(tx, inside)
    assert attached(store) == {}


async def test_of_several_rules_for_a_guest_read_write_wins(client: Client, store: Store) -> None:
    share = await available(client, store)
    everybody = await allow(client, share, "ip", "0.0.0.0/0", "ro")
    kit.all_well(store)
    assert attached(store)[kit.GUEST][1] is Access.RO
    one = await allow(client, share, "user", kit.GUEST, "rw")
    assert attached(store)[kit.GUEST][1:] == (Access.RW, "attaching"), "it needs another grant"
    kit.all_well(store)
    await deny(client, share, one["id"])
    kit.all_well(store)
    assert attached(store)[kit.GUEST][1] is Access.RO
    body = {"update_access": {"access_level": "rw"}}
    await client.do("PUT", f"/share-access-rules/{everybody['id']}", body)
    assert attached(store)[kit.GUEST][1] is Access.RW


async def test_a_rule_grants_no_more_than_the_owner_may(client: Client, store: Store) -> None:
    share = await available(client, store, is_public=True)
    theirs = another_guest(store, project="other")
    told = await client.refused(400, "POST", f"/shares/{share}/action", _rule("user", theirs))
    assert "has no guest of this id or name" in told
    for caller in ("other project", "reader"):
        status = 404 if caller == "other project" else 403
        await client.refused(status, "POST", f"/shares/{share}/action", _rule("ip", "0.0.0.0/0"), caller=caller)
    assert (await client.get(f"/share-access-rules?share_id={share}", caller="other project"))["access_list"] == []


def _rule(kind: str, to: str) -> Any:
    return {"allow_access": {"access_type": kind, "access_to": to}}


@pytest.mark.parametrize(
    ("kind", "to"),
    [("cert", "name"), ("cephx", "nova"), ("ip", "nonsense"), ("ip", "300.0.0.1"), ("user", "nobody"), ("x", "y")],
)
async def test_what_no_rule_can_be(client: Client, store: Store, kind: str, to: str) -> None:
    share = await available(client, store)
    await client.refused(400, "POST", f"/shares/{share}/action", _rule(kind, to))
    assert attached(store) == {}


async def test_what_was_attached_by_itself_shows_as_a_rule(client: Client, store: Store) -> None:
    share = kit.made(store)
    given = kit.given(store, share, at="/data")
    (rule,) = (await client.get(f"/share-access-rules?share_id={share.id}"))["access_list"]
    assert (rule["id"], rule["access_type"], rule["access_to"]) == (given.id, "user", kit.GUEST)
    places = (await client.get(f"/shares/{share.id}/export_locations"))["export_locations"]
    assert [one["path"] for one in places] == [f"{GATEWAY}:/{share.id}", f"{GATEWAY}:/data"]
    await deny(client, share.id, given.id)
    assert attached(store)[kit.GUEST][2] == AttachmentStatus.DETACHING


async def test_nova_locks_what_it_attaches(client: Client, store: Store) -> None:
    """The order of calls of compute API 2.97."""
    share = await available(client, store)
    locks: dict[str, Any] = {"lock_visibility": True, "lock_deletion": True, "lock_reason": "attached to a server"}
    rule = await allow(client, share, "ip", "192.0.2.1", **locks)
    assert (await client.get(f"/share-access-rules/{rule['id']}"))["access"]["access_to"] == "192.0.2.1"
    await client.refused(403, "DELETE", f"/shares/{share}")
    body = {"deny_access": {"access_id": rule["id"]}}
    await client.refused(403, "POST", f"/shares/{share}/action", body)
    seen = (await client.get(f"/share-access-rules/{rule['id']}", caller="reader"))["access"]
    assert seen["access_to"] == "******"
    await deny(client, share, rule["id"], unrestrict=True)
    kit.all_well(store)
    assert (await client.get("/resource-locks"))["resource_locks"] == []
    await client.do("DELETE", f"/shares/{share}")


# -- the scheduler -----------------------------------------------------------------------------------------------------


def more_pools(store: Store) -> None:
    """Pools p2 on the same host, and p3 on a host of zone z2."""
    with store.write() as tx:
        register_host(tx, "h2", "z2")
        register_pool(tx, name="p2", host=kit.HOST, path="/srv/p2", overcommit=1.0)
        register_pool(tx, name="p3", host="h2", path="/srv/p3", overcommit=100.0)
    kit.report(store, pools={kit.POOL: kit.ABLE, "p2": kit.ABLE})
    with store.read() as tx:
        revision = tx.revision
    kit.report(store, host="h2", pools={"p3": kit.ABLE}, revision=revision)


async def test_a_share_goes_where_it_is_wanted(client: Client, store: Store) -> None:
    more_pools(store)
    zoned = await client.share(availability_zone="z2")
    hosts = {}
    for name, hints in (
        ("apart", {"different_host": zoned["id"]}),
        ("beside", {"same_host": zoned["id"]}),
        ("only", {"only_host": "h1@local#p1"}),
    ):
        made = await client.share(name=name, scheduler_hints=hints)
        hosts[name] = (await client.get(f"/shares/{made['id']}", caller="operator"))["share"]["host"]
    assert zoned["availability_zone"] == "z2"
    assert hosts == {"apart": "h1@local#p1", "beside": "h2@local#p3", "only": "h1@local#p1"}


async def test_a_share_that_no_pool_takes_says_why_of_each(client: Client, store: Store) -> None:
    more_pools(store)
    with store.write() as tx:
        tx.change(tx.need(HostRow, "h2"), disabled=True, disabled_reason="cleaning")
    made = await client.share(size=200)
    assert (made["status"], made["availability_zone"]) == ("error", None)
    (message,) = (await client.get(f"/messages?resource_id={made['id']}"))["messages"]
    assert message["user_message"] == (
        "allocate host: cannot find a pool for the share: p1: it may promise 97.7 GiB more, not 200.0; "
        "p2: it may promise 1.0 GiB more, not 200.0; p3: its service is disabled: cleaning"
    )
    assert kit.desired(store).shares == ()
    await client.do("DELETE", f"/shares/{made['id']}")
    await client.refused(404, "GET", f"/shares/{made['id']}")


@pytest.mark.parametrize(
    ("offered", "wanted", "fits"),
    [
        (True, "<is> True", True),
        (True, "False", False),
        (["btrfs", "xfs"], "<in> xfs", True),
        ("a", "<or> b <or> a", True),
        (5.5, ">= 5", True),
        (5.5, "> 6", False),
        ("x", "s== y", False),
        ("x", ">= 1", False),
        (0, "", False),
    ],
)
def test_extra_specs_have_operators(offered: object, wanted: str, fits: bool) -> None:
    assert scheduler.satisfies(offered, wanted) is fits


async def test_a_type_asks_for_capabilities(client: Client, store: Store) -> None:
    async def made_of(name: str, **specs: str) -> str:
        body = {"share_type": {"name": name, "extra_specs": {DHSS: "False", **specs}}}
        await client.do("POST", "/types", body, caller="operator")
        return str((await client.share(share_type=name))["status"])

    assert await made_of("here", share_backend_name="local", pool_name="p1") == "creating"
    assert await made_of("elsewhere", share_backend_name="netapp") == "error"
    assert await made_of("copied", replication_type="dr") == "error"
    assert await made_of("served", mount_snapshot_support="True") == "error"
    told = await client.refused(
        400, "POST", "/types", {"share_type": {"name": "vm", "extra_specs": {DHSS: "True"}}}, caller="operator"
    )
    assert "makes servers of its own" in told


# -- quotas, locks, transfers, the recycle bin -------------------------------------------------------------------------


async def test_quotas_hold_for_project_user_and_type(client: Client, store: Store) -> None:
    async def limit(where: str, **most: int) -> None:
        await client.do("PUT", f"/quota-sets/acme{where}", {"quota_set": most}, caller="operator")

    await limit("", gigabytes=5, per_share_gigabytes=3)
    await client.refused(413, "POST", "/shares", {"share": {"share_proto": "NFS", "size": 4}})
    share = await available(client, store, size=3)
    await client.refused(413, "POST", "/shares", {"share": {"share_proto": "NFS", "size": 3}})
    await client.refused(413, "POST", f"/shares/{share}/action", {"extend": {"new_size": 4}})
    await limit("?user_id=member-of-acme", shares=1)
    told = await client.refused(413, "POST", "/shares", {"share": {"share_proto": "NFS", "size": 1}})
    assert "user member-of-acme" in told
    told = await client.refused(400, "PUT", "/quota-sets/acme", {"quota_set": {"shares": 0}}, caller="operator")
    assert "1 are in use" in told
    await client.do("DELETE", "/quota-sets/acme?user_id=member-of-acme", caller="operator")
    await limit("?share_type=default", shares=1)
    assert "share type" in await client.refused(413, "POST", "/shares", {"share": {"share_proto": "NFS", "size": 1}})
    found = (await client.get("/quota-sets/acme/detail"))["quota_set"]
    assert (found["shares"]["in_use"], found["gigabytes"]) == (1, {"limit": 5, "in_use": 3, "reserved": 0})
    await client.refused(403, "GET", "/quota-sets/other")
    await client.refused(403, "PUT", "/quota-sets/acme", {"quota_set": {"shares": 9}})


async def test_a_share_changes_hands_by_its_key_alone(client: Client, store: Store, clock: Clock) -> None:
    share = await available(client, store)
    rule = await allow(client, share, "user", kit.GUEST)
    kit.all_well(store)
    offer = (await client.do("POST", "/share-transfers", {"transfer": {"share_id": share}}))["transfer"]
    path = f"/share-transfers/{offer['id']}/accept"
    other = {"caller": "other project"}
    await client.refused(400, "POST", path, {"accept": {"auth_key": "0" * 32}}, **other)
    await client.refused(409, "POST", path, {"accept": {"auth_key": offer["auth_key"]}}, **other)
    body = {"accept": {"auth_key": offer["auth_key"], "clear_access_rules": True}}
    await client.do("POST", path, body, **other)
    await client.refused(404, "GET", f"/shares/{share}")
    assert (await client.get(f"/shares/{share}", **other))["share"]["project_id"] == "other"
    assert attached(store) == {}
    await client.refused(404, "GET", f"/share-access-rules/{rule['id']}", **other)
    late = (await client.do("POST", "/share-transfers", {"transfer": {"share_id": share}}, **other))["transfer"]
    clock.ahead = datetime.timedelta(minutes=6)
    await client.refused(400, "POST", f"/share-transfers/{late['id']}/accept", _key(late))
    with store.write() as tx:
        run_due(tx)
    assert (await client.get(f"/shares/{share}", **other))["share"]["status"] == "available"


def _key(offer: Any) -> Any:
    return {"accept": {"auth_key": offer["auth_key"]}}


async def test_the_recycle_bin_is_emptied_in_time(client: Client, store: Store, clock: Clock) -> None:
    share = await available(client, store)
    await client.do("POST", f"/shares/{share}/action", {"soft_delete": None})
    await client.refused(403, "POST", f"/shares/{share}/action", {"extend": {"new_size": 2}})
    await client.do("POST", f"/shares/{share}/action", {"restore": None})
    await client.do("POST", f"/shares/{share}/action", {"soft_delete": None})
    with store.read() as tx:
        assert not is_due(tx)
    clock.ahead = datetime.timedelta(days=8)
    with store.read() as tx:
        assert is_due(tx)
    with store.write() as tx:
        run_due(tx)
    kit.all_well(store)
    assert (await client.get("/shares?is_soft_deleted=True"))["shares"] == []


async def test_a_password_of_a_security_service_is_sealed(client: Client, store: Store, tmp_path: Path) -> None:
    body = {"security_service": {"type": "ldap", "name": "d", "password": "correct horse"}}
    made = (await client.do("POST", "/security-services", body))["security_service"]
    assert made["password"] == "correct horse"  # noqa: S105 - a test's own
    written = _all_bytes(tmp_path)
    assert b"security_services" in written
    assert b"correct horse" not in written
    await client.refused(404, "GET", f"/security-services/{made['id']}", caller="other project")


def _all_bytes(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir())


# -- versions and lists ------------------------------------------------------------------------------------------------


async def test_versions_are_negotiated(client: Client, store: Store) -> None:
    root = await client.http.get("/")
    assert root.status_code == 300
    (known,) = root.json()["versions"]
    assert (known["min_version"], known["version"]) == ("2.0", "2.98")
    answer = await client.ask("GET", "/shares", minor=45)
    assert answer.headers["x-openstack-manila-api-version"] == "2.45"
    assert answer.headers["x-openstack-request-id"].startswith("req-")
    await client.refused(406, "GET", "/shares", minor=99)
    for text, status in (("2", 400), ("3.0", 406), ("1.0", 406), ("2.01", 400), ("x", 400), ("latest", 200)):
        answer = await client.http.get("/v2/shares", headers={**as_caller("owner"), version.HEADER: text})
        assert answer.status_code == status, text
    await client.refused(404, "GET", "/share-access-rules?share_id=x", minor=44)
    await client.refused(404, "GET", "/share-groups", minor=40)
    await client.get("/share-groups", minor=40, **{"x-openstack-manila-api-experimental": "true"})
    assert "export_location" not in (await client.share())
    await client.get("/acme/shares")
    await client.refused(400, "GET", "/other/shares")


async def test_pages_neither_overlap_nor_leave_anything_out(client: Client, store: Store) -> None:
    made = [(await client.share(name=f"s{number}"))["id"] for number in range(5)]
    seen: list[str] = []
    page = await client.get("/shares?limit=2&with_count=True")
    while page["shares"]:
        assert page["count"] == 5
        seen += [one["id"] for one in page["shares"]]
        if "shares_links" not in page:
            break
        page = await client.get(page["shares_links"][0]["href"].removeprefix("http://isthmus/v2"))
    assert seen == made[::-1]
    assert [one["name"] for one in (await client.get("/shares?name~=3"))["shares"]] == ["s3"]
    ordered = await client.get("/shares?sort_key=name&sort_dir=asc")
    assert [one["id"] for one in ordered["shares"]] == made
    assert (await client.get("/shares", caller="other project"))["shares"] == []
    assert len((await client.get("/shares?all_tenants=1", caller="operator"))["shares"]) == 5
    await client.refused(400, "GET", "/shares?sort_key=password")
