"""What is read from a certificate besides its grant: the host that it names, and its number and time."""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from isthmus.model.errors import Invalid
from isthmus.model.names import HostName, parse_slug
from isthmus.pki import profile


def host_of(der: bytes) -> HostName:
    """The host whose certificate this is. Its chain is not looked at: the TLS layer has. Raises ``Invalid``."""
    if len(der) > profile.MAX_CERTIFICATE:
        raise Invalid("cannot read the host's certificate: it is too large", field="certificate")
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise Invalid("cannot read the host's certificate: it names no host", field="certificate") from error
    if len(uris) != 1 or not uris[0].startswith(profile.HOST_URI):
        raise Invalid("cannot read the host's certificate: it names no host", field="certificate")
    return HostName(parse_slug(uris[0].removeprefix(profile.HOST_URI), "certificate"))


@dataclass(frozen=True, slots=True)
class Facts:
    """What records of a certificate need. ``serial`` is lower-case hex, ``fingerprint`` SHA-256 in hex; times are
    UTC."""

    serial: str
    fingerprint: str
    not_before: datetime.datetime
    not_after: datetime.datetime


def facts_of(der: bytes) -> Facts:
    """A certificate's number, fingerprint and time. Raises ``Invalid``."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        times = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return Facts(f"{certificate.serial_number:x}", hashlib.sha256(der).hexdigest(), *times)
    except (ValueError, TypeError, OverflowError, x509.InvalidVersion) as error:
        raise Invalid("cannot read the certificate: it is not X.509 in DER", field="certificate") from error


def print_of(der: bytes) -> str:
    """SHA-256 of a certificate's public key (SubjectPublicKeyInfo), hex. Raises ``Invalid``."""
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise Invalid("cannot read the certificate: it is not X.509 in DER", field="certificate") from error
    info = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(info).hexdigest()
