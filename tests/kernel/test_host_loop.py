"""Loop devices that go with their last user, and not before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from isthmus.host import loop
from isthmus.model.names import MIB


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "image"
    path.write_bytes(bytes(MIB))
    yield path
    assert loop.device_of(path) is None


def test_a_device_lives_as_long_as_somebody_uses_it(image: Path) -> None:
    with image.open("r+b") as file, loop.attach(file.fileno()) as device:
        assert loop.device_of(image) == device
    assert loop.device_of(image) is None


def test_a_device_that_is_pinned_stays_though_its_maker_goes(image: Path) -> None:
    with ExitStack() as maker, ExitStack() as later:
        device = maker.enter_context(loop.attach(maker.enter_context(image.open("r+b")).fileno()))
        assert later.enter_context(loop.pinned(image)) == device
        maker.close()
        assert loop.device_of(image) == device
    assert loop.device_of(image) is None


def test_a_file_without_a_device_pins_nothing(image: Path) -> None:
    with loop.pinned(image) as device:
        assert device is None
