"""``isthmus event``: what happened."""

from __future__ import annotations

from typing import Annotated

import typer

from isthmus.cli.client import EVENTS, PAGE
from isthmus.cli.output import Column, Columns, when
from isthmus.cli.session import Session, noun_app, verb
from isthmus.wire.api import EventView

app = noun_app("Events: what happened to shares, attachments and all else.")

POLL_SECONDS = 30.0

COLUMNS: Columns[EventView] = (
    Column("id", lambda event: str(event.id), right=True),
    Column("at", lambda event: when(event.at)),
    Column("kind", lambda event: event.kind),
    Column("subject", lambda event: event.subject),
    Column("status", lambda event: event.after),
    Column("message", lambda event: event.message),
)


@verb(
    app,
    "list",
    "isthmus event list",
    "isthmus event list --subject 1f2e3d4c-... --follow",
    "isthmus event list --after 100",
)
def list_(
    cli: Session,
    subject: Annotated[str, typer.Option(metavar="ID", help="only those about the object of this id or name")] = "",
    after: Annotated[int, typer.Option(metavar="EVENT", min=0, help="only those that follow this one")] = 0,
    follow: Annotated[bool, typer.Option("--follow", help="go on with what happens, until interrupted")] = False,
) -> None:
    """List events, oldest first."""
    filters = {"subject": subject} if subject else {}
    if follow:
        while True:
            for event in cli.api.events(after, POLL_SECONDS, filters):
                cli.out.line(event, EVENTS.key_of(event), _line(event))
                after = event.id
    found: list[EventView] = []
    while True:
        some = cli.api.events(after, 0, filters)
        found += some
        if len(some) < PAGE:
            break
        after = some[-1].id
    cli.out.many(EVENTS, found, COLUMNS)


def _line(event: EventView) -> str:
    return f"{when(event.at)}  {event.kind} {event.subject}  {event.after:<10}  {event.message}"
