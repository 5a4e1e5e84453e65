"""``isthmus share``: virtual file shares."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from isthmus.cli.client import POOLS, SHARES, SNAPSHOTS, TYPES, Noun
from isthmus.cli.output import Column, Columns, short, size, when
from isthmus.cli.session import DEFAULT_TIMEOUT, Session, TimeoutOption, WaitOption, noun_app, verb
from isthmus.cli.suggest import suggest
from isthmus.model.errors import Invalid
from isthmus.model.names import new_id, parse_size
from isthmus.wire.api import ShareCreate, SharePatch, ShareView

app = noun_app("Shares: file systems that guests are given.")

ShareArgument = Annotated[
    str, typer.Argument(metavar="SHARE", help="name, id or beginning of the id", autocompletion=suggest(SHARES))
]
STEADY = ("available",)

COLUMNS: Columns[ShareView] = (
    Column("id", lambda share: short(share.id)),
    Column("name", lambda share: share.name),
    Column("project", lambda share: share.project),
    Column("pool", lambda share: share.pool),
    Column("type", lambda share: share.type),
    Column("size", lambda share: size(share.size), right=True),
    Column("used", lambda share: size(share.used), right=True),
    Column("status", lambda share: share.status),
    Column("reason", lambda share: share.reason),
)
FIELDS: Columns[ShareView] = (
    Column("id", lambda share: share.id),
    *COLUMNS[1:],
    Column("host", lambda share: share.host),
    Column("public", lambda share: "yes" if share.public else "no"),
    Column("filesystem", lambda share: share.filesystem + (", checksums" if share.checksums else "")),
    Column("volume", lambda share: share.volume),
    Column("copy of share", lambda share: share.source_share or ""),
    Column("copy of snapshot", lambda share: share.source_snapshot or ""),
    Column("created", lambda share: when(share.created_at)),
)


@verb(
    app,
    "create",
    "isthmus share create photos --project demo --pool disk --size 10G",
    "isthmus share create copy --project demo --pool disk --size 10G --from-snapshot before-upgrade",
    "isthmus -f value share create photos --project demo --pool disk --size 10G --no-wait",
)
def create(
    cli: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="what you call it; need not be unique")],
    *,
    project: Annotated[str, typer.Option(metavar="PROJECT", help="whose it is; default: yours")] = "",
    pool: Annotated[str, typer.Option(metavar="POOL", help="where it is kept", autocompletion=suggest(POOLS))],
    size: Annotated[str, typer.Option(metavar="SIZE", help="bytes, or 512M, 10G, 1T; a hard limit")],
    type_: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="see `isthmus type list`", autocompletion=suggest(TYPES))
    ] = "default",
    from_snapshot: Annotated[
        str, typer.Option(metavar="SNAPSHOT", help="begin as a copy of it", autocompletion=suggest(SNAPSHOTS))
    ] = "",
    from_share: Annotated[
        str, typer.Option(metavar="SHARE", help="begin as a copy of its present data", autocompletion=suggest(SHARES))
    ] = "",
    public: Annotated[bool, typer.Option("--public", help="other projects may read of it, not its data")] = False,
    id_: Annotated[str, typer.Option("--id", metavar="UUID", help="its id: makes the command safe to repeat")] = "",
    wait: WaitOption = True,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
) -> None:
    """Ask for a share, and wait until it is there."""
    if from_snapshot and from_share:
        raise Invalid(f"cannot create share {name!a}: give --from-snapshot or --from-share, not both")
    request = ShareCreate(
        name=name,
        project=project or None,
        pool=pool,
        size=parse_size(size),
        type=type_,
        public=public,
        id=id_ or new_id(),
        source_snapshot=_origin(cli, SNAPSHOTS, from_snapshot),
        source_share=_origin(cli, SHARES, from_share),
    )
    _finish(cli, cli.api.create(SHARES, request), "create", timeout if wait else None)


@verb(app, "list", "isthmus share list", "isthmus share list --project demo", "isthmus -f value share list --pool disk")
def list_(
    cli: Session,
    project: Annotated[str, typer.Option(metavar="PROJECT", help="only this project's")] = "",
    pool: Annotated[
        str, typer.Option(metavar="POOL", help="only those in this pool", autocompletion=suggest(POOLS))
    ] = "",
) -> None:
    """List shares."""
    filters = {key: value for key, value in (("project", project), ("pool", pool)) if value}
    cli.out.many(SHARES, cli.api.all(SHARES, filters), COLUMNS)


@verb(app, "show", "isthmus share show photos", "isthmus -f json share show 1f2e")
def show(cli: Session, share: ShareArgument) -> None:
    """Show a share."""
    cli.out.one(SHARES, cli.find(SHARES, share), FIELDS)


@verb(app, "resize", "isthmus share resize photos 20G")
def resize(
    cli: Session,
    share: ShareArgument,
    size: Annotated[str, typer.Argument(metavar="SIZE", help="its new size: bytes, or 512M, 10G, 1T")],
    wait: WaitOption = True,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
) -> None:
    """Give a share another size, while guests use it. Shrinking works where the file system can (btrfs)."""
    patch = SharePatch(size=parse_size(size))
    _finish(cli, cli.api.change(SHARES, cli.key(SHARES, share), patch), "resize", timeout if wait else None)


@verb(app, "rename", "isthmus share rename photos pictures")
def rename(
    cli: Session,
    share: ShareArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="what you call it from now on")],
) -> None:
    """Call a share by another name. Places of its attachments stay as they are."""
    cli.out.one(SHARES, cli.api.change(SHARES, cli.key(SHARES, share), SharePatch(name=name)), FIELDS)


@verb(app, "set", "isthmus share set photos --public")
def set_(
    cli: Session,
    share: ShareArgument,
    *,
    public: Annotated[bool | None, typer.Option("--public/--private", help="other projects may read of it")] = None,
) -> None:
    """Change who may read of a share. Its data is its project's guests' in any case."""
    if public is None:
        raise Invalid("cannot tell what to change: give --public or --private", field="public")
    cli.out.one(SHARES, cli.api.change(SHARES, cli.key(SHARES, share), SharePatch(public=public)), FIELDS)


@verb(app, "revert", "isthmus share revert photos before-upgrade")
def revert(
    cli: Session,
    share: ShareArgument,
    snapshot: Annotated[
        str, typer.Argument(metavar="SNAPSHOT", help="name, id or beginning", autocompletion=suggest(SNAPSHOTS))
    ],
    wait: WaitOption = True,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
) -> None:
    """Bring a share back to one of its snapshots. What was written since is lost; all snapshots stay.

    Guests that have the share mounted must mount it anew: file handles of the data before it are stale.
    """
    subject = cli.find(SHARES, share)
    origin = cli.find(SNAPSHOTS, snapshot, share=subject.id)
    _finish(cli, cli.api.revert(subject.id, origin.id), "revert", timeout if wait else None)


@verb(app, "delete", "isthmus share delete photos")
def delete(
    cli: Session, share: ShareArgument, wait: WaitOption = True, timeout: TimeoutOption = DEFAULT_TIMEOUT
) -> None:
    """Delete a share with all its data. Not while it has attachments or snapshots."""
    key = cli.key(SHARES, share)
    view = cli.api.delete(SHARES, key)
    if wait:
        cli.gone(SHARES, view, f"delete share {key}", timeout)
        cli.out.say(f"share {key} is deleted")


def _finish(cli: Session, share: ShareView, doing: str, seconds: float | None) -> None:
    if seconds is not None:
        share = cli.settled(SHARES, share, STEADY, f"{doing} share {share.id}", seconds)
    cli.out.one(SHARES, share, FIELDS)


def _origin(cli: Session, noun: Noun[Any], text: str) -> str | None:
    return cli.key(noun, text) if text else None
