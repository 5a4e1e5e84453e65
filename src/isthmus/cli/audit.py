"""``isthmus audit``: who did what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer

from isthmus.cli.client import AUDIT, PAGE
from isthmus.cli.output import Column, Columns, when
from isthmus.cli.session import Session, noun_app, verb
from isthmus.wire.api import AuditView

app = noun_app("The audit: who did what, to which object, from where. It cannot be changed.")

UserOption = Annotated[str, typer.Option(metavar="ID", help="only what this user did")]
ProjectOption = Annotated[str, typer.Option(metavar="PROJECT", help="only what was done for this project")]
ActionOption = Annotated[str, typer.Option(metavar="RULE", help="only acts such as isthmus:shares:create")]
TargetOption = Annotated[str, typer.Option(metavar="KIND/ID", help="only acts on this object, such as share/ID")]
AfterOption = Annotated[int, typer.Option(metavar="ENTRY", min=0, help="only those that follow this one")]

COLUMNS: Columns[AuditView] = (
    Column("id", lambda entry: str(entry.id), right=True),
    Column("at", lambda entry: when(entry.at)),
    Column("who", lambda entry: entry.name or entry.user or entry.host or entry.way),
    Column("project", lambda entry: entry.project),
    Column("from", lambda entry: entry.address or entry.way),
    Column("action", lambda entry: entry.action.removeprefix("isthmus:")),
    Column("outcome", lambda entry: entry.outcome),
    Column("targets", lambda entry: " ".join(entry.targets)),
)


@verb(
    app,
    "list",
    "isthmus audit list",
    "isthmus audit list --target share/1f2e3d4c-...",
    "isthmus audit list --user root",
)
def list_(
    cli: Session,
    *,
    user: UserOption = "",
    project: ProjectOption = "",
    action: ActionOption = "",
    target: TargetOption = "",
    after: AfterOption = 0,
) -> None:
    """List entries, oldest first."""
    given = {"user": user, "project": project, "action": action, "target": target}
    cli.out.many(AUDIT, list(_entries(cli, after, given)), COLUMNS)


@verb(app, "export", "isthmus audit export > audit.jsonl", "isthmus audit export --after 4711 >> audit.jsonl")
def export(
    cli: Session,
    *,
    user: UserOption = "",
    project: ProjectOption = "",
    action: ActionOption = "",
    target: TargetOption = "",
    after: AfterOption = 0,
) -> None:
    """Write entries as JSON lines, oldest first."""
    given = {"user": user, "project": project, "action": action, "target": target}
    for entry in _entries(cli, after, given):
        typer.echo(msgspec.json.encode(entry).decode())


def _entries(cli: Session, after: int, given: dict[str, str]) -> Iterator[AuditView]:
    filters = {name: value for name, value in given.items() if value}
    while True:
        page = cli.api.page(AUDIT, {**filters, "after": str(after), "limit": str(PAGE)})
        yield from page.items
        if page.next is None:
            return
        after = int(page.next)
