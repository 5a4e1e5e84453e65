"""The program against a real service on a unix socket, with an agent that does in memory whatever it is told."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isthmus.cli.main import main
from isthmus.model.address import UnixAddress
from isthmus.model.desired import Condition, Desired, Phase, ShareReport
from isthmus.service.server import listening
from isthmus.service.service import Service
from isthmus.store import Store
from tests import service_kit


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run of the program ended."""

    code: int
    out: str
    err: str

    def json(self) -> object:
        """Standard output, which must be one JSON document."""
        return msgspec.json.decode(self.out)


@dataclass
class Site:
    """A service with host ``h1``, pool ``p1`` and a guest of project ``acme`` (see ``service_kit``).

    The agent makes true whatever is asked for, unless ``idle``; it fails with ``failing`` if that is set.
    """

    store: Store
    socket: Path
    config: Path
    idle: bool = False
    failing: str = ""

    def run(self, *argv: str) -> Ended:
        """``isthmus ARGV``, with this site's configuration and socket."""
        return run("--config", str(self.config), "--api", f"unix:{self.socket}", *argv)

    def act(self, document: Desired) -> None:
        """What an agent does with a new document."""
        if self.idle:
            return
        if self.failing:
            failed = Condition(Phase.FAILED, self.failing, "host-failure")
            service_kit.report(self.store, shares={share.id: ShareReport(failed) for share in document.shares})
        else:
            service_kit.all_well(self.store)


def run(*argv: str) -> Ended:
    """``isthmus ARGV``."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(argv)
            code: object = 0
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return Ended(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def site(tmp_path: Path, run_dir: Path) -> Iterator[Site]:
    """A site that serves meanwhile."""
    config = tmp_path / "isthmus.toml"
    config.write_text(f'host = "{service_kit.HOST}"\n[paths]\nrun = "{run_dir}"\nstate = "{tmp_path}/state"\n')
    store = Store.open(f"sqlite:///{tmp_path}/isthmus.db")
    service_kit.equip(store)
    made = Site(store, run_dir / "api.sock", config)
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        service = Service(store)
        async with listening(service, UnixAddress(made.socket)):
            agent = asyncio.create_task(_agent(service, made))
            ready.set()
            await asyncio.to_thread(stop.wait)
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)
        await service.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield made
    finally:
        stop.set()
        thread.join()
        store.close()


async def _agent(service: Service, made: Site) -> None:
    after = 0
    while True:
        document = await service.desired(service_kit.HOST, after, 30)
        if document is not None:
            after = document.revision
            await asyncio.to_thread(made.act, document)
