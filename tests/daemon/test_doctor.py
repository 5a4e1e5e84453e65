"""The doctor on a real host: it names every kind of orphan, and mends it. Orphans are made as crashes make them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.agent.assemble import agent_runs, assemble, only_agent
from isthmus.agent.doctor import Severity
from isthmus.agent.equipment import Equipment
from isthmus.agent.surgery import Diagnosis, examine, mend
from isthmus.host import loop, mounts, netns
from isthmus.host.cgroup import Cgroups
from isthmus.host.unit import Limits
from isthmus.model.attachment import AttachmentSpec, Mode
from isthmus.model.config import Config, with_defaults
from isthmus.model.desired import Desired
from isthmus.model.errors import Conflict
from isthmus.model.guest import GuestSeen, GuestSpec, GuestState
from isthmus.model.layout import Layout
from isthmus.model.names import MIB, AttachmentId, GuestId, HostName, PoolName, ProjectId, ShareId, SnapshotId
from isthmus.model.share import Pool, ShareSpec, SnapshotSpec

# ruff: noqa: ASYNC240 - a test has its event loop to itself, and may wait for a file

POOL = PoolName("p")
HOST = HostName("h")


class Ward:
    """A host to examine: its equipment, and what should be there."""

    def __init__(self, config: Config, pool: Path) -> None:
        self.layout = config.layout
        self.equipment: Equipment = assemble(config)
        self.want = Desired(HOST, 1, (Pool(POOL, "local", HOST, str(pool)),))
        self.pool = pool

    async def examine(self, **more: object) -> Diagnosis:
        """What the doctor says."""
        return await examine(self.equipment, self.layout, HOST, self.want, **more)  # type: ignore[arg-type]

    async def heal(self, *, delete_data: bool = False) -> list[str]:
        """What mending tried in vain."""
        _, tried = await mend(self.equipment, self.layout, HOST, self.want, delete_data=delete_data)
        return [error for _, error in tried if error]

    async def found(self) -> set[tuple[str, str]]:
        """Kinds and names of what is wrong."""
        return {(finding.kind, finding.name) for finding in (await self.examine()).findings}

    def admit(self, *, attached: bool) -> tuple[GuestId, ShareId, AttachmentSpec]:
        """A guest and a share that should be there, the share attached to the guest or not."""
        guest, share = GuestId(str(uuid.uuid4())), ShareId(str(uuid.uuid4()))
        attachment = AttachmentSpec(AttachmentId(str(uuid.uuid4())), share, guest, 1, "/data")
        self.want = replace(
            self.want,
            shares=(ShareSpec(share, POOL, 256 * MIB),),
            guests=(GuestSpec(guest, ProjectId("demo"), HOST),),
            attachments=(attachment,) if attached else (),
        )
        return guest, share, attachment


@pytest.fixture
async def ward(layout: Layout, tmp_path: Path) -> AsyncIterator[Ward]:
    pool = tmp_path / "pool"
    pool.mkdir(mode=0o700)
    made = Ward(with_defaults(Config(HOST, layout)), pool)
    yield made
    made.want = replace(made.want, shares=(), guests=(), attachments=(), snapshots=())
    assert await made.heal(delete_data=True) == []
    assert (await made.examine()).healthy
    await made.equipment.hypervisor.close()


async def test_a_healthy_host(ward: Ward) -> None:
    diagnosis = await ward.examine()
    assert diagnosis.healthy
    assert diagnosis.judged
    assert "nothing is left behind" in diagnosis.summary()


async def test_what_is_missing_is_named_and_made(ward: Ward) -> None:
    _, share, _ = ward.admit(attached=True)
    before = await ward.examine()
    assert {finding.severity for finding in before.findings} == {Severity.MISSING}
    assert ("share", share) in {(finding.kind, finding.name) for finding in before.findings}
    assert await ward.heal() == []
    after = await ward.examine()
    assert after.healthy
    assert (after.counted["export"], after.counted["namespace"], after.counted["mount"]) == (1, 1, 1)


async def test_everything_of_a_guest_and_a_share_that_nobody_wants(ward: Ward) -> None:
    guest, share, _ = ward.admit(attached=True)
    assert await ward.heal() == []
    ward.want = replace(ward.want, shares=(), guests=(), attachments=())
    layout = ward.layout
    assert await ward.found() == {("process", layout.unit(Mode.NFS, guest)), ("share data", f"{POOL}/{share}")}
    assert await ward.heal() == []
    diagnosis = await ward.examine()
    assert [(finding.kind, finding.name) for finding in diagnosis.findings] == [("share data", f"{POOL}/{share}")]
    assert "--delete-data" in diagnosis.findings[0].advice
    assert (ward.pool / "shares" / share / "image").exists(), "data is not deleted unless that is said"
    assert await ward.heal(delete_data=True) == []
    assert list((ward.pool / "shares").iterdir()) == []


async def test_an_orphaned_namespace_with_its_tap(ward: Ward) -> None:
    guest = GuestId(str(uuid.uuid4()))
    await ward.equipment.link.make(guest)
    assert await ward.found() == {("namespace", ward.layout.netns(guest))}
    assert await ward.heal() == []
    assert ward.layout.netns(guest) not in netns.names()


async def test_a_namespace_of_our_prefix_that_is_no_guests(ward: Ward) -> None:
    name = f"{ward.layout.prefix}-what"
    netns.create(name)
    assert await ward.found() == {("namespace", name)}
    assert await ward.heal() == []
    assert name not in netns.names()


async def test_an_empty_cgroup_and_run_directories(ward: Ward) -> None:
    guest, share = str(uuid.uuid4()), str(uuid.uuid4())
    cgroups = Cgroups(ward.layout.prefix)
    cgroups.make("smb-old", Limits())
    directories = [ward.layout.gateways / "smb-old", ward.layout.shares / share]
    for directory in directories:
        directory.mkdir(parents=True)
    found = await ward.found()
    assert {("cgroup", "smb-old"), *(("directory", str(directory)) for directory in directories)} <= found
    assert await ward.heal() == []
    assert cgroups.units() == frozenset()
    assert not any(directory.exists() for directory in directories)
    assert guest not in str(found)


async def test_a_process_that_serves_nobody(ward: Ward) -> None:
    cgroups = Cgroups(ward.layout.prefix)
    joins = cgroups.make("smb-old", Limits())
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    Path(joins[0]).write_text(str(process.pid))
    assert ("process", "smb-old") in await ward.found()
    assert await ward.heal() == []
    assert await process.wait() == -9


async def test_a_stray_mount_and_a_loop_device(ward: Ward, tmp_path: Path) -> None:
    stray = ward.layout.run / "elsewhere"
    stray.mkdir()
    mounts.mount_filesystem("tmpfs", "stray", str(stray), {"size": "1m"})
    image = ward.pool / "shares" / str(uuid.uuid4()) / "image"
    image.parent.mkdir(parents=True)
    image.write_bytes(bytes(MIB))
    with image.open("r+b") as file, loop.attach(file.fileno()) as device:
        assert {("mount", str(stray)), ("loop device", device)} <= await ward.found()
        assert await ward.heal() == []
    assert str(stray) not in {entry.target for entry in mounts.mounts()}
    assert loop.device_of(image) is None
    image.unlink()
    image.parent.rmdir()


async def test_what_an_interrupted_creation_left(ward: Ward) -> None:
    debris = ward.pool / "shares" / f"{uuid.uuid4()}.new"
    debris.mkdir(parents=True)
    (debris / "image").write_bytes(b"half")
    assert await ward.found() == {("directory", POOL)}
    assert await ward.heal() == []
    assert not debris.exists()


async def test_a_device_in_a_guest_that_nobody_wants(ward: Ward) -> None:
    """As a running agent reported it: the doctor does not fight it for the guest's monitor."""
    guest = GuestId(str(uuid.uuid4()))
    held = {guest: GuestSeen(guest, GuestState.RUNNING, frozenset({ward.layout.nic()}))}
    (finding,) = (await ward.examine(guests=held)).findings
    assert (finding.severity, finding.kind) == (Severity.ORPHAN, "device in a guest")
    assert finding.name == f"{ward.layout.nic()} in {guest}"


