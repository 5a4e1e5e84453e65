"""A service's world in which an attachment may have grants, under a clock that the test turns."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

from isthmus.model.names import AttachmentId, HostName
from isthmus.pki.request import make_request, new_key
from isthmus.service.domain import grants
from isthmus.service.service import A_WEEK
from isthmus.store import Store
from isthmus.store.rows import GrantRow
from tests.fakes.authority import authority
from tests.service_kit import HOST

REQUEST = make_request(new_key())
DAY = datetime.timedelta(days=1)


@dataclass
class Clock:
    now: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).replace(microsecond=0))

    def __call__(self) -> datetime.datetime:
        return self.now


def sign(store: Store, *ids: str, host: HostName = HOST) -> dict[AttachmentId, str]:
    with store.write() as tx:
        return grants.issue(tx, authority(), host, {AttachmentId(name): REQUEST for name in ids}, A_WEEK)


def live(store: Store) -> list[GrantRow]:
    with store.read() as tx:
        return tx.all(GrantRow, ended_at=None)
