"""``isthmus ca``: the authority that signs grants and hosts."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509

from isthmus.cli.output import Format, when
from isthmus.cli.session import Session, noun_app, verb
from isthmus.model.config import Config
from isthmus.model.errors import HostFailure, Invalid, Refused
from isthmus.pki import keep, profile
from isthmus.pki.authority import Authority

app = noun_app("The authority: what signs grants and hosts' certificates. On the service's machine, as its user.")

RootKeyOption = Annotated[
    Path | None,
    typer.Option("--root-key", metavar="FILE", help="the root's key; default: in the authority's directory"),
]
PassphraseOption = Annotated[
    Path | None, typer.Option("--passphrase-file", metavar="FILE", help="a file that holds the root key's passphrase")
]


def directory(config: Config) -> Path:
    """Where the authority is."""
    return config.layout.state / "ca"


@verb(
    app,
    "init",
    "isthmus ca init --root-key /media/stick/isthmus-root.key --passphrase-file /root/passphrase",
    "isthmus ca init --discard-root-key",
)
def init(
    cli: Session,
    *,
    root_key: RootKeyOption = None,
    passphrase_file: PassphraseOption = None,
    discard: Annotated[
        bool, typer.Option("--discard-root-key", help="keep it nowhere: the authority cannot be rotated then")
    ] = False,
) -> None:
    """Make the authority: a root, and an issuer below it that signs. Keep the root's key off this machine."""
    if discard and (root_key or passphrase_file):
        raise Invalid("cannot discard the root's key and keep it: leave out --discard-root-key or the other options")
    if not discard and not passphrase_file:
        raise Invalid(
            "cannot keep the root's key in clear: give --passphrase-file, or --discard-root-key", field="passphrase"
        )
    made = keep.init(
        directory(cli.config),
        now=_now(),
        passphrase=_passphrase(passphrase_file),
        root_key=root_key,
        discard=discard,
    )
    cli.out.say(f"the authority is in {directory(cli.config)}; its root is {made.root_print[:16]}...")


@verb(app, "rotate", "isthmus ca rotate --root-key /media/stick/isthmus-root.key --passphrase-file /root/passphrase")
def rotate(
    cli: Session,
    *,
    root: Annotated[bool, typer.Option("--root", help="a new root too, which hosts learn by a link")] = False,
    root_key: RootKeyOption = None,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Make a new issuer. What the one before it signed stays good; a service that runs takes it within seconds."""
    act = keep.rotate_root if root else keep.rotate_issuer
    made = act(directory(cli.config), now=_now(), passphrase=_passphrase(passphrase_file), root_key=root_key)
    cli.out.say(f"a new issuer signs, until {when(made.issuer.not_valid_after_utc)}")


@verb(app, "retire", "isthmus ca retire", "isthmus ca retire --at-once")
def retire(
    cli: Session,
    *,
    at_once: Annotated[
        bool,
        typer.Option("--at-once", help="a key may be known: hosts whose certificate is not renewed must enrol again"),
    ] = False,
) -> None:
    """Leave only the newest root and issuer. Grants and hosts' certificates of older ones are refused from then on, so
    it is not done before they have ended. Restart the service afterwards: it then takes no host of theirs."""
    place = directory(cli.config)
    from_then = keep.retirable(Authority.load(place), cli.config.grants.span)
    if _now() < from_then and not at_once:
        raise Refused(
            f"cannot retire the older issuers before {when(from_then)}: until then there may be hosts and grants that "
            "only they vouch for, and those hosts would have to enrol again: wait, or use --at-once if a key may be "
            "known",
            code="authority-in-use",
        )
    cli.out.say(f"{len(keep.retire(place))} older certificates are retired; restart the service")


@verb(app, "show", "isthmus ca show")
def show(cli: Session) -> None:
    """Show the authority's certificates, until when they are good, and what to do next."""
    authority = Authority.load(directory(cli.config))
    rows = [
        [_role(authority, one), one.subject.rfc4514_string(), when(one.not_valid_after_utc)] for one in authority.known
    ]
    if cli.out.form is Format.TABLE:
        cli.out.table(["role", "subject", "good until"], rows)
    else:
        titles = ("role", "subject", "not_after")
        serials = [f"{one.serial_number:x}" for one in authority.known]
        found = [
            {"serial": serial, **dict(zip(titles, row, strict=True))} for serial, row in zip(serials, rows, strict=True)
        ]
        cli.out.document(found, serials)
    cli.out.say(f"next: {advice(authority, now=_now(), lifetime=cli.config.grants.span)}")


def advice(authority: Authority, *, now: datetime.datetime, lifetime: datetime.timedelta) -> str:
    """What is to be done with the authority next, and when."""
    root, issuer = authority.root_certificates[0], authority.issuer
    issuer_end, root_end = issuer.not_valid_after_utc, root.not_valid_after_utc
    if issuer_end == root_end and issuer_end - issuer.not_valid_before_utc > profile.ISSUER_LIFE * 2:
        return f"nothing until {when(root_end)}; its root's key was discarded, so it cannot be rotated"
    if keep.older_issuers(authority):
        from_then = keep.retirable(authority, lifetime)
        return "isthmus ca retire" if now >= from_then else f"isthmus ca retire, from {when(from_then)} on"
    if root_end - now < profile.ISSUER_LIFE:
        return f"isthmus ca rotate --root, before {when(issuer_end)}"
    return f"isthmus ca rotate, before {when(issuer_end)}"


def _role(authority: Authority, one: x509.Certificate) -> str:
    if one == authority.issuer:
        return "issuer, signs"
    if one in authority.root_certificates:
        return "root" if one == authority.root_certificates[0] else "root, older"
    basic = one.extensions.get_extension_for_class(x509.BasicConstraints).value
    return "issuer, older" if basic.path_length == 0 else "link to a newer root"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _passphrase(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        found = path.read_bytes().strip()
    except OSError as error:
        raise HostFailure(f"cannot read the passphrase in {path}: {error.strerror}") from error
    if not found:
        raise Invalid(f"cannot use the passphrase in {path}: it is empty", field="passphrase")
    return found
