"""The fake gateway keeps the contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from isthmus.model.names import GuestId, new_id
from tests.fakes.gateway import FakeGateway
from tests.gateway_contract import GatewayContract


class TestFakeGateway(GatewayContract):
    """See the contract."""

    @pytest.fixture
    def gateway(self) -> FakeGateway:
        return FakeGateway()

    @pytest.fixture
    def guest(self) -> GuestId:
        return GuestId(new_id())

    @pytest.fixture
    def make_source(self, tmp_path: Path) -> Callable[[], str]:
        def make() -> str:
            path = tmp_path / new_id()
            path.mkdir()
            return str(path)

        return make
