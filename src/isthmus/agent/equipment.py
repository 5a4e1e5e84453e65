"""All that an agent works with, behind the seams' protocols."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Protocol

from isthmus.gateway.base import Gateway
from isthmus.hypervisor.base import Hypervisor
from isthmus.link.base import Link
from isthmus.model.attachment import Mode
from isthmus.model.desired import Desired, Report
from isthmus.model.errors import HostFailure, IsthmusError
from isthmus.model.names import AttachmentId, HostName, PoolName
from isthmus.model.share import Pool
from isthmus.storage.driver import StorageDriver


class Orders(Protocol):
    """Where the agent gets what should be, and says what is: the service, in this process or behind HTTP. Every method
    raises ``HostRevoked`` when the service no longer takes this host for what it was."""

    async def desired(self, host: HostName, after: int, timeout: float) -> Desired | None:  # noqa: ASYNC109
        """The document, as soon as its revision is another than ``after``; None if that is not so within ``timeout``
        seconds. Raises ``Unavailable`` if the service does not answer, ``NotFound`` if it does not know the host."""
        ...

    async def report(self, report: Report) -> None:
        """Tell what is. Raises ``Unavailable`` if the service does not answer."""
        ...

    async def sign(self, host: HostName, requests: Mapping[AttachmentId, bytes]) -> Mapping[AttachmentId, str]:
        """Ask for grants on these certificate requests (PKCS #10, DER). They come with the next document; what is
        answered is why some of them do not. Raises ``Unavailable`` if the service does not answer."""
        ...


class Equipment:
    """Drivers, link, gateways and hypervisor of one host. Drivers follow the pools of the document."""

    def __init__(
        self,
        *,
        link: Link,
        gateways: Mapping[Mode, Gateway],
        hypervisor: Hypervisor,
        make_driver: Callable[[Pool], StorageDriver],
        exits: Callable[[], AsyncIterator[str]],
    ) -> None:
        self.link = link
        self.gateways = gateways
        self.hypervisor = hypervisor
        self.exits = exits
        self._make_driver = make_driver
        self._pools: dict[PoolName, tuple[Pool, StorageDriver]] = {}
        self.unusable: dict[PoolName, IsthmusError] = {}

    def take_pools(self, pools: Iterable[Pool]) -> None:
        """Have a driver for exactly these pools; one at the same place keeps its driver, and what that has begun."""
        before, self._pools, self.unusable = self._pools, {}, {}
        for pool in pools:
            known = before.get(pool.name)
            try:
                if known is not None and _is_same(known[0], pool):
                    driver = known[1]
                    driver.redefine(pool)
                else:
                    driver = self._make_driver(pool)
            except IsthmusError as error:
                self.unusable[pool.name] = error
            else:
                self._pools[pool.name] = (pool, driver)

    @property
    def pools(self) -> frozenset[PoolName]:
        """The pools that have a driver."""
        return frozenset(self._pools)

    def driver(self, pool: PoolName) -> StorageDriver:
        """The driver of a pool. Raises ``HostFailure`` if it has none."""
        if pool not in self._pools:
            raise HostFailure(f"cannot use pool {pool}: it has no driver on this host", code="pool-unusable")
        return self._pools[pool][1]


def _is_same(one: Pool, other: Pool) -> bool:
    """The same back end, whatever its limits are."""
    return (one.driver, one.host, one.path) == (other.driver, other.host, other.path)
