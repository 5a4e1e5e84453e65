"""A service's world for tests: a host with a pool that has reported, a guest, and reports made easy."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from isthmus.model.desired import Condition, Desired, Phase, PoolReport, Report, ShareReport
from isthmus.model.names import MIB, GuestId, HostName, PoolName, ProjectId, new_id
from isthmus.model.share import Filesystem, Power
from isthmus.service.domain.attachments import attach
from isthmus.service.domain.guests import register_guest
from isthmus.service.domain.hosts import desired_document, register_host
from isthmus.service.domain.pools import register_pool
from isthmus.service.domain.reports import apply_report
from isthmus.service.domain.shares import create_share
from isthmus.store import Store
from isthmus.store.rows import AttachmentRow, ShareRow, StatusRow, key_of
from isthmus.store.tx import Kept

HOST = HostName("h1")
POOL = PoolName("p1")
PROJECT = ProjectId("acme")
GUEST = GuestId("11111111-1111-4111-8111-111111111111")
TOTAL = 1000 * MIB

ABLE = PoolReport(
    total=TOTAL,
    free=TOTAL,
    powers={Filesystem.BTRFS: frozenset(Power), Filesystem.XFS: frozenset()},
    minimum={Filesystem.BTRFS: 8 * MIB, Filesystem.XFS: 64 * MIB},
)


@functools.cache
def _empty_database() -> bytes:
    """A migrated SQLite file: migrating takes longer than most tests."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "isthmus.db")
        Store.open(f"sqlite:///{path}").close()
        return path.read_bytes()


def opened(directory: Path, **options: Any) -> Store:
    """A store on a new SQLite file in ``directory``."""
    path = directory / "isthmus.db"
    path.write_bytes(_empty_database())
    return Store.open(f"sqlite:///{path}", **options)


def equip(store: Store, *, overcommit: float = 1.0, reserve: int = 0) -> None:
    """Host ``h1`` with pool ``p1`` (1000 MiB, reported) and a guest of project ``acme``."""
    with store.write() as tx:
        register_host(tx, HOST)
        register_pool(tx, name=POOL, host=HOST, path="/srv/p1", overcommit=overcommit, reserve=reserve)
        register_guest(tx, guest_id=GUEST, project=PROJECT, host=HOST)
    report(store)


def desired(store: Store) -> Desired:
    """The host's document."""
    with store.read() as tx:
        return desired_document(tx, HOST)


def report(store: Store, **said: Any) -> None:
    """A report about ``h1`` by an agent that has the newest document, unless ``revision`` says another."""
    said.setdefault("revision", desired(store).revision)
    said.setdefault("pools", {POOL: ABLE})
    with store.write() as tx:
        apply_report(tx, Report(host=said.pop("host", HOST), **said))


def all_well(store: Store, *, used: int = 0, **said: Any) -> None:
    """A report that all that should be is, and nothing else; each share occupies ``used`` bytes."""
    document = desired(store)
    report(
        store,
        shares={
            share.id: ShareReport(
                Condition(Phase.PRESENT),
                size=share.size,
                used=used,
                generation=intent.generation if (intent := share.fill or share.revert) else 0,
                filesystem=share.filesystem,
                checksums=share.checksums,
            )
            for share in document.shares
        },
        snapshots={snapshot.id: Condition(Phase.PRESENT) for snapshot in document.snapshots},
        attachments={attachment.id: Condition(Phase.PRESENT) for attachment in document.attachments},
        **said,
    )


def ask(store: Store, **wanted: Any) -> ShareRow:
    """A share of 100 MiB in project ``acme``, asked for."""
    with store.write() as tx:
        return create_share(tx, **{"project": PROJECT, "pool": POOL, "size": 100 * MIB, **wanted})


def made(store: Store, **wanted: Any) -> ShareRow:
    """Such a share, available."""
    share = ask(store, **wanted)
    all_well(store)
    return row(store, share)


def given(store: Store, share: ShareRow, **wanted: Any) -> AttachmentRow:
    """An attachment of the share to the guest, asked for."""
    with store.write() as tx:
        return attach(tx, **{"share": share.id, "guest": GUEST, **wanted})


def row(store: Store, known: Kept) -> Kept:
    """The present row of an object that has one."""
    with store.read() as tx:
        return tx.need(type(known), key_of(known))


def there(store: Store, known: StatusRow) -> bool:
    """Whether the object's row exists."""
    with store.read() as tx:
        return tx.get(type(known), known.id) is not None


def blank_share(**fields: Any) -> ShareRow:
    """A share's row that no rule has looked at."""
    base = ShareRow(
        id=new_id(),  # type: ignore[arg-type]
        project=PROJECT,
        pool=POOL,
        type="default",  # type: ignore[arg-type]
        filesystem=Filesystem.BTRFS,
        checksums=False,
        size=MIB,
    )
    return replace(base, **fields)
