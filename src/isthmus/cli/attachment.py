"""``isthmus attach``, ``detach`` and ``attachment``: shares in guests."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import typer

from isthmus.cli.client import ATTACHMENTS, GUESTS, SHARES, NotFoundHere
from isthmus.cli.output import Column, Columns, short, when
from isthmus.cli.session import DEFAULT_TIMEOUT, Session, TimeoutOption, WaitOption, noun_app, verb
from isthmus.cli.suggest import suggest
from isthmus.model.attachment import Access
from isthmus.model.layout import mac_of
from isthmus.model.names import GuestId, new_id
from isthmus.wire.api import AttachmentCreate, AttachmentView

app = noun_app("Attachments: shares that guests have.")

ShareArgument = Annotated[
    str, typer.Argument(metavar="SHARE", help="name, id or beginning of the id", autocompletion=suggest(SHARES))
]
GuestArgument = Annotated[
    str, typer.Argument(metavar="GUEST", help="name, id or beginning of the id", autocompletion=suggest(GUESTS))
]

COLUMNS: Columns[AttachmentView] = (
    Column("id", lambda attachment: short(attachment.id)),
    Column("share", lambda attachment: short(attachment.share)),
    Column("guest", lambda attachment: short(attachment.guest)),
    Column("at", lambda attachment: attachment.at),
    Column("mode", lambda attachment: attachment.mode),
    Column("access", lambda attachment: attachment.access),
    Column("status", lambda attachment: attachment.status),
    Column("reason", lambda attachment: attachment.reason),
)


def register(root: typer.Typer) -> None:
    """The verbs without a noun, on the program itself."""
    verb(
        root,
        "attach",
        "isthmus attach photos web",
        "isthmus attach photos web --at /data/photos --ro",
    )(attach)
    verb(root, "detach", "isthmus detach photos web", "isthmus detach 3c9a")(detach)


def attach(
    cli: Session,
    share: ShareArgument,
    guest: GuestArgument,
    *,
    at: Annotated[
        str | None, typer.Option(metavar="PLACE", help="where the guest finds it; default: / and the share's name")
    ] = None,
    read_only: Annotated[bool, typer.Option("--ro", help="the guest may only read")] = False,
    mode: Annotated[str, typer.Option(metavar="MODE", help="nfs, or auto to let Isthmus choose")] = "auto",
    id_: Annotated[str, typer.Option("--id", metavar="UUID", help="its id: makes the command safe to repeat")] = "",
    wait: WaitOption = True,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
) -> None:
    """Give a guest a share, and wait until the guest can mount it. Prints what to type in the guest."""
    request = AttachmentCreate(
        share=cli.key(SHARES, share),
        guest=cli.key(GUESTS, guest),
        at=at,
        mode=mode,
        access=Access.RO if read_only else Access.RW,
        id=id_ or new_id(),
    )
    attachment = cli.api.create(ATTACHMENTS, request)
    if wait:
        doing = f"attach share {attachment.share} to guest {attachment.guest}"
        attachment = cli.settled(ATTACHMENTS, attachment, ("attached", "waiting"), doing, timeout)
    cli.out.one(ATTACHMENTS, attachment, _fields(cli))


def detach(
    cli: Session,
    first: Annotated[
        str,
        typer.Argument(
            metavar="ATTACHMENT|SHARE", help="an attachment's id, or a share", autocompletion=suggest(SHARES)
        ),
    ],
    guest: Annotated[
        str, typer.Argument(metavar="GUEST", help="with a share: from whom", autocompletion=suggest(GUESTS))
    ] = "",
    wait: WaitOption = True,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
) -> None:
    """Take a share from a guest, and wait until it is gone. The guest loses access at once, mounted or not.

    Unmount it in the guest first. If it was the guest's last share and the guest is not --static, its gateway goes too,
    and programs in the guest that still use the mount hang.
    """
    key = _between(cli, first, guest).id if guest else cli.key(ATTACHMENTS, first)
    view = cli.api.delete(ATTACHMENTS, key)
    if wait:
        cli.gone(ATTACHMENTS, view, f"detach attachment {key}", timeout)
        cli.out.say(f"attachment {key} is detached")


@verb(app, "list", "isthmus attachment list", "isthmus attachment list --guest web")
def list_(
    cli: Session,
    share: Annotated[str, typer.Option(metavar="SHARE", help="only of it", autocompletion=suggest(SHARES))] = "",
    guest: Annotated[str, typer.Option(metavar="GUEST", help="only its", autocompletion=suggest(GUESTS))] = "",
) -> None:
    """List attachments."""
    filters = {
        **({"share": cli.key(SHARES, share)} if share else {}),
        **({"guest": cli.key(GUESTS, guest)} if guest else {}),
    }
    cli.out.many(ATTACHMENTS, cli.api.all(ATTACHMENTS, filters), COLUMNS)


@verb(app, "show", "isthmus attachment show 3c9a")
def show(
    cli: Session,
    attachment: Annotated[
        str, typer.Argument(metavar="ATTACHMENT", help="id or its beginning", autocompletion=suggest(ATTACHMENTS))
    ],
) -> None:
    """Show an attachment, and what to type in the guest."""
    cli.out.one(ATTACHMENTS, cli.find(ATTACHMENTS, attachment), _fields(cli))


def mount_commands(attachment: AttachmentView, network: str) -> dict[str, str]:
    """What a guest's user types, by the address that it uses (pure). ``network``: the gateway's end of the link."""
    gateway = ipaddress.IPv4Interface(network)
    quoted = f"'{attachment.at}'" if " " in attachment.at else attachment.at
    options = "ro,vers=4.2" if attachment.access is Access.RO else "vers=4.2"
    return {
        "network card": f"the guest's NIC with MAC {mac_of(GuestId(attachment.guest))}, here called eth0",
        "address": f"ip link set eth0 up; ip address add {gateway.ip + 1}/31 dev eth0",
        "mount": f"mount -t nfs -o {options} {gateway.ip}:{quoted} /mnt",
        "mount (IPv6)": f"mount -t nfs -o {options} '[fe80::1%eth0]:{attachment.at}' /mnt",
    }


def _fields(cli: Session) -> tuple[Column[AttachmentView], ...]:
    network = cli.config.network
    return (
        Column("id", lambda attachment: attachment.id),
        Column("share", lambda attachment: attachment.share),
        Column("guest", lambda attachment: attachment.guest),
        *COLUMNS[3:],
        Column("why this mode", lambda attachment: attachment.mode_reason),
        Column("created", lambda attachment: when(attachment.created_at)),
        *(
            Column(title, lambda attachment, title=title: mount_commands(attachment, network)[title])  # type: ignore[misc]
            for title in ("network card", "address", "mount", "mount (IPv6)")
        ),
    )


def _between(cli: Session, share: str, guest: str) -> AttachmentView:
    share_id, guest_id = cli.key(SHARES, share), cli.key(GUESTS, guest)
    found = cli.api.all(ATTACHMENTS, {"share": share_id, "guest": guest_id})
    if not found:
        raise NotFoundHere(
            f"cannot detach: guest {guest_id} does not have share {share_id}: see `isthmus attachment list`"
        )
    return found[0]
