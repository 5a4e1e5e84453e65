"""``isthmus pool``: storage back ends."""

from __future__ import annotations

from typing import Annotated

import typer
from msgspec import UNSET

from isthmus.cli.client import HOSTS, POOLS
from isthmus.cli.output import Column, Columns, size, when
from isthmus.cli.session import Session, TimeoutOption, WaitOption, noun_app, verb
from isthmus.cli.suggest import suggest
from isthmus.cli.wait import status_of
from isthmus.model.errors import Invalid
from isthmus.model.names import parse_size
from isthmus.wire.api import PoolCreate, PoolPatch, PoolView

app = noun_app("Storage pools: where the data of shares is kept.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="the pool", autocompletion=suggest(POOLS))]
REPORT_SECONDS = 30.0
RESERVE_HELP = "room on its disk that no new share may be promised, such as 1G"


def _state(pool: PoolView) -> str:
    return f"error: {pool.error}" if pool.error else status_of(pool)


COLUMNS: Columns[PoolView] = (
    Column("name", lambda pool: pool.name),
    Column("host", lambda pool: pool.host),
    Column("path", lambda pool: pool.path),
    Column("total", lambda pool: size(pool.total), right=True),
    Column("free", lambda pool: size(pool.free), right=True),
    Column("promised", lambda pool: size(pool.promised), right=True),
    Column("state", _state),
)
FIELDS: Columns[PoolView] = (
    *COLUMNS,
    Column("driver", lambda pool: pool.driver),
    Column("overcommit", lambda pool: f"{pool.overcommit:g}"),
    Column("reserve", lambda pool: size(pool.reserve)),
    Column("backups", lambda pool: pool.backups or "-"),
    Column("can make", lambda pool: "; ".join(_abilities(pool))),
    Column("created", lambda pool: when(pool.created_at)),
)


@verb(app, "create", "isthmus pool create disk --path /srv/isthmus", "isthmus pool create ssd --path /ssd --reserve 5G")
def create(
    cli: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="the pool's name")],
    *,
    path: Annotated[str, typer.Option(metavar="DIR", help="a directory on the host that is the pool's alone")],
    host: Annotated[
        str, typer.Option(metavar="HOST", help="where it is; default: this host", autocompletion=suggest(HOSTS))
    ] = "",
    overcommit: Annotated[float, typer.Option(metavar="RATIO", help="how often its room may be promised")] = 1.0,
    reserve: Annotated[str, typer.Option(metavar="SIZE", help=RESERVE_HELP)] = "0",
    wait: WaitOption = True,
    timeout: TimeoutOption = REPORT_SECONDS,
) -> None:
    """Register a pool, and wait until its host has reported that it can be used. The directory must exist."""
    request = PoolCreate(
        name=name, host=host or cli.config.host, path=path, overcommit=overcommit, reserve=_reserve(reserve)
    )
    pool = cli.api.create(POOLS, request)
    if wait:
        pool = cli.settled(POOLS, pool, ("available",), f"use pool {pool.name}", timeout)
    cli.out.one(POOLS, pool, FIELDS)


@verb(app, "list", "isthmus pool list", "isthmus -f json pool list")
def list_(cli: Session) -> None:
    """List the pools with their room."""
    cli.out.many(POOLS, cli.api.all(POOLS), COLUMNS)


@verb(app, "show", "isthmus pool show disk")
def show(cli: Session, name: NameArgument) -> None:
    """Show a pool, and what shares in it can do."""
    cli.out.one(POOLS, cli.find(POOLS, name), FIELDS)


@verb(app, "set", "isthmus pool set disk --overcommit 2", "isthmus pool set disk --backups archive")
def set_(
    cli: Session,
    name: NameArgument,
    overcommit: Annotated[
        float | None, typer.Option(metavar="RATIO", help="how often its room may be promised")
    ] = None,
    reserve: Annotated[str | None, typer.Option(metavar="SIZE", help=RESERVE_HELP)] = None,
    backups: Annotated[
        str | None,
        typer.Option(metavar="POOL", help="the pool for its backups; '' for none", autocompletion=suggest(POOLS)),
    ] = None,
) -> None:
    """Change what the pool may promise, and where its backups go. What it has promised already, it keeps."""
    if overcommit is None and reserve is None and backups is None:
        raise Invalid(f"cannot change pool {name}: give --overcommit, --reserve or --backups")
    patch = PoolPatch(
        overcommit=UNSET if overcommit is None else overcommit,
        reserve=UNSET if reserve is None else _reserve(reserve),
        backups=UNSET if backups is None else backups,
    )
    cli.out.one(POOLS, cli.api.change(POOLS, cli.key(POOLS, name), patch), FIELDS)


@verb(app, "delete", "isthmus pool delete disk")
def delete(cli: Session, name: NameArgument) -> None:
    """Forget a pool that has no shares. The directory stays on its host."""
    cli.api.delete(POOLS, cli.key(POOLS, name))
    cli.out.say(f"pool {name} is deleted; its directory stays")


def _reserve(text: str) -> int:
    return 0 if text.strip() == "0" else parse_size(text, "reserve")


def _abilities(pool: PoolView) -> list[str]:
    return [
        f"{filesystem} from {size(pool.minimum.get(filesystem, 0))} ({', '.join(sorted(powers)) or 'no more powers'})"
        for filesystem, powers in sorted(pool.powers.items())
    ]
