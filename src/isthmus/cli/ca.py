"""``isthmus ca``: the authority that signs grants and hosts."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509

from isthmus.cli.output import when
from isthmus.cli.session import Session, noun_app, verb
from isthmus.model.config import Config
from isthmus.model.errors import HostFailure, Invalid
from isthmus.pki import keep
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


@verb(app, "retire", "isthmus ca retire")
def retire(cli: Session) -> None:
    """Leave only the newest root and issuer. Grants and certificates of others are refused from then on: do it when
    all have been renewed."""
    dropped = keep.retire(directory(cli.config))
    cli.out.say(f"{len(dropped)} older certificates are retired")


@verb(app, "show", "isthmus ca show")
def show(cli: Session) -> None:
    """Show the authority's certificates, and until when they are good."""
    authority = Authority.load(directory(cli.config))
    rows = [
        [_role(authority, one), one.subject.rfc4514_string(), when(one.not_valid_after_utc)] for one in authority.known
    ]
    cli.out.table(["role", "subject", "good until"], rows)


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
