"""Booted guests. All tests of this kind share one event loop and, unless they break it, one guest: a boot costs 2 s."""

from __future__ import annotations

import secrets
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from isthmus.model.names import GuestId
from lab.guest import Guest
from lab.image import GuestImage
from lab.image import guest_image as build_image

HERE = Path(__file__).parent
Boot = Callable[..., Awaitable[Guest]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The shared guest lives on a loop that all tests share."""
    for item in items:
        if item.path.is_relative_to(HERE) and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="package")
def guest_image() -> GuestImage:
    """The guest's image, built if it is missing."""
    return build_image(lambda what: print(f"guest image: {what}"))  # noqa: T201 - shown by pytest if it fails


@pytest.fixture(scope="package")
def qmp_dir() -> Iterator[Path]:
    """Where these guests have their QMP sockets."""
    path = Path(f"/run/istest-qmp-{secrets.token_hex(3)}")
    path.mkdir(mode=0o700)
    yield path
    shutil.rmtree(path)


@pytest_asyncio.fixture(loop_scope="session")
async def boot(guest_image: GuestImage, qmp_dir: Path) -> AsyncIterator[Boot]:
    """``await boot(**how)``: a new guest of the test's own, gone when the test ends."""
    async with AsyncExitStack() as guests:

        async def new(directory: Path = qmp_dir, **how: Any) -> Guest:
            return await guests.enter_async_context(Guest(new_guest_id(), directory, guest_image, **how))

        yield new


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def guest(guest_image: GuestImage, qmp_dir: Path) -> AsyncIterator[Guest]:
    """The shared guest. A test leaves it running, with nothing mounted and nothing plugged."""
    async with Guest(new_guest_id(), qmp_dir, guest_image) as shared:
        yield shared


def new_guest_id() -> GuestId:
    """A random one."""
    return GuestId(str(uuid.uuid4()))
