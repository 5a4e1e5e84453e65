"""Making certificates: one function per kind, over a key that signs."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isthmus.model.errors import Invalid
from isthmus.model.grant import Grant
from isthmus.model.names import HostName
from isthmus.pki import profile

Key = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey

_SIGNS = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_CERTIFIES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def make_root(key: Key, *, name: str, now: datetime.datetime) -> x509.Certificate:
    """A root, signed by itself."""
    subject = _name(name)
    return _authority(subject, key.public_key(), subject, key, now=now, end=now + profile.ROOT_LIFE, length=None)


def make_link(
    old: x509.Certificate, old_key: Key, new: x509.Certificate, *, now: datetime.datetime
) -> x509.Certificate:
    """The new root's name and key, signed by the old root, for those who know only that one. It ends with either."""
    key = new.public_key()
    assert isinstance(key, PublicKey)  # noqa: S101 - made by make_root
    end = min(old.not_valid_after_utc, new.not_valid_after_utc)
    return _authority(new.subject, key, old.subject, old_key, now=now, end=end, length=None)


def make_issuer(
    root: x509.Certificate, root_key: Key, key: PublicKey, *, now: datetime.datetime, lasting: bool = False
) -> x509.Certificate:
    """An issuer: signs grants, hosts and servers, and no other authority. ``lasting``: it ends with its root."""
    end = root.not_valid_after_utc
    if not lasting:
        end = min(end, now + profile.ISSUER_LIFE)
    return _authority(_name("Isthmus issuer"), key, root.subject, root_key, now=now, end=end, length=0)


def make_grant(
    issuer: x509.Certificate,
    issuer_key: Key,
    grant: Grant,
    key: PublicKey,
    *,
    now: datetime.datetime,
    life: datetime.timedelta,
) -> x509.Certificate:
    """The grant's certificate."""
    builder = _leaf(issuer, _name(grant.attachment), key, now, life)
    builder = builder.add_extension(x509.ExtendedKeyUsage([profile.GRANT_USE_OID]), critical=True)
    body = profile.encode_grant(grant)
    return builder.add_extension(x509.UnrecognizedExtension(profile.GRANT_OID, body), critical=True).sign(
        issuer_key, hashes.SHA256()
    )


def make_host(
    issuer: x509.Certificate, issuer_key: Key, host: HostName, key: PublicKey, *, now: datetime.datetime
) -> x509.Certificate:
    """A host's certificate for talking to the service."""
    builder = _leaf(issuer, _name(host), key, now, profile.HOST_LIFE)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    name = x509.UniformResourceIdentifier(profile.HOST_URI + host)
    return builder.add_extension(x509.SubjectAlternativeName([name]), critical=False).sign(issuer_key, hashes.SHA256())


def make_server(
    issuer: x509.Certificate, issuer_key: Key, names: Sequence[str], key: PublicKey, *, now: datetime.datetime
) -> x509.Certificate:
    """A certificate for the service's listeners; ``names`` are host names and IP addresses. Raises ``Invalid``."""
    builder = _leaf(issuer, _name(names[0][:64] if names else ""), key, now, profile.SERVER_LIFE)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
    return builder.add_extension(alternatives, critical=False).sign(issuer_key, hashes.SHA256())


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise Invalid(f"cannot use {name!a} as a name of the service: write it in ASCII", field="names") from error


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def _authority(
    subject: x509.Name,
    key: PublicKey,
    issuer: x509.Name,
    issuer_key: Key,
    *,
    now: datetime.datetime,
    end: datetime.datetime,
    length: int | None,
) -> x509.Certificate:
    builder = _base(subject, key, issuer, issuer_key.public_key(), now=now, end=end)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
    return builder.add_extension(_CERTIFIES, critical=True).sign(issuer_key, hashes.SHA256())


def _leaf(
    issuer: x509.Certificate, subject: x509.Name, key: PublicKey, now: datetime.datetime, life: datetime.timedelta
) -> x509.CertificateBuilder:
    """What all end-entity certificates have. They end with their issuer at the latest."""
    issuer_key = issuer.public_key()
    assert isinstance(issuer_key, PublicKey)  # noqa: S101 - made by make_issuer
    end = min(now + life, issuer.not_valid_after_utc)
    builder = _base(subject, key, issuer.subject, issuer_key, now=now, end=end)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    return builder.add_extension(_SIGNS, critical=True)


def _base(
    subject: x509.Name,
    key: PublicKey,
    issuer: x509.Name,
    issuer_key: PublicKey,
    *,
    now: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - profile.BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )
