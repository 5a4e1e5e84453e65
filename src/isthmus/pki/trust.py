"""What an agent believes, and why: roots, the issuers below them, and grants verified off-line."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from isthmus.model.errors import Invalid, Refused
from isthmus.model.grant import SignedGrant
from isthmus.pki import profile
from isthmus.pki.request import is_signed, key_print

MOST_REMEMBERED = 20_000

_ALLOWED = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        profile.GRANT_OID,
    }
)


class GrantRefused(Refused):
    """A grant that does not hold. ``code`` says which of its promises is broken."""

    code = "grant-unreadable"


@dataclass(frozen=True, slots=True)
class _Known:
    """A grant whose signature held, and whose it was."""

    signed: SignedGrant
    issuer: bytes


class Trust:
    """Belongs to one host. ``roots``: certificates (DER) that are believed because an operator brought them. Not to be
    used by several threads at once."""

    def __init__(self, roots: Iterable[bytes]) -> None:
        self._roots: dict[bytes, x509.Certificate] = {}
        self._issuers: dict[bytes, x509.Certificate] = {}
        self._retired: set[bytes] = set()
        self._grants: dict[bytes, _Known] = {}
        for der in roots:
            root = _authority(der)
            if root is None or not _signs(root, root):
                raise Invalid("cannot trust this certificate as a root: it is not one that signs itself", field="roots")
            self._roots[_print(root)] = root

    @property
    def roots(self) -> tuple[bytes, ...]:
        """The roots that are believed, newest first."""
        ordered = sorted(self._roots.values(), key=lambda root: root.not_valid_before_utc, reverse=True)
        return tuple(root.public_bytes(Encoding.DER) for root in ordered)

    def learn(self, certificates: Iterable[bytes], now: datetime.datetime) -> bool:
        """Believe what the roots vouch for: new roots whose keys an old one has signed (link certificates), and
        issuers. What is no authority's certificate, or vouched for by nobody, is passed over.

        Authorities that the list no longer has are forgotten, unless its newest issuer is older than the newest known:
        an authority that was restored from a backup takes nothing away. A forgotten issuer is not believed again: its
        key may be known to others. Returns whether the roots changed.
        """
        listed = [
            found for der in list(certificates)[: profile.MOST_AUTHORITIES] if (found := _authority(der)) is not None
        ]
        before = set(self._roots)
        roots = self._linked(listed, now)
        issuers = {
            name: one
            for one in listed
            if _length(one) == 0
            and (name := _fingerprint(one)) not in self._retired
            and any(_signs(root, one) for root in roots.values())
        }
        if not issuers:
            return False
        known = [one.not_valid_before_utc for one in self._issuers.values()]
        if known and max(one.not_valid_before_utc for one in issuers.values()) < max(known):
            self._roots |= roots
            self._issuers |= issuers
        else:
            named = {_print(one) for one in listed if _signs(one, one)}
            self._roots = {key: root for key, root in roots.items() if key in named} or roots
            self._retired |= self._issuers.keys() - issuers.keys()
            self._issuers = issuers
        return set(self._roots) != before

    def _linked(self, listed: Collection[x509.Certificate], now: datetime.datetime) -> dict[bytes, x509.Certificate]:
        """The roots that are known, and those that chains of links lead to."""
        roots = dict(self._roots)
        fresh = {_print(one): one for one in listed if _length(one) is None and _signs(one, one)}
        links = [one for one in listed if _length(one) is None and not _signs(one, one)]
        for _ in links:
            for link in links:
                new = fresh.get(_print(link))
                vouched = any(_signs(root, link) and _is_current(root, now) for root in roots.values())
                if new is not None and vouched and _is_current(link, now):
                    roots.setdefault(_print(new), new)
        return roots

    def verify_grant(self, der: bytes, now: datetime.datetime) -> SignedGrant:
        """The grant, if an issuer that the roots vouch for signed it and it is in force at ``now``.

        Raises ``GrantRefused`` with the code ``grant-unreadable``, ``grant-unsigned``, ``grant-not-yet-valid`` or
        ``grant-expired``.
        """
        known = self._grants.get(der)
        if known is None or known.issuer not in self._issuers:
            known = self._verify(der)
            if len(self._grants) >= MOST_REMEMBERED:
                self._grants.clear()
            self._grants[der] = known
        signed, issuer = known.signed, self._issuers[known.issuer]
        _check_time(signed, now)
        root = next((root for root in self._roots.values() if root.subject == issuer.issuer), None)
        for one, word in ((issuer, "the issuer that signed it"), (root, "its root")):
            if one is None or not _is_current(one, now):
                raise GrantRefused(
                    f"cannot take the grant: {word} is not valid at this time: check this host's clock, or sign anew "
                    "after `isthmus ca rotate`",
                    code="grant-expired",
                )
        return signed

    def _verify(self, der: bytes) -> _Known:
        certificate, key = _read(der)
        for fingerprint, issuer in self._issuers.items():
            if issuer.subject == certificate.issuer and _signs(issuer, certificate):
                return _Known(_signed(certificate, key), fingerprint)
        raise GrantRefused(
            "cannot take the grant: none of the authorities that this host knows has signed it", code="grant-unsigned"
        )


def _read(der: bytes) -> tuple[x509.Certificate, ec.EllipticCurvePublicKey]:
    """A certificate of the grant's profile, its signature not yet looked at."""
    if len(der) > profile.MAX_CERTIFICATE:
        raise _unreadable(f"it has more than {profile.MAX_CERTIFICATE} bytes")
    try:
        certificate = x509.load_der_x509_certificate(der)
        version, extensions, key = certificate.version, certificate.extensions, certificate.public_key()
        algorithm = certificate.signature_hash_algorithm
        subject = (certificate.subject, certificate.issuer, certificate.serial_number, certificate.not_valid_after_utc)
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        OverflowError,
    ) as error:
        raise _unreadable("it is not an X.509 certificate") from error
    if version is not x509.Version.v3 or not isinstance(algorithm, hashes.SHA256) or not all(subject):
        raise _unreadable("it is not version 3, signed with SHA-256")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _unreadable("its key is not one on P-256")
    _check_extensions(extensions)
    return certificate, key