async def test_lost_data_is_told_and_never_made_anew(ward: Ward) -> None:
    _, share, _ = ward.admit(attached=False)
    snapshot = SnapshotSpec(SnapshotId(str(uuid.uuid4())), share, made=True)
    ward.want = replace(ward.want, shares=(replace(ward.want.shares[0], made=True),))
    (finding,) = (await ward.examine()).findings
    assert (finding.severity, finding.kind, finding.name) == (Severity.LOST, "share", share)
    assert await ward.heal() == []
    assert not (ward.pool / "shares" / share).exists()
    ward.want = replace(ward.want, shares=(replace(ward.want.shares[0], made=False),), snapshots=(snapshot,))
    assert await ward.heal() == []
    (finding,) = (await ward.examine()).findings
    assert (finding.severity, finding.kind, finding.name) == (Severity.LOST, "snapshot", snapshot.id)


async def test_a_pool_that_cannot_be_seen(ward: Ward) -> None:
    ward.pool.rmdir()
    (finding,) = (await ward.examine()).findings
    assert (finding.severity, finding.kind, finding.name) == (Severity.UNKNOWN, "pool", POOL)
    ward.pool.mkdir(mode=0o700)


async def test_mounted_data_that_nobody_knows_is_unmounted_not_deleted(ward: Ward) -> None:
    """A share's directory is an orphan when its pool is not in the document; what is mounted there is data."""
    _, share, _ = ward.admit(attached=True)
    assert await ward.heal() == []
    file = Path(ward.layout.share_data(share), "file")
    file.write_text("kept")
    known, ward.want = ward.want, Desired(HOST, 2)
    assert await ward.heal() == []
    assert not (ward.layout.shares / share).exists()
    ward.want = known
    assert await ward.heal() == []
    assert file.read_text() == "kept"


