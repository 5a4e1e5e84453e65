"""openstacksdk's ``shared_file_system`` proxy and python-manilaclient as a library, unmodified."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.daemon.keystone import Keystone, keystone  # noqa: F401 - a fixture
from tests.daemon.manila_clients import Clients, clients, serving

pytestmark = pytest.mark.timeout(180)

SDK = """
import time
import openstack
conn = openstack.connect(load_yaml_config=False, load_envvars=True, shared_file_system_default_microversion="2.82")
sfs = conn.shared_file_system
result = {}
share = sfs.create_share(share_protocol="NFS", size=1, name="sdk")
share = sfs.wait_for_status(share, "available", ["error"], interval=0.2, wait=30)
result["share"] = [share.status, share.size, share.name]
result["found"] = [one.id for one in sfs.shares(name="sdk")] == [share.id]
result["detail"] = [one.share_protocol for one in sfs.shares(details=True)]
result["renamed"] = sfs.update_share(share.id, display_name="sdk2").name
sfs.resize_share(share.id, 2)
for _ in range(100):
    share = sfs.get_share(share.id)
    if share.status == "available":
        break
    time.sleep(0.1)
result["size"] = share.size
result["zones"] = [one.name for one in sfs.availability_zones()]
result["limits"] = len(list(sfs.limits()))
rule = sfs.create_access_rule(share.id, access_type="ip", access_to="192.0.2.0/24", access_level="rw")
for _ in range(100):
    rule = sfs.get_access_rule(rule.id)
    if rule.state == "active":
        break
    time.sleep(0.1)
result["rule"] = [rule.state, rule.access_to, [one.id for one in sfs.access_rules(share.id)] == [rule.id]]
result["exports"] = [one.path.endswith(share.id) for one in sfs.export_locations(share.id)]
sfs.delete_access_rule(rule.id, share.id)
snapshot = sfs.create_share_snapshot(share_id=share.id, name="sdk-snap")
snapshot = sfs.wait_for_status(snapshot, "available", ["error"], interval=0.2, wait=30)
result["snapshots"] = [one.name for one in sfs.share_snapshots()]
for _ in range(100):
    if not list(sfs.access_rules(share.id)):
        break
    time.sleep(0.1)
sfs.revert_share_to_snapshot(share.id, snapshot.id)
sfs.wait_for_status(sfs.get_share(share.id), "available", ["error", "reverting_error"], interval=0.2, wait=30)
sfs.create_share_metadata(share.id, color="blue")
result["metadata"] = sfs.get_share_metadata(share.id).metadata
sfs.delete_share_metadata(share.id, ["color"])
lock = sfs.create_resource_lock(resource_id=share.id, resource_type="share")
result["locks"] = [one.id for one in sfs.resource_locks()] == [lock.id]
sfs.delete_resource_lock(lock.id)
network = sfs.create_share_network(name="sdk-net")
result["networks"] = [one.name for one in sfs.share_networks()]
sfs.delete_share_network(network.id)
result["messages"] = len(list(sfs.user_messages()))
quota = sfs.get_quota_set(conn.current_project_id)
result["quota"] = quota.shares
sfs.delete_share_snapshot(snapshot.id)
sfs.wait_for_delete(snapshot, interval=0.2, wait=30)
sfs.delete_share(share.id)
sfs.wait_for_delete(sfs.get_share(share.id), interval=0.2, wait=30)
result["left"] = [one.name for one in sfs.shares()]
"""

LIBRARY = """
import os
from keystoneauth1 import session
from keystoneauth1.identity import v3
from manilaclient import api_versions, client, exceptions
auth = v3.Password(auth_url=os.environ["OS_AUTH_URL"], username=os.environ["OS_USERNAME"],
                   password=os.environ["OS_PASSWORD"], user_domain_id="default",
                   project_name=os.environ["OS_PROJECT_NAME"], project_domain_id="default")
known = session.Session(auth=auth, verify=os.environ["OS_CACERT"])
result = {}
for wanted in ("2.0", "2.7", "2.45", "2.82", "2.98"):
    manila = client.Client(wanted, session=known, service_type="shared-file-system")
    made = manila.shares.create("NFS", 1, name="lib-" + wanted)
    while made.status.startswith("creating"):
        made = manila.shares.get(made.id)
    rule = manila.shares.allow(made.id, "ip", "192.0.2.0/24", "ro")
    rule = rule if isinstance(rule, dict) else rule.to_dict()
    # from 2.45 on there is a resource for this, before it was an action
    rules = manila.share_access_rules.access_list(made) if float(wanted[2:]) >= 45 else manila.shares.access_list(made)
    found = manila.shares.list(search_opts={"name": "lib-" + wanted})
    names = sorted(found[0].to_dict())
    manila.shares.deny(made.id, rule["id"])
    manila.shares.delete(made)
    try:
        while manila.shares.get(made.id):
            pass
    except exceptions.NotFound:
        gone = True
    result[wanted] = [made.status, len(rules), "export_location" in names, "share_type_name" in names, gone]
newest = client.Client("2.98", session=known, service_type="sharev2")
found = api_versions.discover_version(newest, api_versions.APIVersion("2.98"))
result["newest"] = found.get_string()
"""


@pytest.fixture
async def runner(keystone: Keystone, tmp_path: Path) -> AsyncIterator[Clients]:  # noqa: F811
    async with serving(tmp_path, keystone) as (_site, cafile, _guest):
        with clients(keystone, cafile) as made:
            yield made


async def test_the_sdk_and_the_library(runner: Clients) -> None:
    assert runner.code(SDK) == {
        "share": ["available", 1, "sdk"],
        "found": True,
        "detail": ["NFS"],
        "renamed": "sdk2",
        "size": 2,
        "zones": ["nova"],
        "limits": 1,
        "rule": ["active", "192.0.2.0/24", True],
        "exports": [True],
        "snapshots": ["sdk-snap"],
        "metadata": {"color": "blue"},
        "locks": True,
        "networks": ["sdk-net"],
        "messages": 0,
        "quota": -1,
        "left": [],
    }
    assert runner.code(LIBRARY) == {
        "2.0": ["available", 1, True, False, True],
        "2.7": ["available", 1, True, True, True],
        "2.45": ["available", 1, False, True, True],
        "2.82": ["available", 1, False, True, True],
        "2.98": ["available", 1, False, True, True],
        "newest": "2.98",
    }
