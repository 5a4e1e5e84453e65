"""An agent's equipment for the real host, from the configuration."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from isthmus.agent.equipment import Equipment
from isthmus.gateway.ganesha import GaneshaGateway
from isthmus.host.child import ChildSupervisor
from isthmus.hypervisor.qmp import QmpHypervisor
from isthmus.link.p2p import PointToPoint
from isthmus.model.config import Config
from isthmus.model.errors import Conflict, Invalid
from isthmus.model.layout import Layout
from isthmus.model.share import Pool
from isthmus.storage.driver import StorageDriver
from isthmus.storage.registry import DRIVERS


def assemble(config: Config) -> Equipment:
    """Link, gateways, hypervisor and drivers. Touches nothing on the host yet."""
    layout = config.layout
    supervisor = ChildSupervisor(layout)
    gateway = GaneshaGateway(layout, supervisor)

    def make_driver(pool: Pool) -> StorageDriver:
        if pool.driver not in DRIVERS:
            raise Invalid(
                f"cannot use pool {pool.name}: no driver {pool.driver}: there are {', '.join(sorted(DRIVERS))}"
            )
        return DRIVERS[pool.driver](pool, layout)

    return Equipment(
        link=PointToPoint(layout, port=gateway.port, network=config.network),
        gateways={gateway.mode: gateway},
        hypervisor=QmpHypervisor(layout, config.qmp),
        make_driver=make_driver,
        exits=supervisor.exits,
    )


def agent_runs(layout: Layout) -> bool:
    """An agent acts below this prefix now."""
    try:
        with (layout.run / "agent.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def only_agent(layout: Layout) -> Iterator[None]:
    """No other agent acts below this prefix meanwhile. Raises ``Conflict`` if one does."""
    layout.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(layout.run / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                f"cannot act on this host: another agent holds {layout.run}/agent.lock: stop it first",
                code="agent-running",
            ) from error
        yield
    finally:
        os.close(fd)
