"""Shares that move between pools, are backed up, restored, left and found again: what each means, over reports of a
host that does all that it is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from isthmus.model.desired import Condition, Phase, ShareReport
from isthmus.model.errors import Conflict
from isthmus.model.names import GIB, PoolName, ProjectId, ShareId, new_id
from isthmus.model.share import Filesystem, Fill, ShareGone, ShareSpec
from isthmus.model.status import AttachmentStatus
from isthmus.service.domain.attachments import attach
from isthmus.service.domain.hosts import register_host
from isthmus.service.domain.pools import register_pool, register_type, update_pool
from isthmus.service.domain.shares import create_share
from isthmus.service.domain.snapshots import create_snapshot
from isthmus.store import Store
from isthmus.store.reach import Reach
from isthmus.store.rows import AttachmentRow, CopyRow, ShareRow
from tests import service_kit as kit
from tests.manila_kit import Client, manila_over

OTHER = PoolName("p2")
POOLS = {kit.POOL: kit.ABLE, OTHER: kit.ABLE}
START = {"preserve_metadata": True, "writable": True, "nondisruptive": False, "preserve_snapshots": False}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = kit.opened(tmp_path)
    kit.equip(store, overcommit=100.0)
    with store.write() as tx:
        register_pool(tx, name=OTHER, host=kit.HOST, path="/srv/p2", overcommit=100.0)
        register_host(tx, "h2")
        register_pool(tx, name="far", host="h2", path="/srv/far")
    report(store)
    yield store
    store.close()


@pytest.fixture
async def client(store: Store) -> AsyncIterator[Client]:
    async with manila_over(store) as made:
        yield made


def report(store: Store, **said: Any) -> None:
    kit.report(store, pools=POOLS, **said)


def well(store: Store) -> None:
    """The host has done all."""
    kit.all_well(store, used=GIB // 2, pools=POOLS)


async def share(client: Client, store: Store, **wanted: Any) -> str:
    """The id of one that is there, in the first pool."""
    made = await client.share(**{"scheduler_hints": {"only_host": "h1@local#p1"}, **wanted})
    well(store)
    return str(made["id"])


def fail(store: Store, key: str) -> None:
    """The host cannot do what was asked of the share; its copies are fine."""
    failed = ShareReport(Condition(Phase.FAILED, "cannot copy: no", "no"), size=GIB)
    fine = {copy.volume: ShareReport(Condition(Phase.PRESENT), size=GIB, generation=1) for copy in copies(store)}
    report(store, shares={**fine, ShareId(key): failed})


def spec_of(store: Store, volume: str) -> ShareSpec:
    (found,) = [spec for spec in kit.desired(store).shares if spec.id == volume]
    return found


def row_of(store: Store, key: str) -> ShareRow:
    with store.read() as tx:
        return tx.need(ShareRow, key)


def copies(store: Store) -> list[CopyRow]:
    with store.read() as tx:
        return tx.all(CopyRow)


async def act(client: Client, key: str, action: str, body: Any = None, noun: str = "shares") -> Any:
    return await client.do("POST", f"/{noun}/{key}/action", {action: body}, caller="operator")


async def migrate(client: Client, key: str, host: str = "h1@local#p2", **more: Any) -> Any:
    return await act(client, key, "migration_start", {"host": host, **START, **more})


class TestMigration:
    async def test_from_start_to_end(self, client: Client, store: Store) -> None:
        key = await share(client, store)
        with store.write() as tx:
            attach(tx, share=key, guest=kit.GUEST)
        well(store)
        await migrate(client, key)
        shown = (await client.get(f"/shares/{key}"))["share"]
        assert (shown["status"], shown["task_state"]) == ("migrating", "data_copying_in_progress")
        (copy,) = copies(store)
        wanted = spec_of(store, copy.volume)
        assert (wanted.pool, wanted.fill, wanted.made) == (OTHER, Fill(ShareId(key), kit.POOL, 1), False)
        assert not spec_of(store, key).frozen
        assert kit.desired(store).attachments[0].share == key

        working = Condition(Phase.WORKING)
        report(
            store,
            shares={
                ShareId(key): ShareReport(Condition(Phase.PRESENT), size=GIB, used=1000),
                copy.volume: ShareReport(working, size=GIB, used=250),
            },
        )
        path = f"/shares/{key}/migration-progress"
        assert (await client.get(path, caller="operator"))["total_progress"] == 25
        await client.refused(409, "POST", f"/shares/{key}/action", {"migration_complete": None}, caller="operator")
        well(store)
        assert (await client.get(path, caller="operator")) == {
            "total_progress": 100,
            "task_state": "data_copying_completed",
        }
        await act(client, key, "migration_complete")
        assert spec_of(store, key).frozen
        assert spec_of(store, copy.volume).fill == Fill(ShareId(key), kit.POOL, 2)
        await client.refused(409, "POST", f"/shares/{key}/action", {"migration_cancel": None}, caller="operator")
        well(store)

        shown = (await client.get(f"/shares/{key}", caller="operator"))["share"]
        assert (shown["status"], shown["task_state"], shown["host"]) == (
            "available",
            "migration_success",
            "h1@local#p2",
        )
        moved = spec_of(store, copy.volume)
        assert (moved.pool, moved.serves, moved.made, moved.frozen, moved.fill) == (OTHER, key, True, False, None)
        assert kit.desired(store).doomed_shares == (ShareGone(ShareId(key), kit.POOL),)
        (attached,) = kit.desired(store).attachments
        assert attached.share == copy.volume
        with store.read() as tx:
            assert tx.all(AttachmentRow)[0].status == AttachmentStatus.ATTACHING
        well(store)
        assert copies(store) == []
        assert kit.desired(store).doomed_shares == ()
        assert (await client.get(path, caller="operator"))["total_progress"] == 100

    async def test_a_migrated_share_is_snapshotted_reverted_and_moved_back(self, client: Client, store: Store) -> None:
        key = await share(client, store)
        for host in ("h1@local#p2", "h1@local#p1"):
            await migrate(client, key, host)
            well(store)
            await act(client, key, "migration_complete")
            well(store)
            well(store)
        volume = row_of(store, key).volume_id
        assert (row_of(store, key).pool, volume != key) == (kit.POOL, True)
        taken = (await client.do("POST", "/snapshots", {"snapshot": {"share_id": key}}))["snapshot"]["id"]
        assert kit.desired(store).snapshots[0].share == volume
        well(store)
        await client.do("POST", f"/shares/{key}/action", {"revert": {"snapshot_id": taken}})
        assert (revert := spec_of(store, volume).revert) is not None
        assert revert.generation == 3
        well(store)
        assert (await client.get(f"/shares/{key}"))["share"]["status"] == "available"

    async def test_it_is_cancelled_until_it_is_being_completed(self, client: Client, store: Store) -> None:
        key = await share(client, store)
        await migrate(client, key)
        (copy,) = copies(store)
        assert "being migrated" in await client.refused(403, "DELETE", f"/shares/{key}")
        await act(client, key, "migration_cancel")
        shown = (await client.get(f"/shares/{key}"))["share"]
        assert (shown["status"], shown["task_state"]) == ("available", "migration_cancelled")
        assert kit.desired(store).doomed_shares == (ShareGone(copy.volume, OTHER),)
        well(store)
        assert copies(store) == []
        await client.refused(400, "POST", f"/shares/{key}/action", {"migration_cancel": None}, caller="operator")
        await client.do("DELETE", f"/shares/{key}")

    async def test_a_host_that_cannot_says_why_and_may_yet(self, client: Client, store: Store) -> None:
        key = await share(client, store)
        await migrate(client, key)
        (copy,) = copies(store)
        broken = ShareReport(Condition(Phase.FAILED, "cannot copy: it is full", "clone-too-small"), size=GIB)
        fine = ShareReport(Condition(Phase.PRESENT), size=GIB)
        report(store, shares={copy.volume: broken, ShareId(key): fine})
        shown = (await client.get(f"/shares/{key}"))["share"]
        assert (shown["status"], shown["task_state"]) == ("migrating", "data_copying_error")
        told = (await client.get("/messages"))["messages"]
        assert "it is full" in told[0]["user_message"]
        well(store)
        assert (await client.get(f"/shares/{key}"))["share"]["task_state"] == "data_copying_completed"

    async def test_what_is_refused(self, client: Client, store: Store) -> None:
        key = await share(client, store)
        path, start = f"/shares/{key}/action", {"host": "h1@local#p2", **START}

        async def refused(status: int, words: str, **more: Any) -> None:
            said = await client.refused(status, "POST", path, {"migration_start": {**start, **more}}, caller="operator")
            assert words in said

        await refused(400, "HOST@DRIVER#POOL", host="nowhere@local#p2")
        await refused(409, "it is there", host="h1@local#p1")
        await refused(400, "without disruption", nondisruptive=True)
        await refused(400, "host cannot make btrfs", host="h2@local#far")
        await client.refused(403, "POST", path, {"migration_start": start})
        await client.do("POST", "/snapshots", {"snapshot": {"share_id": key}})
        well(store)
        await refused(403, "snapshot")
        assert copies(store) == []

    async def test_one_that_cannot_be_completed_is_cancelled(self, client: Client, store: Store) -> None:
        key = await share(client, store)
        await migrate(client, key)
        well(store)
        await act(client, key, "migration_complete")
        assert spec_of(store, key).frozen
        (copy,) = copies(store)
        full = ShareReport(
            Condition(Phase.FAILED, "cannot copy: it is full", "clone-too-small"), size=GIB, generation=1
        )
        report(store, shares={copy.volume: full, ShareId(key): ShareReport(Condition(Phase.PRESENT), size=GIB)})
        await act(client, key, "migration_cancel")
        assert not spec_of(store, key).frozen
        assert (await client.get(f"/shares/{key}"))["share"]["status"] == "available"
        assert kit.desired(store).doomed_shares == (ShareGone(copy.volume, OTHER),)

    async def test_what_would_not_come_along_is_not_made_meanwhile(self, client: Client, store: Store) -> None:
        """By Isthmus's own API, which does not go by what a share shows."""
        key = await share(client, store)
        await migrate(client, key)
        with store.write() as tx, pytest.raises(Conflict, match="being migrated"):
            create_snapshot(tx, share=key)

    async def test_another_type_is_another_file_system(self, client: Client, store: Store) -> None:
        made = await client.do(
            "POST",
            "/types",
            {
                "share_type": {
                    "name": "Plain XFS",
                    "extra_specs": {"driver_handles_share_servers": "false", "isthmus:filesystem": "xfs"},
                }
            },
            caller="operator",
        )
        key = await share(client, store)
        await migrate(client, key, new_share_type_id=made["share_type"]["id"])
        (copy,) = copies(store)
        assert spec_of(store, copy.volume).filesystem == Filesystem.XFS
        well(store)
        await act(client, key, "migration_complete")
        well(store)
        assert (await client.get(f"/shares/{key}"))["share"]["share_type_name"] == "Plain XFS"


