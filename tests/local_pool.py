"""A local pool for a test, and the proof that nothing of it is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from isthmus.host import mounts
from isthmus.model.layout import Layout
from isthmus.model.names import HostName
from isthmus.model.share import Pool
from isthmus.storage.local import LocalDriver
from tests.storage_contract import POOL

Drivers = Callable[[], LocalDriver]


@contextmanager
def local_pool(path: Path, layout: Layout, *, reserve: int = 0) -> Iterator[Drivers]:
    """Makes drivers of a pool in ``path``, a new directory. At the end its shares are deleted, and no file, mount,
    mount point or loop device is left."""
    path.mkdir(mode=0o700, exist_ok=True)
    pool = Pool(POOL, "local", HostName("here"), str(path), reserve=reserve)
    try:
        yield lambda: LocalDriver(pool, layout)
    finally:
        asyncio.run(clear(LocalDriver(pool, layout)))
    assert list(path.glob("shares/*")) == []
    assert list(layout.shares.glob("*")) == []
    assert [entry.target for entry in mounts.mounts() if entry.target.startswith(str(layout.run))] == []
    attached = [name.read_text() for name in Path("/sys/block").glob("loop*/loop/backing_file")]
    assert [name for name in attached if name.startswith(str(path))] == []


async def clear(driver: LocalDriver) -> None:
    """No share and nothing half-done is in the pool."""
    await driver.sweep()
    for share in (await driver.observe()).shares:
        await driver.delete(share)
    assert (await driver.observe()).debris == ()
