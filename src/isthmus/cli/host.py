"""``isthmus host``: hypervisor nodes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from msgspec import UNSET

from isthmus.cli.client import HOSTS
from isthmus.cli.output import Column, Columns, when
from isthmus.cli.session import Session, noun_app, verb
from isthmus.cli.suggest import suggest
from isthmus.model.address import parse_address
from isthmus.model.errors import HostFailure
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
    Column("zone", lambda host: host.zone),
    Column("desired revision", lambda host: str(host.desired_revision)),
    Column("applied revision", lambda host: str(host.applied_revision)),
    Column("created", lambda host: when(host.created_at)),
)


@verb(app, "add", "isthmus host add", "isthmus host add h2", "isthmus host add h1 --zone rack-2")
def add(
    cli: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="default: this host", show_default=False)] = "",
    *,
    zone: Annotated[str, typer.Option(metavar="ZONE", help="its availability zone; at first: nova")] = "",
) -> None:
    """Register a host. Its agent may then fetch what should be on it. A host that is known gets the zone."""
    request = HostCreate(name=name or cli.config.host, zone=zone or UNSET)
    cli.out.one(HOSTS, cli.api.create(HOSTS, request), FIELDS)


@verb(app, "list", "isthmus host list")
def list_(cli: Session) -> None:
    """List hosts, and when their agents last reported."""
    cli.out.many(HOSTS, cli.api.all(HOSTS), COLUMNS)


@verb(app, "show", "isthmus host show h1")
def show(cli: Session, name: NameArgument) -> None:
    """Show a host."""
    cli.out.one(HOSTS, cli.find(HOSTS, name), FIELDS)


@verb(app, "token", "isthmus host token h2", "isthmus -f value host token h2 > token")
def token(
    cli: Session,
    name: NameArgument,
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="for an agent in the place of one that has enrolled")
    ] = False,
    lifetime: Annotated[float, typer.Option(metavar="SECONDS", help="how long it is good")] = 3600.0,
) -> None:
    """Make a one-time token by which an agent becomes the host. It is shown this once."""
    made = cli.api.make_token(cli.key(HOSTS, name), replace=replace, lifetime=lifetime)
    cli.out.document(made, [made.token])
    cli.out.say(
        f"good until {when(made.expires_at)}; on {made.host}: isthmus host enrol --service https://SERVICE:PORT "
        "--token-file FILE"
    )


@verb(app, "enrol", "isthmus host enrol --service https://isthmus.example.org:8443 --token-file token")
def enrol(
    cli: Session,
    *,
    service: Annotated[str, typer.Option(metavar="URL", help="the service's address for agents")],
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="a file that holds the token, - for standard input; default: ask"),
    ] = None,
) -> None:
    """Give this machine its identity, by a token that `isthmus host token` made. Then run `isthmus agent` here."""
    from isthmus.agent import identity  # noqa: PLC0415 - what an agent needs is not needed to use a service

    place = identity.Place(cli.config.layout.state / "agent")
    host = identity.enrol(place, parse_address(service, "service"), _token(token_file))
    cli.out.say(f"this is host {host}; its certificate is in {place.directory}")


@verb(app, "revoke", 'isthmus host revoke h2 --reason "stolen"')
def revoke(
    cli: Session,
    name: NameArgument,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="why, for those who ask later")] = "",
) -> None:
    """End a host's certificate and grants: its agent stops presenting shares as soon as it hears of it."""
    cli.api.revoke_host(cli.key(HOSTS, name), reason)
    cli.out.say(f"host {name} is revoked; isthmus host token {name} lets it enrol anew")


def _token(path: Path | None) -> str:
    if path is None:
        asked: str = typer.prompt("Token", hide_input=True)
        return asked
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise HostFailure(f"cannot read the token in {path}: {error}") from error


@verb(app, "remove", "isthmus host remove h2")
def remove(cli: Session, name: NameArgument) -> None:
    """Forget a host that has no pools and no guests."""
    cli.api.delete(HOSTS, cli.key(HOSTS, name))
    cli.out.say(f"host {name} is removed")
