"""The program ``isthmus``."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from isthmus import __version__
from isthmus.cli import (
    attachment,
    audit,
    ca,
    doctor,
    event,
    grant,
    guest,
    host,
    kind,
    policy,
    pool,
    run,
    share,
    snapshot,
    user,
)
from isthmus.cli.output import Format
from isthmus.cli.session import FormatOption, Options, QuietOption, noun_app

HELP = """Shared file systems for virtual machines, through their hypervisor host.

\b
A first hour:
  isthmus up                                   service and agent, in a terminal of their own
  isthmus pool create disk --path /srv/isthmus
  isthmus share create photos --project demo --pool disk --size 10G
  isthmus guest add UUID --project demo --name web
  isthmus attach photos web                    prints what to type in the guest

Nouns take verbs: `isthmus share --help`, `isthmus share create --help`."""
EPILOG = """\b
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 conflict, 5 refused, 6 no room,
7 the service does not answer, 8 the wait timed out, 9 not allowed."""

app = noun_app(HELP)
for name, noun in (
    ("host", host.app),
    ("pool", pool.app),
    ("type", kind.app),
    ("share", share.app),
    ("snapshot", snapshot.app),
    ("guest", guest.app),
):
    app.add_typer(noun, name=name)
attachment.register(app)
app.add_typer(attachment.app, name="attachment")
app.add_typer(event.app, name="event")
app.add_typer(grant.app, name="grant")
app.add_typer(audit.app, name="audit")
app.add_typer(user.app, name="user")
app.add_typer(policy.app, name="policy")
app.add_typer(ca.app, name="ca")
doctor.register(app)
run.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"isthmus {__version__}")
        raise typer.Exit


@app.callback(help=HELP, epilog=EPILOG, no_args_is_help=True)
def root(
    context: typer.Context,
    *,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="the configuration; default: /etc/isthmus/isthmus.toml")
    ] = None,
    api: Annotated[
        str | None,
        typer.Option(metavar="URL", envvar="ISTHMUS_API", help="the service: unix:/PATH or http://127.0.0.1:PORT"),
    ] = None,
    form: FormatOption = None,
    quiet: QuietOption = False,
    version: Annotated[  # noqa: ARG001 - its callback answers
        bool, typer.Option("--version", callback=_version, is_eager=True, help="say which version this is")
    ] = False,
) -> None:
    """Keep what stands before the noun."""
    context.obj = Options(config, api, form or Format.TABLE, quiet)


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command. Ends by ``SystemExit`` with a code of ``cli.exits``."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names may hold what the terminal's encoding has not
        sys.stdout.reconfigure(errors="backslashreplace")
    app(args=argv, prog_name="isthmus")
