"""The ``local`` driver keeps the contract on real images, loop devices and mounts, with each file system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.model.layout import Layout
from isthmus.model.share import Filesystem
from isthmus.storage.driver import StorageDriver
from tests.local_pool import Drivers, local_pool
from tests.storage_contract import (
    CloneContract,
    CopyContract,
    RevertContract,
    ShrinkContract,
    SizeContract,
    SnapshotContract,
    StorageContract,
)


@pytest.fixture
def again(tmp_path: Path, layout: Layout) -> Iterator[Drivers]:
    with local_pool(tmp_path / "pool", layout) as drivers:
        yield drivers


@pytest.fixture
def driver(again: Drivers) -> StorageDriver:
    return again()


class TestBtrfs(
    StorageContract, CopyContract, SizeContract, SnapshotContract, RevertContract, CloneContract, ShrinkContract
):
    @pytest.fixture
    def filesystem(self) -> Filesystem:
        return Filesystem.BTRFS


class TestXfs(StorageContract, CopyContract, SizeContract):
    @pytest.fixture
    def filesystem(self) -> Filesystem:
        return Filesystem.XFS


class TestExt4(StorageContract, CopyContract, SizeContract):
    @pytest.fixture
    def filesystem(self) -> Filesystem:
        return Filesystem.EXT4
