"""``isthmus host``: hypervisor nodes."""

from __future__ import annotations

from typing import Annotated

import typer

from isthmus.cli.client import HOSTS
from isthmus.cli.output import Column, Columns, when
from isthmus.cli.session import Session, noun_app, verb
from isthmus.cli.suggest import suggest
from isthmus.wire.api import HostCreate, HostView

app = noun_app("Hosts: hypervisor nodes that run an agent.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="the host", autocompletion=suggest(HOSTS))]


def _state(host: HostView) -> str:
    if host.seen_at is None:
        return "never reported"
    return "up to date" if host.applied_revision == host.desired_revision else "catching up"


COLUMNS: Columns[HostView] = (
    Column("name", lambda host: host.name),
    Column("seen", lambda host: when(host.seen_at)),
    Column("state", _state),
)
FIELDS: Columns[HostView] = (
    *COLUMNS,
    Column("desired revision", lambda host: str(host.desired_revision)),
    Column("applied revision", lambda host: str(host.applied_revision)),
    Column("created", lambda host: when(host.created_at)),
)


@verb(app, "add", "isthmus host add", "isthmus host add h2")
def add(
    cli: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="default: this host", show_default=False)] = "",
) -> None:
    """Register a host. Its agent may then fetch what should be on it."""
    cli.out.one(HOSTS, cli.api.create(HOSTS, HostCreate(name=name or cli.config.host)), FIELDS)


@verb(app, "list", "isthmus host list")
def list_(cli: Session) -> None:
    """List hosts, and when their agents last reported."""
    cli.out.many(HOSTS, cli.api.all(HOSTS), COLUMNS)


@verb(app, "show", "isthmus host show h1")
def show(cli: Session, name: NameArgument) -> None:
    """Show a host."""
    cli.out.one(HOSTS, cli.find(HOSTS, name), FIELDS)


@verb(app, "remove", "isthmus host remove h2")
def remove(cli: Session, name: NameArgument) -> None:
    """Forget a host that has no pools and no guests."""
    cli.api.delete(HOSTS, cli.key(HOSTS, name))
    cli.out.say(f"host {name} is removed")
