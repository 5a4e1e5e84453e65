"""The authority's directory: making it, and rotating what is in it.

The issuer's file is written last, and files are replaced as a whole. So what is interrupted leaves the authority as it
was, or none, and can be done again. One at a time writes: the directory is locked (flock) meanwhile.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.model.errors import Conflict, Exhausted, HostFailure, Refused
from isthmus.pki import profile, signing
from isthmus.pki.authority import AUTHORITIES, ISSUER, ROOT_KEY, ROOTS, Authority, none_in
from isthmus.pki.request import key_pem, load_key, new_key


def exists(directory: Path) -> bool:
    """There is an authority in ``directory``."""
    return (directory / ISSUER).exists()


def init(
    directory: Path,
    *,
    now: datetime.datetime,
    passphrase: bytes | None = None,
    root_key: Path | None = None,
    discard: bool = False,
) -> Authority:
    """A new authority: a root, and an issuer below it. The root's key goes to ``root_key`` (default: ``root.key`` in
    the directory), encrypted if there is a ``passphrase``; ``discard``: nowhere, and the issuer then lasts as long as
    the root, as there will be no other.

    Raises ``Conflict`` if there is an authority already, or a file where the root's key would go; ``HostFailure``.
    """
    with _writing(directory, make=True):
        if exists(directory):
            raise Conflict(
                f"cannot make an authority in {directory}: there is one: see `isthmus ca show`", code="authority-exists"
            )
        top = new_key()
        root = _new_root(top, now)
        key = new_key()
        issuer = signing.make_issuer(root, top, key.public_key(), now=now, lasting=discard)
        if not discard:
            _keep_root_key(root_key or directory / ROOT_KEY, top, passphrase, fresh=root_key is not None)
        _write_all(directory, [root], [root, issuer], issuer, key)
        return Authority.load(directory)


def rotate_issuer(
    directory: Path, *, now: datetime.datetime, passphrase: bytes | None = None, root_key: Path | None = None
) -> Authority:
    """A new issuer signs from now on; what the one before it signed stays good. Raises ``Refused`` without the root's
    key, ``Invalid`` for a wrong passphrase, ``Unavailable`` without an authority, ``Exhausted`` if there are as many
    older ones as agents read."""
    with _writing(directory):
        before = Authority.load(directory)
        top = _root_key(directory, before, root_key, passphrase)
        key = new_key()
        issuer = signing.make_issuer(before.root_certificates[0], top, key.public_key(), now=now)
        known = _readable([*_current(before.known, now), issuer])
        _write_all(directory, before.root_certificates, known, issuer, key)
        return Authority.load(directory)


def rotate_root(
    directory: Path, *, now: datetime.datetime, passphrase: bytes | None = None, root_key: Path | None = None
) -> Authority:
    """A new root and issuer, and a link certificate by which whoever trusts the old root learns the new one. The new
    root's key takes the place of the old one's. Raises as ``rotate_issuer``."""
    with _writing(directory):
        before = Authority.load(directory)
        old = _root_key(directory, before, root_key, passphrase)
        top, key = new_key(), new_key()
        root = _new_root(top, now)
        link = signing.make_link(before.root_certificates[0], old, root, now=now)
        issuer = signing.make_issuer(root, top, key.public_key(), now=now)
        roots = [root, *_current(before.root_certificates, now)]
        known = _readable([root, *_current(before.known, now), link, issuer])
        # The new key stands beside the old one until the authority is whole: a crash loses neither.
        place = root_key or directory / ROOT_KEY
        beside = place.with_name(place.name + ".new")
        _write(beside, key_pem(top, passphrase))
        _write_all(directory, roots, known, issuer, key)
        beside.replace(place)
        return Authority.load(directory)


def older_issuers(authority: Authority) -> tuple[x509.Certificate, ...]:
    """Those that do not sign any more."""
    return tuple(
        one
        for one in authority.known
        if one != authority.issuer
        and one.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    )


def retirable(authority: Authority, lifetime: datetime.timedelta) -> datetime.datetime:
    """From when on nothing that an older issuer signed is in force any more, grants having this ``lifetime``."""
    began = authority.issuer.not_valid_before_utc + profile.BACKDATED
    longest = began + max(lifetime, profile.HOST_LIFE, profile.SERVER_LIFE)
    return max((min(longest, one.not_valid_after_utc) for one in older_issuers(authority)), default=began)


def retire(directory: Path) -> tuple[x509.Certificate, ...]:
    """Only the newest root and the issuer in use are left: what others signed is refused once agents have read their
    next document, and a host whose certificate others signed has to enrol again: see ``retirable``. Returns what was
    dropped. Raises ``Unavailable`` without an authority."""
    with _writing(directory):
        before = Authority.load(directory)
        root = before.root_certificates[0]
        kept = [root, before.issuer]
        _write_all(directory, [root], kept, before.issuer, before.issuer_key)
    return tuple(one for one in before.known if one not in kept)


def _new_root(key: ec.EllipticCurvePrivateKey, now: datetime.datetime) -> x509.Certificate:
    return signing.make_root(key, name=f"Isthmus root {now:%Y-%m-%d} {os.urandom(4).hex()}", now=now)


def _current(known: Iterable[x509.Certificate], now: datetime.datetime) -> list[x509.Certificate]:
    return [one for one in known if one.not_valid_after_utc > now]


def _readable(known: list[x509.Certificate]) -> list[x509.Certificate]:
    if len(known) > profile.MOST_AUTHORITIES:
        raise Exhausted(
            f"cannot rotate: there would be more than the {profile.MOST_AUTHORITIES} certificates that agents read: "
            "retire the older ones first with `isthmus ca retire`"
        )
    return known


def _root_key(
    directory: Path, authority: Authority, root_key: Path | None, passphrase: bytes | None
) -> ec.EllipticCurvePrivateKey:
    place = root_key or directory / ROOT_KEY
    beside = place.with_name(place.name + ".new")
    for candidate in (place, beside):
        try:
            key = load_key(candidate.read_bytes(), passphrase)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise HostFailure(f"cannot read the root key {candidate}: {error.strerror}") from error
        if key.public_key() == authority.root_certificates[0].public_key():
            if candidate == beside:  # a rotation of the root was cut short: what comes now must not write over its key
                beside.replace(place)
            return key
    raise Refused(
        f"cannot rotate: the key of the present root is not in {place}: say where it is with --root-key; if it was "
        "discarded, make a new authority and enrol the hosts again",
        code="root-key-missing",
    )


def _keep_root_key(place: Path, key: ec.EllipticCurvePrivateKey, passphrase: bytes | None, *, fresh: bool) -> None:
    if fresh and place.exists():
        raise Conflict(f"cannot keep the root key in {place}: there is a file: move it away", code="file-exists")
    _write(place, key_pem(key, passphrase))


def _write_all(
    directory: Path,
    roots: Iterable[x509.Certificate],
    known: Iterable[x509.Certificate],
    issuer: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
) -> None:
    _write(directory / AUTHORITIES, b"".join(one.public_bytes(Encoding.PEM) for one in known))
    _write(directory / ROOTS, b"".join(one.public_bytes(Encoding.PEM) for one in roots))
    _write(directory / ISSUER, key_pem(key) + issuer.public_bytes(Encoding.PEM))


def _write(path: Path, body: bytes) -> None:
    """The file holds ``body``, and nobody but its owner reads it; after a crash, it is whole or as it was."""
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _writing(directory: Path, *, make: bool = False) -> Iterator[None]:
    """Nobody else writes the authority meanwhile; waits for who does."""
    try:
        if make:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise none_in(directory) from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)
    except OSError as error:
        raise HostFailure(f"cannot write the authority in {directory}: {error.strerror or error}") from error