class TestBackups:
    @pytest.fixture(autouse=True)
    def archive(self, store: Store) -> None:
        with store.write() as tx:
            update_pool(tx, kit.POOL, backups=OTHER)

    async def made(self, client: Client, store: Store, key: str, **words: str) -> str:
        body = {"share_backup": {"share_id": key, **words}}
        backup = (await client.do("POST", "/share-backups", body))["share_backup"]
        assert backup["status"] == "creating"
        assert (await client.get(f"/shares/{key}"))["share"]["status"] == "backup_creating"
        well(store)
        return str(backup["id"])

    async def test_a_backup_s_life(self, client: Client, store: Store) -> None:
        key = await share(client, store)
        backup = await self.made(client, store, key, name="monday")
        assert (await client.get(f"/shares/{key}"))["share"]["status"] == "available"
        shown = (await client.get(f"/share-backups/{backup}"))["share_backup"]
        assert (shown["status"], shown["size"], shown["share_id"], shown["name"]) == ("available", 1, key, "monday")
        assert "host" not in shown
        assert [one["id"] for one in (await client.get("/share-backups?name=monday"))["share_backups"]] == [backup]
        assert (await client.get("/share-backups/detail?name=other"))["share_backups"] == []
        body = {"share_backup": {"description": "d"}}
        assert (await client.do("PUT", f"/share-backups/{backup}", body))["share_backup"]["description"] == "d"

        await client.do("POST", f"/share-backups/{backup}/action", {"restore": None})
        assert (await client.get(f"/shares/{key}"))["share"]["status"] == "backup_restoring"
        assert (await client.get(f"/share-backups/{backup}"))["share_backup"]["status"] == "restoring"
        (copy,) = copies(store)
        assert spec_of(store, key).fill == Fill(copy.volume, OTHER, 1)
        await client.refused(409, "DELETE", f"/share-backups/{backup}")
        fail(store, key)
        assert (await client.get(f"/shares/{key}"))["share"]["status"] == "backup_restoring_error"
        well(store)
        shown = (await client.get(f"/shares/{key}"))["share"]
        assert (shown["status"], shown["source_backup_id"]) == ("available", backup)
        await client.do("DELETE", f"/share-backups/{backup}")
        well(store)
        await client.refused(404, "GET", f"/share-backups/{backup}")

    async def test_it_outlives_its_share_and_goes_to_another(self, client: Client, store: Store) -> None:
        key = await share(client, store)
        backup = await self.made(client, store, key)
        await client.do("DELETE", f"/shares/{key}")
        well(store)
        path = f"/share-backups/{backup}/action"
        assert "name one to restore to" in await client.refused(400, "POST", path, {"restore": None})
        other = await share(client, store)
        assert "2.91" in await client.refused(400, "POST", path, {"restore": other}, minor=90)
        await client.do("POST", path, {"restore": other})
        well(store)
        assert (await client.get(f"/shares/{other}"))["share"]["source_backup_id"] == backup

    async def test_a_share_that_cannot_be_restored_may_go(self, client: Client, store: Store) -> None:
        key = await share(client, store)
        backup = await self.made(client, store, key)
        await client.do("POST", f"/share-backups/{backup}/action", {"restore": None})
        fail(store, key)
        await client.do("DELETE", f"/shares/{key}")
        assert (await client.get(f"/share-backups/{backup}"))["share_backup"]["status"] == "available"

    async def test_quotas_count_them(self, client: Client, store: Store) -> None:
        key = await share(client, store)
        await client.do("PUT", "/quota-sets/acme", {"quota_set": {"backups": 1}}, caller="operator")
        await self.made(client, store, key)
        body = {"share_backup": {"share_id": key}}
        assert "backups" in await client.refused(413, "POST", "/share-backups", body)
        used = (await client.get("/quota-sets/acme/detail"))["quota_set"]
        assert (used["backups"]["in_use"], used["backup_gigabytes"]["in_use"]) == (1, 1)

    async def test_another_project_has_none_of_it(self, client: Client, store: Store) -> None:
        key = await share(client, store)
        backup = await self.made(client, store, key)
        await client.refused(404, "GET", f"/share-backups/{backup}", caller="other project")
        await client.refused(404, "POST", f"/share-backups/{backup}/action", {"restore": None}, caller="other project")
        assert (await client.get("/share-backups", caller="other project"))["share_backups"] == []

    async def test_what_is_refused(self, client: Client, store: Store) -> None:
        key = await share(client, store)
        body: dict[str, Any] = {"share_backup": {"share_id": key, "backup_options": {"a": "b"}}}
        assert "there are none" in await client.refused(400, "POST", "/share-backups", body)
        with store.write() as tx:
            update_pool(tx, kit.POOL, backups="")
        body = {"share_backup": {"share_id": key}}
        assert "no pool for backups" in await client.refused(409, "POST", "/share-backups", body)

    async def test_files_of_different_moments_are_no_backup(self, client: Client, store: Store) -> None:
        with store.write() as tx:
            register_type(tx, name="plain", filesystem=Filesystem.XFS)
        key = await share(client, store, share_type="plain")
        with store.write() as tx:
            attach(tx, share=key, guest=kit.GUEST)
        body = {"share_backup": {"share_id": key}}
        assert "takes no snapshots" in await client.refused(409, "POST", "/share-backups", body)


