"""``isthmus type``: kinds of shares. (A module cannot be called ``type`` without hiding the built-in.)"""

from __future__ import annotations

from typing import Annotated

import typer

from isthmus.cli.client import TYPES
from isthmus.cli.output import Column, Columns, when
from isthmus.cli.session import Session, noun_app, verb
from isthmus.cli.suggest import suggest
from isthmus.model.share import Filesystem
from isthmus.wire.api import TypeCreate, TypeView

app = noun_app("Share types: what kind of share a tenant may ask for.")

COLUMNS: Columns[TypeView] = (
    Column("name", lambda kind: kind.name),
    Column("filesystem", lambda kind: kind.filesystem),
    Column("checksums", lambda kind: "yes" if kind.checksums else "no"),
    Column("created", lambda kind: when(kind.created_at)),
)


@verb(
    app,
    "create",
    "isthmus type create checked --filesystem btrfs --checksums",
    "isthmus type create x --filesystem xfs",
)
def create(
    cli: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="the type's name")],
    filesystem: Annotated[
        Filesystem, typer.Option(metavar="FS", help="btrfs (snapshots), xfs or ext4")
    ] = Filesystem.BTRFS,
    checksums: Annotated[
        bool, typer.Option("--checksums", help="keep data checksums (btrfs), at the price of slow small writes")
    ] = False,
) -> None:
    """Offer a kind of share."""
    request = TypeCreate(name=name, filesystem=filesystem, checksums=checksums)
    cli.out.one(TYPES, cli.api.create(TYPES, request), COLUMNS)


@verb(app, "list", "isthmus type list")
def list_(cli: Session) -> None:
    """List the kinds of shares."""
    cli.out.many(TYPES, cli.api.all(TYPES), COLUMNS)


@verb(app, "delete", "isthmus type delete checked")
def delete(
    cli: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="the type", autocompletion=suggest(TYPES))],
) -> None:
    """Offer a kind of share no longer. Not while shares are of it."""
    cli.api.delete(TYPES, cli.key(TYPES, name))
    cli.out.say(f"type {name} is deleted")
