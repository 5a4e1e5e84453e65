"""``isthmus grant``: the signed certificates by which hosts present shares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.client import ATTACHMENTS, GRANTS
from isthmus.cli.output import Column, Columns, short, when
from isthmus.cli.session import Session, noun_app, verb
from isthmus.cli.suggest import suggest
from isthmus.model.errors import Invalid, NotFound
from isthmus.pki.authority import certificates
from isthmus.pki.show import describe
from isthmus.wire.api import GrantView

app = noun_app("Grants: certificates, one for each attachment, without which no host presents a share.")

AttachmentArgument = Annotated[
    str,
    typer.Argument(metavar="ATTACHMENT", help="id or beginning of the id", autocompletion=suggest(ATTACHMENTS)),
]


def _state(grant: GrantView) -> str:
    return "in force" if grant.ended_at is None else f"ended: {grant.reason}"


COLUMNS: Columns[GrantView] = (
    Column("serial", lambda grant: grant.serial[:16]),
    Column("attachment", lambda grant: short(grant.attachment)),
    Column("project", lambda grant: grant.project),
    Column("host", lambda grant: grant.host),
    Column("good until", lambda grant: when(grant.not_after)),
    Column("state", _state),
)


@verb(app, "list", "isthmus grant list", "isthmus grant list --attachment 1f2e3d4c")
def list_(
    cli: Session,
    attachment: Annotated[str, typer.Option(metavar="ATTACHMENT", help="only those of this attachment")] = "",
    host: Annotated[str, typer.Option(metavar="HOST", help="only those on this host")] = "",
) -> None:
    """List grants that have not come to the end of their time."""
    filters = {"attachment": cli.find(ATTACHMENTS, attachment).id} if attachment else {}
    filters |= {"host": host} if host else {}
    cli.out.many(GRANTS, cli.api.all(GRANTS, filters), COLUMNS)


@verb(app, "show", "isthmus grant show 5b0ef6c2a9d1", "isthmus grant show ./grant.pem")
def show(
    cli: Session,
    grant: Annotated[str, typer.Argument(metavar="SERIAL|FILE", help="its serial number, or a PEM file")],
) -> None:
    """Show a grant as openssl would, with what it means."""
    path = Path(grant)
    if path.is_file():
        found = certificates(path.read_bytes())
        if not found:
            raise Invalid(f"cannot show {path}: it holds no certificate")
        cli.out.lines(describe(found[0]).splitlines())
        return
    matching = [one for one in cli.api.all(GRANTS) if one.serial.startswith(grant.lower())]
    if not matching:
        raise NotFound("grant", grant)
    for one in matching:
        cli.out.lines([*describe(certificates(one.certificate.encode())[0]).splitlines(), f"State: {_state(one)}"])


@verb(app, "revoke", 'isthmus grant revoke 1f2e3d4c --reason "key may be known"')
def revoke(
    cli: Session,
    attachment: AttachmentArgument,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="why, for those who ask later")] = "",
) -> None:
    """End an attachment's grant, and give it no other: its host stops presenting the share when it hears of it."""
    row = cli.find(ATTACHMENTS, attachment)
    cli.api.revoke_grant(row.id, reason)
    cli.out.say(f"the grant of attachment {row.id} is revoked; isthmus grant renew gives it another")


@verb(app, "renew", "isthmus grant renew 1f2e3d4c")
def renew(cli: Session, attachment: AttachmentArgument) -> None:
    """Give an attachment a new grant, also after one was revoked."""
    row = cli.find(ATTACHMENTS, attachment)
    cli.api.renew_grant(row.id)
    cli.out.say(f"attachment {row.id} gets a new grant")