async def test_a_directory_with_a_busy_mount_stays(ward: Ward) -> None:
    place = ward.layout.gateways / "smb-old" / "inner"
    place.mkdir(parents=True)
    mounts.mount_filesystem("tmpfs", "stray", str(place), {"size": "1m"})
    with (place / "file").open("w"):
        errors = await ward.heal()
    assert [("EBUSY" in error, "mounted at" in error) for error in errors] == [(True, False), (False, True)]
    assert (place / "file").exists()
    assert await ward.heal() == []
    assert not place.exists()


async def test_a_pool_behind_a_symbolic_link(ward: Ward, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(ward.pool.parent)
    ward.want = replace(ward.want, pools=(Pool(POOL, "local", HOST, str(link / ward.pool.name)),))
    image = ward.pool / "image"
    image.write_bytes(bytes(MIB))
    with image.open("r+b") as file, loop.attach(file.fileno()) as device:
        assert ("loop device", device) in await ward.found()
    image.unlink()


async def test_without_a_document_nothing_is_judged(ward: Ward) -> None:
    guest = GuestId(str(uuid.uuid4()))
    await ward.equipment.link.make(guest)
    diagnosis = await examine(ward.equipment, ward.layout, HOST, None)
    assert not diagnosis.judged
    assert [(finding.severity, finding.mend) for finding in diagnosis.findings] == [(Severity.UNKNOWN, None)]


async def test_one_agent_at_a_time(ward: Ward) -> None:
    assert not agent_runs(ward.layout)
    with only_agent(ward.layout):
        assert agent_runs(ward.layout)
        with pytest.raises(Conflict, match="another agent"), only_agent(ward.layout):
            pass
    assert not agent_runs(ward.layout)
