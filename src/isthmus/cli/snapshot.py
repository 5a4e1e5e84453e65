"""``isthmus snapshot``: points in time of a share."""

from __future__ import annotations

from typing import Annotated

import typer

from isthmus.cli.client import SHARES, SNAPSHOTS
from isthmus.cli.output import Column, Columns, short, when
from isthmus.cli.session import DEFAULT_TIMEOUT, Session, TimeoutOption, WaitOption, noun_app, verb
from isthmus.cli.suggest import suggest
from isthmus.model.names import new_id
from isthmus.wire.api import SnapshotCreate, SnapshotView

app = noun_app("Snapshots: a share's data at one instant.")

SnapshotArgument = Annotated[
    str, typer.Argument(metavar="SNAPSHOT", help="name, id or beginning of the id", autocompletion=suggest(SNAPSHOTS))
]

COLUMNS: Columns[SnapshotView] = (
    Column("id", lambda snapshot: short(snapshot.id)),
    Column("name", lambda snapshot: snapshot.name),
    Column("share", lambda snapshot: short(snapshot.share)),
    Column("project", lambda snapshot: snapshot.project),
    Column("created", lambda snapshot: when(snapshot.created_at)),
    Column("status", lambda snapshot: snapshot.status),
    Column("reason", lambda snapshot: snapshot.reason),
)
FIELDS: Columns[SnapshotView] = (
    Column("id", lambda snapshot: snapshot.id),
    COLUMNS[1],
    Column("share", lambda snapshot: snapshot.share),
    *COLUMNS[3:],
)


@verb(app, "create", "isthmus snapshot create photos --name before-upgrade")
def create(
    cli: Session,
    share: Annotated[
        str, typer.Argument(metavar="SHARE", help="name, id or beginning of the id", autocompletion=suggest(SHARES))
    ],
    *,
    name: Annotated[str, typer.Option(metavar="NAME", help="what you call it")] = "",
    id_: Annotated[str, typer.Option("--id", metavar="UUID", help="its id: makes the command safe to repeat")] = "",
    wait: WaitOption = True,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
) -> None:
    """Take a snapshot of a share, and wait until it is there. It holds what guests have written and synced."""
    request = SnapshotCreate(share=cli.key(SHARES, share), name=name, id=id_ or new_id())
    snapshot = cli.api.create(SNAPSHOTS, request)
    if wait:
        doing = f"take snapshot {snapshot.id}"
        snapshot = cli.settled(SNAPSHOTS, snapshot, ("available",), doing, timeout)
    cli.out.one(SNAPSHOTS, snapshot, FIELDS)


@verb(app, "list", "isthmus snapshot list", "isthmus snapshot list --share photos")
def list_(
    cli: Session,
    share: Annotated[
        str, typer.Option(metavar="SHARE", help="only those of this share", autocompletion=suggest(SHARES))
    ] = "",
) -> None:
    """List snapshots."""
    filters = {"share": cli.key(SHARES, share)} if share else {}
    cli.out.many(SNAPSHOTS, cli.api.all(SNAPSHOTS, filters), COLUMNS)


@verb(app, "show", "isthmus snapshot show before-upgrade")
def show(cli: Session, snapshot: SnapshotArgument) -> None:
    """Show a snapshot."""
    cli.out.one(SNAPSHOTS, cli.find(SNAPSHOTS, snapshot), FIELDS)


@verb(app, "delete", "isthmus snapshot delete before-upgrade")
def delete(
    cli: Session, snapshot: SnapshotArgument, wait: WaitOption = True, timeout: TimeoutOption = DEFAULT_TIMEOUT
) -> None:
    """Delete a snapshot. The share and its other snapshots stay."""
    key = cli.key(SNAPSHOTS, snapshot)
    view = cli.api.delete(SNAPSHOTS, key)
    if wait:
        cli.gone(SNAPSHOTS, view, f"delete snapshot {key}", timeout)
        cli.out.say(f"snapshot {key} is deleted")
