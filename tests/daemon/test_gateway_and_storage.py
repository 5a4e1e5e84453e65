"""A hostile guest and a share of the local driver: it may forge handles, and reaches no more than its own data."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isthmus.model.layout import Layout
from isthmus.model.names import MIB, HostName, PoolName, ShareId, SnapshotId, new_id
from isthmus.model.share import Pool, ShareSpec
from isthmus.storage.local import LocalDriver
from tests.daemon.gateway_lab import Lab, make_export, make_lab
from tests.daemon.nfs_wire import NfsError


@pytest.fixture
async def lab(layout: Layout) -> AsyncIterator[Lab]:
    async with make_lab(layout) as made:
        yield made


async def test_a_forged_handle_changes_nothing_around_the_data(lab: Lab, tmp_path: Path) -> None:
    """The top of a btrfs share, beside its data, answers to a handle of tree 5 and generation 0. The guest may look at
    it, as all of it is its own; it cannot remove a snapshot, nor put anything where the host would follow it."""
    driver = LocalDriver(Pool(PoolName("p"), "local", HostName("h"), str(tmp_path)), lab.layout)
    share, snapshot = ShareId(new_id()), SnapshotId(new_id())
    await driver.create(ShareSpec(share, PoolName("p"), 256 * MIB))
    source = (await driver.source(share)).path
    Path(source, "file").write_bytes(b"as it was")  # noqa: ASYNC240
    await driver.snapshot(share, snapshot)
    await lab.gateway.start(lab.guest, [make_export(source)])
    wire = lab.client()
    top = _of_tree(wire.lookup("/share"), _tree(source), 5)
    assert {"data", "snapshots", "copies"} <= wire.names(top), "the attack itself works"

    snapshots = wire.lookup_in(top, "snapshots")
    for directory, name in ((top, "data"), (top, "snapshots"), (snapshots, snapshot)):
        with pytest.raises(NfsError):
            wire.remove(directory, name)
    for directory in (top, snapshots, wire.lookup_in(top, "copies")):
        with pytest.raises(NfsError):
            wire.create_file(directory, "planted")
        with pytest.raises(NfsError):
            wire.make_directory(directory, "planted")
    await driver.snapshot(share, SnapshotId(new_id()))
    with pytest.raises(NfsError):
        wire.make_directory(snapshots, "planted")
    await lab.gateway.stop(lab.guest)
    await driver.revert(share, snapshot, 1)
    assert Path((await driver.source(share)).path, "file").read_bytes() == b"as it was"  # noqa: ASYNC240
    await driver.delete(share)


def _tree(path: str) -> int:
    """The number of the subvolume that ``path`` is in."""
    command = ["btrfs", "inspect-internal", "rootid", path]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _of_tree(handle: bytes, now: int, then: int) -> bytes:
    """The handle of a root directory (inode 256), of another tree: inode, tree and generation lie side by side
    (struct btrfs_fid)."""
    inode = (256).to_bytes(8, "little")
    at = handle.index(inode + now.to_bytes(8, "little"))
    return handle[: at + 8] + then.to_bytes(8, "little") + bytes(4) + handle[at + 20 :]
