"""``openstack share ...``: every subcommand that the client has, in a story that has meaning."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from lab.site import Site
from tests.daemon.keystone import Keystone, keystone  # noqa: F401 - a fixture
from tests.daemon.manila_clients import Clients, clients, serving
from tests.daemon.postgresql import postgresql, url  # noqa: F401 - fixtures

pytestmark = pytest.mark.timeout(300)

SPEC = "driver_handles_share_servers"
REFUSED = (
    # what cannot exist here: the command line, and words of its refusal
    ("share replica create s1", "replication disabled"),
    ("share snapshot access create snap1 ip 10.0.0.1", "does not support mounting its snapshots"),
    ("share snapshot access delete snap1 00000000-0000-4000-8000-000000000000", "snapshot"),
    ("share snapshot export location show snap1 00000000-0000-4000-8000-000000000000", "cannot find"),
    ("share replica show 00000000-0000-4000-8000-000000000000", "cannot find share replica"),
    ("share server show 00000000-0000-4000-8000-000000000000", "o shareserver with a name or ID"),
)  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
async def place(
    request: pytest.FixtureRequest,
    keystone: Keystone,  # noqa: F811
    tmp_path: Path,
) -> AsyncIterator[tuple[Site, Clients, str]]:
    database = request.getfixturevalue("url") if request.param == "postgresql" else ""
    async with serving(tmp_path, keystone, database) as (site, cafile, guest):
        with clients(keystone, cafile) as runner:
            yield site, runner, guest


def shares_and_rules(osc: Clients, guest: str) -> None:
    made = osc.json("share create NFS 1 --name s1 --property color=blue --wait")
    assert (made["name"], made["size"], made["status"]) == ("s1", 1, "available")
    assert [one["Name"] for one in osc.json("share list")] == ["s1"]
    assert osc.json("share list --property color=red") == []
    shown = osc.json("share show s1")
    assert (shown["share_type_name"], shown["availability_zone"], shown["progress"]) == ("default", "nova", "100%")
    osc.run(
        "share set s1 --description words --property a=b", rc=1
    )  # it resets the task state too, which tenants may not
    osc.admin(f"share set {made['id']} --description words --property a=b")
    assert "'a': 'b'" in str(osc.json("share properties show s1")) or "b" in str(osc.json("share properties show s1"))
    osc.run("share unset s1 --property a --description")
    assert "words" not in osc.run("share show s1").out
    osc.run("share resize s1 2 --wait")
    assert osc.json("share show s1")["size"] == 2
    osc.run("share resize s1 1 --wait")
    assert osc.json("share show s1")["size"] == 1

    rule = osc.json("share access create s1 user webserver --access-level rw --wait")
    assert (rule["access_to"], rule["state"]) == (guest, "active")
    assert osc.json(f"share access show {rule['id']}")["access_level"] == "rw"
    osc.run(f"share access set {rule['id']} --property why=test")
    assert "test" in osc.run(f"share access show {rule['id']}").out
    osc.run(f"share access unset {rule['id']} --property why")
    assert [one["ID"] for one in osc.json("share access list s1")] == [rule["id"]]
    (where,) = osc.json("share export location list s1")
    assert where["Path"] == f"169.254.77.2:/{made['id']}"
    osc.run(f"share export location set s1 {where['ID']} --property use=it")
    assert osc.json(f"share export location show s1 {where['ID']}")["path"] == where["Path"]
    osc.run(f"share export location unset s1 {where['ID']} --property use")
    osc.run(f"share access delete s1 {rule['id']} --wait")
    assert osc.json("share access list s1") == []


def snapshots(osc: Clients) -> None:
    taken = osc.json("share snapshot create s1 --name snap1 --wait")
    assert taken["size"] == 1
    assert [one["Name"] for one in osc.json("share snapshot list")] == ["snap1"]
    osc.run("share snapshot set snap1 --name snap1 --description d --property k=v")
    assert osc.json("share snapshot show snap1")["description"] == "d"
    osc.run("share snapshot unset snap1 --description --property k")
    assert osc.json("share snapshot access list snap1") == []
    assert osc.json("share snapshot export location list snap1") == []
    osc.run("share revert snap1 --wait")
    assert osc.json("share create NFS 1 --name s2 --snapshot snap1 --wait")["status"] == "available"
    osc.run("share delete s2 --wait")
    (instance,) = osc.admin("share snapshot instance list -f json").data
    key = instance["ID"]
    assert osc.admin(f"share snapshot instance show {key} -f json").data["snapshot_id"] == taken["id"]
    osc.admin(f"share snapshot instance set {key} --status available")
    assert osc.admin(f"share snapshot instance export location list {key} -f json").data == []
    osc.admin(f"share snapshot instance export location show {key} x", rc=1)


def locks_and_transfers(osc: Clients) -> None:
    lock = osc.json("share lock create s1 share --resource-action delete --lock-reason because")
    assert [one["ID"] for one in osc.json("share lock list")] == [lock["id"]]
    osc.run("share delete s1", rc=1)
    osc.run(f"share lock set {lock['id']} --lock-reason other")
    assert osc.json(f"share lock show {lock['id']}")["Lock Reason"] == "other"
    osc.run(f"share lock unset {lock['id']} --lock-reason")
    osc.run(f"share lock delete {lock['id']}")

    osc.run("share create NFS 1 --name gift --wait")
    offer = osc.json("share transfer create gift --name t1")
    assert [one["ID"] for one in osc.json("share transfer list")] == [offer["id"]]
    assert osc.json(f"share transfer show {offer['id']}")["name"] == "t1"
    osc.run(f"share transfer delete {offer['id']}")
    offer = osc.json("share transfer create gift")
    theirs: dict[str, Any] = {"user": "member-of-other", "project": "other"}
    osc.run(f"share transfer accept {offer['id']} {offer['auth_key']}", **theirs)
    osc.run("share show gift", rc=1)
    assert [one["Name"] for one in osc.json("share list", **theirs)] == ["gift"]
    osc.run("share delete gift --wait", **theirs)


def types_and_quotas(osc: Clients, acme: str) -> None:
    kind = osc.admin("share type create gold false --snapshot-support true --public false -f json").data
    osc.admin("share type set gold --extra-specs isthmus:filesystem=xfs")
    assert "xfs" in osc.admin("share type show gold").out
    osc.admin("share type unset gold isthmus:filesystem")
    assert "gold" not in osc.run("share type list").out
    osc.admin(f"share type access create gold {acme}")
    assert acme in osc.admin("share type access list gold").out
    assert "gold" in osc.run("share type list").out
    osc.admin(f"share type access delete gold {acme}")
    osc.admin("share type delete gold")
    assert kind["name"] == "gold"

    osc.admin(f"share quota set {acme} --shares 1 --gigabytes 100")
    osc.run("share create NFS 1 --name more", rc=1)
    shown = osc.admin(f"share quota show {acme} --detail -f json").data
    assert "'limit': 1" in str(shown) or '"limit": 1' in str(shown) or "1" in str(shown["shares"])
    limits = {one["Name"]: one["Value"] for one in osc.json("share limits show --absolute")}
    assert (limits["maxTotalShares"], limits["totalSharesUsed"]) == (1, 1)
    osc.admin(f"share quota delete {acme}")
    assert "error state" in osc.run("share create NFS 1000000 --name big --wait").err
    (told, *_) = osc.json("share message list")
    assert "cannot find a pool" in osc.run(f"share message show {told['ID']}").out
    osc.run(f"share message delete {told['ID']}")
    osc.run("share delete big --wait")


def machinery(osc: Clients, host: str) -> None:
    assert [one["Name"] for one in osc.json("share availability zone list")] == ["nova"]
    services = osc.admin("share service list -f json").data
    assert {one["Binary"] for one in services} == {"manila-share", "manila-scheduler", "manila-data"}
    osc.admin(f"share service set {host}@local manila-share --disable --disable-reason cleaning")
    assert "error state" in osc.run("share create NFS 1 --name nowhere --wait").err
    osc.run("share delete nowhere --wait")
    osc.admin(f"share service set {host}@local manila-share --enable")
    osc.admin(f"share service ensure shares {host}@local")
    (pool,) = osc.admin("share pool list --detail -f json").data
    assert pool["Name"] == f"{host}@local#pool"
    key = osc.json("share show s1")["id"]
    assert key in [one["ID"] for one in osc.admin("share instance list -f json").data]
    assert osc.admin(f"share instance show {key} -f json").data["share_id"] == key
    (where,) = osc.admin(f"share instance export location list {key} -f json").data
    osc.admin(f"share instance export location show {key} {where['ID']}")
    osc.admin(f"share instance set {key} --status available")
    assert osc.admin("share server list -f json").data == []
    assert osc.json("share replica list") == []
    assert osc.json("share backup list") == []


def groups(osc: Clients, acme: str) -> None:
    osc.admin("share group type create gt default --group-specs a=b --public false")
    osc.admin("share group type set gt --group-specs c=d")
    assert "c" in osc.admin("share group type show gt").out
    osc.admin("share group type unset gt c")
    osc.admin(f"share group type access create gt {acme}")
    assert acme in osc.admin("share group type access list gt").out
    assert "gt" in osc.run("share group type list").out
    osc.run("share group create --name g1 --share-group-type gt --share-types default --wait")
    osc.run("share group set g1 --description d")
    assert osc.json("share group show g1")["description"] == "d"
    osc.run("share group unset g1 --description")
    assert [one["Name"] for one in osc.json("share group list")] == ["g1"]
    osc.run("share create NFS 1 --name member --share-group g1 --wait")
    osc.run("share group snapshot create g1 --name gs1 --wait")
    osc.run("share group snapshot set gs1 --description d")
    assert osc.json("share group snapshot show gs1")["status"] == "available"
    osc.run("share group snapshot unset gs1 --description")
    assert [one["Name"] for one in osc.json("share group snapshot list")] == ["gs1"]
    assert len(osc.json("share group snapshot members list gs1")) == 1
    osc.run("share group snapshot delete gs1 --wait")
    osc.run("share delete member --share-group g1 --wait")
    osc.run("share group delete g1 --wait")
    osc.admin(f"share group type access delete gt {acme}")
    osc.admin("share group type delete gt")


def records(osc: Clients) -> None:
    osc.run("share security service create active_directory --name ad --domain d.example --user u --password hidden")
    osc.run("share security service set ad --dns-ip 192.0.2.53")
    assert osc.json("share security service show ad")["password"] == "hidden"  # noqa: S105 - a test's own
    osc.run("share security service unset ad --dns-ip")
    assert [one["Name"] for one in osc.json("share security service list")] == ["ad"]
    osc.run("share network create --name n1")
    osc.run("share network set n1 --description d --new-security-service ad")
    shown = osc.run("share network show n1").out
    assert "ad" in shown
    assert [one["Name"] for one in osc.json("share network list")] == ["n1"]
    osc.run("share network unset n1 --security-service ad --description")
    subnet = osc.json("share network subnet create n1 --availability-zone nova")
    osc.run(f"share network subnet set n1 {subnet['id']} --property a=b")
    assert osc.json(f"share network subnet show n1 {subnet['id']}")["availability_zone"] == "nova"
    osc.run(f"share network subnet unset n1 {subnet['id']} --property a")
    osc.run(f"share network subnet delete n1 {subnet['id']}")
    osc.run("share network delete n1")
    osc.run("share security service delete ad")
    osc.admin("share qos type create fast --spec iops=1000")
    osc.admin("share qos type set fast --spec iops=2000")
    assert "2000" in osc.admin("share qos type show fast").out
    osc.admin("share qos type unset fast --spec iops")
    assert "fast" in osc.admin("share qos type list").out
    osc.admin("share qos type delete fast")


def migrations(osc: Clients, host: str) -> None:
    made = osc.json("share create NFS 1 --name mover --wait")["id"]
    where = osc.admin(f"share show {made} -f json").data["host"]
    there = f"{host}@local#{'archive' if where.endswith('#pool') else 'pool'}"
    plain = "--preserve-metadata True --preserve-snapshots False --writable True --nondisruptive False"
    start = f"share migration start {made} {there} {plain} --force-host-assisted-migration True"
    osc.admin(start)
    assert osc.json("share show mover")["status"] == "migrating"
    osc.admin(f"share migration cancel {made}")
    until(lambda: osc.json("share show mover")["status"] == "available")
    osc.admin(start)
    until(lambda: osc.admin(f"share migration show {made} -f json").data["total_progress"] == 100)
    osc.admin(f"share migration complete {made}")
    until(lambda: osc.json("share show mover")["status"] == "available")
    assert osc.admin(f"share show {made} -f json").data["host"] == there
    osc.run("share delete mover --wait")


def backups(osc: Clients) -> None:
    osc.run("share create NFS 1 --name kept --wait")
    made = osc.json("share backup create kept --name b1")
    until(lambda: osc.json("share backup show b1")["status"] == "available")
    assert [one["ID"] for one in osc.json("share backup list")] == [made["id"]]
    osc.run("share backup set b1 --description d")
    assert osc.json("share backup show b1")["description"] == "d"
    osc.run("share backup unset b1 --description")
    osc.run("share backup restore b1")
    until(lambda: osc.json("share show kept")["status"] == "available")
    osc.run("share backup delete b1 --wait")
    osc.run("share delete kept --wait")


def adoptions(osc: Clients, host: str, acme: str) -> None:
    made = osc.json("share create NFS 1 --name lost --wait")["id"]
    where = osc.admin(f"share show {made} -f json").data["host"]
    taken = osc.json("share snapshot create lost --name moment --wait")["id"]
    osc.admin(f"share snapshot abandon {taken}")
    osc.admin(f"share abandon {made}")
    until(lambda: osc.json("share list --name lost") == [])
    osc.admin(f"share adopt {where} NFS /srv/{made} --name found --driver-options project_id={acme}")
    until(lambda: osc.json("share show found")["status"] == "available")
    assert osc.json("share show found")["id"] == made
    osc.admin(f"share snapshot adopt {made} {taken} --name again")
    until(lambda: osc.json("share snapshot show again")["status"] == "available")
    osc.run("share snapshot delete again --wait")
    osc.run("share delete found --wait")


def until(there: Callable[[], bool]) -> None:
    """Wait until it is so."""
    ends = time.monotonic() + 30
    while not there():
        assert time.monotonic() < ends, "it never came so far"
        time.sleep(0.2)


def endings(osc: Clients) -> None:
    for line, words in REFUSED:
        answer = osc.admin(line, rc=1) if line.startswith("share server") else osc.run(line, rc=1)
        assert words in answer.err + answer.out, (line, answer)
    osc.run("share snapshot delete snap1 --wait")
    key = osc.json("share show s1")["id"]
    osc.run("share delete s1 --soft")
    assert [one["Name"] for one in osc.json("share list --soft-deleted")] == ["s1"]
    osc.run(f"share restore {key}")
    osc.run("share snapshot create s1 --name snap2 --wait")
    taken = osc.json("share snapshot show snap2")["id"]
    osc.admin(f"share snapshot abandon {taken}")
    assert osc.json("share snapshot list") == []
    osc.admin(f"share instance delete {key}")
    osc.run("share create NFS 1 --name s3 --wait")
    osc.admin(f"share abandon {osc.json('share show s3')['id']}")
    assert osc.json("share list") == []


NOT_RUN = {
    "share replica delete": "there is no replica to delete",
    "share replica promote": "there is no replica to promote",
    "share replica resync": "there is no replica to synchronize",
    "share replica set": "there is no replica to change",
    "share replica unset": "there is no replica to change",
    "share replica export location list": "there is no replica to find",
    "share replica export location show": "there is no replica to find",
    "share server abandon": "no pool makes share servers",
    "share server adopt": "no pool makes share servers",
    "share server delete": "no pool makes share servers",
    "share server set": "no pool makes share servers",
    "share server migration cancel": "no pool makes share servers",
    "share server migration complete": "no pool makes share servers",
    "share server migration show": "no pool makes share servers",
    "share server migration start": "no pool makes share servers",
}
INSTALLED = """
from importlib.metadata import entry_points
result = sorted({one.name.replace("_", " ") for one in entry_points(group="openstack.share.v2")})
"""


def table(installed: list[str]) -> str:
    """The page of the reference that says what of the client works here."""
    refused = {max((name for name in installed if line.startswith(name)), key=len): words for line, words in REFUSED}
    lines = [
        "# `openstack share`: what works here",
        "",
        "Each subcommand of python-manilaclient, as the test `tests/daemon/test_manila_osc.py` runs it against a",
        "service with a local pool, on SQLite and on PostgreSQL. The test fails while this page says",
        "something else than what ran.",
        "",
        "| command | here |",
        "|---|---|",
    ]
    for name in installed:
        here = NOT_RUN.get(name) or (f"answered with a refusal: {refused[name]}" if name in refused else "works")
        lines.append(f"| `{name}` | {here} |")
    return "\n".join(lines) + "\n"


PAGE = Path(__file__).parents[2] / "docs" / "reference" / "manila-commands.md"


async def test_openstack_share(place: tuple[Site, Clients, str]) -> None:
    """The whole story, then: no command of the client is missing from it without a reason."""
    site, osc, guest = place
    acme = osc.keystone.ids["acme"]
    shares_and_rules(osc, guest)
    snapshots(osc)
    locks_and_transfers(osc)
    types_and_quotas(osc, acme)
    machinery(osc, site.prefix)
    groups(osc, acme)
    records(osc)
    await site.pool("archive", overcommit=1000.0)
    await site.call("PATCH", "pools/pool", {"backups": "archive"})
    await site.call("PATCH", "pools/archive", {"backups": "pool"})
    migrations(osc, site.prefix)
    backups(osc)
    adoptions(osc, site.prefix, acme)
    endings(osc)
    installed = osc.code(INSTALLED)
    ran = {max((name for name in installed if f"{line} ".startswith(f"{name} ")), key=len) for line, _ in osc.ran}
    assert sorted(set(installed) - ran - set(NOT_RUN)) == []
    assert ran & set(NOT_RUN) == set()
    assert PAGE.read_text() == table(installed)
