"""The authority that signs grants, hosts and servers: an issuer's key, and the certificates from it up to the root."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.model.errors import Invalid, Unavailable
from isthmus.model.grant import Grant
from isthmus.model.names import HostName
from isthmus.pki import signing
from isthmus.pki.request import key_print, load_key

ROOTS = "roots.pem"
"""The roots, newest first."""
AUTHORITIES = "authorities.pem"
"""Roots, link certificates and issuers: all that an agent needs between a grant and the root that it trusts."""
ISSUER = "issuer.pem"
"""The issuer's key and certificate. There is an authority if there is this file: it is written last."""
ROOT_KEY = "root.key"

MAX_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class Authority:
    """``service.signing.Signer`` over keys in memory. ``issuer_key`` signs."""

    issuer: x509.Certificate
    issuer_key: ec.EllipticCurvePrivateKey = field(repr=False)
    root_certificates: tuple[x509.Certificate, ...]
    known: tuple[x509.Certificate, ...]

    @classmethod
    def load(cls, directory: Path) -> Authority:
        """The authority that ``pki.keep`` made in ``directory``. Raises ``Unavailable`` (``authority-unavailable``) if
        there is none, or it cannot be read."""
        try:
            pem = (directory / ISSUER).read_bytes()
            roots = certificates((directory / ROOTS).read_bytes())
            known = certificates((directory / AUTHORITIES).read_bytes())
            issuer, key = certificates(pem)[0], load_key(pem)
        except FileNotFoundError as error:
            raise none_in(directory) from error
        except (OSError, Invalid, IndexError) as error:
            raise Unavailable(
                f"cannot sign: the authority in {directory} cannot be read: {error}", code="authority-unavailable"
            ) from error
        return cls(issuer, key, roots, known)

    @property
    def roots(self) -> tuple[bytes, ...]:
        """The roots (DER), newest first."""
        return tuple(root.public_bytes(Encoding.DER) for root in self.root_certificates)

    @property
    def authorities(self) -> tuple[bytes, ...]:
        """What agents are told (DER): roots, link certificates and issuers."""
        return tuple(known.public_bytes(Encoding.DER) for known in self.known)

    @property
    def chain(self) -> bytes:
        """What a TLS server shows besides its certificate, in PEM: the issuer, and the links by which a client that
        knows an older root alone comes to the newest."""
        links = [
            one
            for one in self.known
            if one.subject != one.issuer
            and one.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length is None
        ]
        return b"".join(one.public_bytes(Encoding.PEM) for one in (self.issuer, *links))

    @property
    def root_print(self) -> str:
        """SHA-256 of the newest root's public key (SubjectPublicKeyInfo), hex."""
        key = self.root_certificates[0].public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101 - as we make them
        return key_print(key).hex()

    def sign_grant(
        self, grant: Grant, key: ec.EllipticCurvePublicKey, *, now: datetime.datetime, lifetime: datetime.timedelta
    ) -> bytes:
        """See ``Signer``."""
        self._check(now)
        made = signing.make_grant(self.issuer, self.issuer_key, grant, key, now=now, life=lifetime)
        return made.public_bytes(Encoding.DER)

    def sign_host(self, host: HostName, key: ec.EllipticCurvePublicKey, *, now: datetime.datetime) -> bytes:
        """See ``Signer``."""
        self._check(now)
        return signing.make_host(self.issuer, self.issuer_key, host, key, now=now).public_bytes(Encoding.DER)

    def sign_server(self, names: Sequence[str], key: ec.EllipticCurvePublicKey, *, now: datetime.datetime) -> bytes:
        """A certificate (DER) for the service's listeners under ``names``. Raises ``Unavailable``, ``Invalid``."""
        self._check(now)
        return signing.make_server(self.issuer, self.issuer_key, names, key, now=now).public_bytes(Encoding.DER)

    def _check(self, now: datetime.datetime) -> None:
        if not self.issuer.not_valid_before_utc <= now < self.issuer.not_valid_after_utc:
            raise Unavailable(
                f"cannot sign: the issuer is valid from {self.issuer.not_valid_before_utc:%Y-%m-%d} to "
                f"{self.issuer.not_valid_after_utc:%Y-%m-%d}: make a new one with `isthmus ca rotate`",
                code="authority-unavailable",
            )


def none_in(directory: Path) -> Unavailable:
    """There is no authority in ``directory``."""
    return Unavailable(
        f"cannot sign: there is no authority in {directory}: make one with `isthmus ca init`",
        code="authority-unavailable",
    )


def certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates in PEM text, in their order. Raises ``Invalid``."""
    if len(pem) > MAX_FILE:
        raise Invalid(f"cannot read the certificates: more than {MAX_FILE} bytes")
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except (ValueError, x509.InvalidVersion) as error:
        raise Invalid("cannot read the certificates: not X.509 in PEM") from error


def pem_of(ders: Sequence[bytes]) -> bytes:
    """Certificates (DER) as PEM text. Raises ``Invalid``."""
    try:
        return b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in ders)
    except (ValueError, x509.InvalidVersion) as error:
        raise Invalid("cannot read the certificates: not X.509 in DER") from error


def ders_of(pem: bytes) -> tuple[bytes, ...]:
    """Certificates in PEM text as DER. Raises ``Invalid``."""
    return tuple(one.public_bytes(Encoding.DER) for one in certificates(pem))
