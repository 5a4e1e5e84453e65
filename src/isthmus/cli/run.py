"""``isthmus up``, ``agent`` and ``service``: the processes that stay."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from isthmus.cli.session import Session, verb
from isthmus.model.errors import HostFailure, IsthmusError, Refused

if TYPE_CHECKING:
    from isthmus.model.config import Config


Failure = TypeVar("Failure", bound=BaseException)


class Level(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


LevelOption = Annotated[Level, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error")]

CHATTY = ("httpx", "httpcore", "uvicorn", "alembic", "qemu", "asyncio", "sqlalchemy")
"""Libraries whose everyday notes are of no use to an operator."""


def register(root: typer.Typer) -> None:
    """The verbs on the program itself."""
    verb(root, "up", "isthmus up", "isthmus --config ./isthmus.toml up --log-level debug")(up)
    verb(root, "agent", "isthmus agent")(agent)
    verb(root, "service", "isthmus service")(service)


def up(cli: Session, level: LevelOption = Level.INFO) -> None:
    """Run service and agent of this machine in one process, until SIGTERM or Ctrl-C.

    Shares that guests use go on being served when it ends.
    """
    _need_root("run an agent")
    from isthmus import up as processes  # noqa: PLC0415 - all of Isthmus, which other verbs do without

    _stay(processes.up, cli.config, level)


def agent(cli: Session, level: LevelOption = Level.INFO) -> None:
    """Run this host's agent, until SIGTERM or Ctrl-C. What it has made goes on serving when it ends."""
    _need_root("run an agent")
    from isthmus import up as processes  # noqa: PLC0415 - see above

    _stay(processes.run_agent, cli.config, level)


def service(cli: Session, level: LevelOption = Level.INFO) -> None:
    """Run the service: the API and its database, until SIGTERM or Ctrl-C."""
    from isthmus import up as processes  # noqa: PLC0415 - see above

    _stay(processes.run_service, cli.config, level)


def _need_root(doing: str) -> None:
    if os.geteuid() != 0:
        raise Refused(f"cannot {doing}: it makes network namespaces and mounts file systems: run it as root")


def _stay(run: Callable[[Config], Awaitable[None]], config: Config, level: Level) -> None:
    _log_to_stderr(level)
    try:
        asyncio.run(_until_signalled(run(config)))
    except* IsthmusError as group:
        raise next(_leaves(group)) from None
    except* PermissionError as group:
        denied = next(_leaves(group))
        raise Refused(f"cannot start: {denied.strerror}: {denied.filename}: run it as root") from None
    except* OSError as group:
        failure = next(_leaves(group))
        raise HostFailure(f"cannot start: {failure.strerror}: {failure.filename}") from None


async def _until_signalled(work: Awaitable[None]) -> None:
    """``work``, cancelled by SIGTERM or SIGINT, which is a good end."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    told: list[int] = []

    def stop(number: int) -> None:
        logging.getLogger("isthmus").info("ending: %s", signal.Signals(number).name)
        told.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        if not told:
            raise


def _log_to_stderr(level: Level) -> None:
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S"
    )
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def _leaves(group: BaseExceptionGroup[Failure]) -> Iterator[Failure]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