def _check_extensions(extensions: x509.Extensions) -> None:
    found = {extension.oid: extension for extension in extensions}
    for oid in found.keys() - _ALLOWED:
        raise _unreadable(f"it has the extension {oid.dotted_string}, which no grant has")
    for oid in (_ALLOWED - found.keys()) | {oid for oid in _CRITICAL if oid in found and not found[oid].critical}:
        raise _unreadable(f"it lacks the extension {oid.dotted_string}, or it is not critical")
    basic, usage = found[ExtensionOID.BASIC_CONSTRAINTS].value, found[ExtensionOID.KEY_USAGE].value
    purpose = found[ExtensionOID.EXTENDED_KEY_USAGE].value
    if not isinstance(basic, x509.BasicConstraints) or basic.ca:
        raise _unreadable("it is an authority's")
    if not isinstance(usage, x509.KeyUsage) or not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise _unreadable("its key is for another use")
    if not isinstance(purpose, x509.ExtendedKeyUsage) or list(purpose) != [profile.GRANT_USE_OID]:
        raise _unreadable("it is a certificate for another purpose")


_CRITICAL = (
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    profile.GRANT_OID,
)


def _signed(certificate: x509.Certificate, key: ec.EllipticCurvePublicKey) -> SignedGrant:
    body = certificate.extensions.get_extension_for_oid(profile.GRANT_OID).value
    assert isinstance(body, x509.UnrecognizedExtension)  # noqa: S101 - no other class stands for our OID
    try:
        grant = profile.decode_grant(body.value)
    except Invalid as error:
        raise GrantRefused(error.message) from error
    return SignedGrant(
        grant,
        f"{certificate.serial_number:x}",
        key_print(key),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


def _check_time(signed: SignedGrant, now: datetime.datetime) -> None:
    # The sentences do not say what time it is here: the same refusal would be news each time that it is found.
    if now < signed.not_before:
        raise GrantRefused(
            f"cannot take the grant: it is valid from {_shown(signed.not_before)} on, which has not come here yet: the "
            "clocks of this host and the service differ: set them by NTP",
            code="grant-not-yet-valid",
        )
    if now > signed.not_after:
        raise GrantRefused(
            f"cannot take the grant: it ended at {_shown(signed.not_after)}",
            code="grant-expired",
        )


def _authority(der: bytes) -> x509.Certificate | None:
    """The certificate, if it is an authority's of our profile."""
    if len(der) > profile.MAX_CERTIFICATE:
        return None
    try:
        certificate = x509.load_der_x509_certificate(der)
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        known = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE}
        strange = any(extension.critical and extension.oid not in known for extension in certificate.extensions)
        key = certificate.public_key()
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.subject, certificate.issuer
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        OverflowError,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.InvalidVersion,
    ):
        return None
    good = basic.value.ca and basic.critical and usage.value.key_cert_sign and not strange
    return certificate if good and isinstance(key, ec.EllipticCurvePublicKey) else None


def _signs(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    if issuer.subject != certificate.issuer:
        return False
    key = issuer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    der = certificate.public_bytes(Encoding.DER)
    return is_signed(key, der, certificate.tbs_certificate_bytes, certificate.signature)


def _length(certificate: x509.Certificate) -> int | None:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length


def _print(certificate: x509.Certificate) -> bytes:
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101 - what _authority lets through
    return key_print(key)


def _fingerprint(certificate: x509.Certificate) -> bytes:
    return certificate.fingerprint(hashes.SHA256())


def _is_current(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _shown(time: datetime.datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _unreadable(cause: str) -> GrantRefused:
    return GrantRefused(f"cannot read the grant: {cause}")
