"""``isthmus guest``: virtual machines."""

from __future__ import annotations

from typing import Annotated

import typer
from msgspec import UNSET

from isthmus.cli.client import GUESTS, HOSTS
from isthmus.cli.output import Column, Columns, short, when
from isthmus.cli.session import Session, noun_app, verb
from isthmus.cli.suggest import suggest
from isthmus.model.errors import Invalid
from isthmus.wire.api import GuestCreate, GuestPatch, GuestView

app = noun_app("Guests: virtual machines that may be given shares.")

GuestArgument = Annotated[
    str, typer.Argument(metavar="GUEST", help="name, id or beginning of the id", autocompletion=suggest(GUESTS))
]

COLUMNS: Columns[GuestView] = (
    Column("id", lambda guest: short(guest.id)),
    Column("name", lambda guest: guest.name),
    Column("project", lambda guest: guest.project),
    Column("host", lambda guest: guest.host),
    Column("state", lambda guest: guest.state or "not seen"),
    Column("static", lambda guest: "yes" if guest.static else "no"),
)
FIELDS: Columns[GuestView] = (
    Column("id", lambda guest: guest.id),
    *COLUMNS[1:],
    Column("addresses", lambda guest: ", ".join(guest.addresses)),
    Column("devices", lambda guest: ", ".join(guest.plugs)),
    Column("created", lambda guest: when(guest.created_at)),
)


@verb(
    app,
    "add",
    "isthmus guest add 6f1c1f0e-5d3c-4a57-9e0c-0d6f3b1a2c4d --project demo --name web",
    "isthmus guest add 6f1c1f0e-5d3c-4a57-9e0c-0d6f3b1a2c4d --project demo --host h2 --static",
)
def add(
    cli: Session,
    uuid: Annotated[str, typer.Argument(metavar="UUID", help="the id that its hypervisor knows it by")],
    *,
    project: Annotated[str, typer.Option(metavar="PROJECT", help="whose it is: it gets shares of this project only")],
    host: Annotated[
        str, typer.Option(metavar="HOST", help="where it runs; default: this host", autocompletion=suggest(HOSTS))
    ] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="what you call it")] = "",
    static: Annotated[bool, typer.Option("--static", help="keep its link and gateway even without shares")] = False,
    address: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="an IP address of its own, for access rules; repeatable")
    ] = None,
) -> None:
    """Register a virtual machine. It need not run."""
    request = GuestCreate(
        id=uuid,
        project=project,
        host=host or cli.config.host,
        name=name,
        static=static,
        addresses=address or [],
    )
    cli.out.one(GUESTS, cli.api.create(GUESTS, request), FIELDS)


@verb(app, "list", "isthmus guest list", "isthmus guest list --project demo")
def list_(
    cli: Session,
    project: Annotated[str, typer.Option(metavar="PROJECT", help="only this project's")] = "",
    host: Annotated[
        str, typer.Option(metavar="HOST", help="only those on this host", autocompletion=suggest(HOSTS))
    ] = "",
) -> None:
    """List guests, and whether their hypervisor processes answer."""
    filters = {key: value for key, value in (("project", project), ("host", host)) if value}
    cli.out.many(GUESTS, cli.api.all(GUESTS, filters), COLUMNS)


@verb(app, "show", "isthmus guest show web")
def show(cli: Session, guest: GuestArgument) -> None:
    """Show a guest."""
    cli.out.one(GUESTS, cli.find(GUESTS, guest), FIELDS)


@verb(app, "set", "isthmus guest set web --static", "isthmus guest set web --name www --no-static")
def set_(
    cli: Session,
    guest: GuestArgument,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="what you call it from now on")] = None,
    static: Annotated[
        bool | None, typer.Option("--static/--no-static", help="keep its link and gateway even without shares")
    ] = None,
    address: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="its IP addresses from now on; repeatable, '' for none")
    ] = None,
) -> None:
    """Rename a guest, keep its link and gateway, or tell its addresses."""
    if name is None and static is None and address is None:
        raise Invalid(f"cannot change guest {guest!a}: give --name, --static, --no-static or --address")
    patch = GuestPatch(
        name=UNSET if name is None else name,
        static=UNSET if static is None else static,
        addresses=UNSET if address is None else [one for one in address if one],
    )
    cli.out.one(GUESTS, cli.api.change(GUESTS, cli.key(GUESTS, guest), patch), FIELDS)


@verb(app, "remove", "isthmus guest remove web")
def remove(cli: Session, guest: GuestArgument) -> None:
    """Forget a guest that has no attachments. The virtual machine itself is not touched."""
    key = cli.key(GUESTS, guest)
    cli.api.delete(GUESTS, key)
    cli.out.say(f"guest {key} is removed")
