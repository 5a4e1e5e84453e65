"""The fake driver keeps what the real one keeps, so what is tested against it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from isthmus.model.share import Filesystem
from isthmus.storage.driver import StorageDriver
from tests.fakes.storage import FakeDriver, FakePool
from tests.storage_contract import (
    CloneContract,
    CopyContract,
    RevertContract,
    ShrinkContract,
    SnapshotContract,
    StorageContract,
)


@pytest.fixture
def pool(tmp_path: Path) -> FakePool:
    return FakePool(tmp_path)


@pytest.fixture
def driver(pool: FakePool) -> StorageDriver:
    return FakeDriver(pool)


@pytest.fixture
def again(pool: FakePool) -> Callable[[], StorageDriver]:
    return lambda: FakeDriver(pool)


class TestFakeBtrfs(StorageContract, CopyContract, SnapshotContract, RevertContract, CloneContract, ShrinkContract):
    @pytest.fixture
    def filesystem(self) -> Filesystem:
        return Filesystem.BTRFS


class TestFakeExt4(StorageContract, CopyContract):
    @pytest.fixture
    def filesystem(self) -> Filesystem:
        return Filesystem.EXT4