class TestManaging:
    async def left(self, client: Client, store: Store) -> str:
        """A share that was there, and is no longer known."""
        key = await share(client, store)
        await act(client, key, "unmanage")
        well(store)
        return key

    async def test_what_was_left_is_found_again(self, client: Client, store: Store) -> None:
        key = await self.left(client, store)
        body = {
            "service_host": "h1@local#p1",
            "protocol": "NFS",
            "export_path": f"/srv/p1/shares/{key}",
            "driver_options": {"project_id": "acme"},
        }
        made = (await client.do("POST", "/shares/manage", {"share": body}, caller="operator"))["share"]
        assert (made["id"], made["status"], made["project_id"]) == (key, "manage_starting", "acme")
        wanted = spec_of(store, key)
        assert (wanted.adopt, wanted.made) == (True, True)
        found = ShareReport(Condition(Phase.PRESENT), 3 * GIB, 5, 2, Filesystem.BTRFS)
        report(store, shares={ShareId(key): found})
        shown = (await client.get(f"/shares/{key}"))["share"]
        assert (shown["status"], shown["size"]) == ("available", 3)
        assert not spec_of(store, key).adopt
        assert row_of(store, key).reverts == 2

    async def test_what_is_not_there_or_another_is_an_error_and_stays(self, client: Client, store: Store) -> None:
        key = new_id()
        body = {
            "service_host": "h1@local#p1",
            "protocol": "NFS",
            "export_path": key,
            "driver_options": {"project_id": "acme"},
        }
        await client.do("POST", "/shares/manage", {"share": body}, caller="operator")
        report(store)
        assert (await client.get(f"/shares/{key}"))["share"]["status"] == "manage_error"
        found = ShareReport(Condition(Phase.PRESENT), GIB, 5, 0, Filesystem.XFS)
        report(store, shares={ShareId(key): found})
        assert "file system" in row_of(store, key).reason
        await client.do("DELETE", f"/shares/{key}")
        assert kit.desired(store).doomed_shares == ()
        await client.refused(404, "GET", f"/shares/{key}")

    async def test_nobody_gets_what_was_left_by_its_id(self, client: Client, store: Store) -> None:
        """Whoever once knew the id of a share could else ask for a new one by it, and find the old data there."""
        key = await self.left(client, store)
        with store.write() as tx, pytest.raises(Conflict, match="a volume has it"):
            create_share(tx, project="other", pool=kit.POOL, size=GIB, share_id=key)

    async def test_nobody_gets_a_volume_that_has_another_name_than_its_share(
        self, client: Client, store: Store
    ) -> None:
        key = await share(client, store)
        await migrate(client, key)
        (copy,) = copies(store)
        others = Reach(ProjectId("other"))
        for _ in range(2):  # of a copy, then of a share that was migrated
            with store.write(others) as tx, pytest.raises(Conflict, match="a volume has it"):
                create_share(tx, project="other", pool=kit.POOL, size=GIB, share_id=copy.volume)
            well(store)
            if copies(store):
                await act(client, key, "migration_complete")
                well(store)
                well(store)
        assert row_of(store, key).volume == copy.volume

    async def test_a_snapshot_that_was_left_is_found_again(self, client: Client, store: Store) -> None:
        key = await share(client, store)
        taken = (await client.do("POST", "/snapshots", {"snapshot": {"share_id": key}}))["snapshot"]["id"]
        well(store)
        await act(client, taken, "unmanage", noun="snapshots")
        body = {"snapshot": {"share_id": key, "provider_location": taken, "name": "again"}}
        made = (await client.do("POST", "/snapshots/manage", body, caller="operator"))["snapshot"]
        assert (made["id"], made["name"]) == (taken, "again")
        assert kit.desired(store).snapshots[0].made
        well(store)
        assert (await client.get(f"/snapshots/{taken}"))["snapshot"]["status"] == "available"
        await client.refused(409, "POST", "/snapshots/manage", body, caller="operator")
        missing = {"snapshot": {"share_id": key, "provider_location": new_id()}}
        lost = (await client.do("POST", "/snapshots/manage", missing, caller="operator"))["snapshot"]["id"]
        report(store, shares={ShareId(key): ShareReport(Condition(Phase.PRESENT), size=GIB)})
        assert (await client.get(f"/snapshots/{lost}"))["snapshot"]["status"] == "error"
