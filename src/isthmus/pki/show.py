"""A certificate of Isthmus for a person: what `openssl x509 -text` prints, with what it means."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from isthmus.model.errors import Invalid
from isthmus.pki import profile
from isthmus.pki.request import key_print

_ALGORITHMS = {SignatureAlgorithmOID.ECDSA_WITH_SHA256: "ECDSA with SHA-256"}
_PURPOSES = {
    profile.GRANT_USE_OID: "presenting the share of a grant (Isthmus)",
    ExtendedKeyUsageOID.CLIENT_AUTH: "TLS client",
    ExtendedKeyUsageOID.SERVER_AUTH: "TLS server",
}


def describe(certificate: x509.Certificate) -> str:
    """The certificate in lines of text. A tuple that cannot be read is told, not raised. Raises ``Invalid`` for a
    certificate whose other parts cannot be read."""
    try:
        return "\n".join(_lines(certificate)) + "\n"
    except (
        ValueError,
        TypeError,
        OverflowError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise Invalid(f"cannot show the certificate: it is not X.509 as we know it: {error}") from error


def _lines(certificate: x509.Certificate) -> list[str]:
    key, algorithm = certificate.public_key(), certificate.signature_algorithm_oid
    lines = [
        "Certificate:",
        f"    Serial number:  {certificate.serial_number:x}",
        f"    Issuer:         {certificate.issuer.rfc4514_string()}",
        f"    Subject:        {certificate.subject.rfc4514_string()}",
        f"    Not before:     {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC",
        f"    Not after:      {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC",
        f"    Signed with:    {_ALGORITHMS.get(algorithm, algorithm.dotted_string)}",
    ]
    if isinstance(key, ec.EllipticCurvePublicKey):
        lines.append(f"    Public key:     {key.curve.name}, SHA-256 {key_print(key).hex()}")
    lines.append(f"    Fingerprint:    SHA-256 {certificate.fingerprint(hashes.SHA256()).hex()}")
    for extension in certificate.extensions:
        lines += _extension(extension)
    return lines


def _extension(extension: x509.Extension[x509.ExtensionType]) -> list[str]:
    value, critical = extension.value, " (critical)" if extension.critical else ""
    if isinstance(value, x509.BasicConstraints):
        what = "an authority" if value.ca else "no authority"
        return [f"    Basic constraints{critical}: {what}"]
    if isinstance(value, x509.KeyUsage):
        return [f"    Key usage{critical}: {'signs certificates' if value.key_cert_sign else 'signs'}"]
    if isinstance(value, x509.ExtendedKeyUsage):
        names = [_PURPOSES.get(oid, oid.dotted_string) for oid in value]
        return [f"    For{critical}: {', '.join(names)}"]
    if isinstance(value, x509.SubjectAlternativeName):
        return [f"    Names{critical}: {', '.join(str(name.value) for name in value)}"]
    if isinstance(value, x509.SubjectKeyIdentifier):
        return [f"    Subject key id{critical}: {value.digest.hex()}"]
    if isinstance(value, x509.AuthorityKeyIdentifier):
        return [f"    Authority key id{critical}: {(value.key_identifier or b'').hex()}"]
    if isinstance(value, x509.UnrecognizedExtension) and extension.oid == profile.GRANT_OID:
        return [f"    Grant {profile.GRANT_OID.dotted_string}{critical}:", *_tuple(value.value)]
    return [f"    Unknown extension{critical}: {extension.oid.dotted_string}"]


def _tuple(body: bytes) -> list[str]:
    try:
        grant = profile.decode_grant(body)
    except Invalid as error:
        return [f"        {error.message}"]
    what = f"{grant.volume}/{grant.sub_path}" if grant.sub_path else f"{grant.volume}, all of it"
    access = "read and write" if grant.access == "rw" else "read only"
    told = (
        ("version", f"{profile.VERSION}"),
        ("attachment", f"{grant.attachment}    the attachment that it is for"),
        ("sequence", f"{grant.sequence}    grants of the attachment below this one are refused"),
        ("project", f"{grant.project}    owns share and guest"),
        ("share", f"{grant.share}"),
        ("place", f"{grant.place}    where the guest finds it"),
        ("pool", f"{grant.pool}    where the data lies"),
        ("object", f"{what}    what the provider calls it"),
        ("guest", f"{grant.guest}    the one machine that may have it"),
        ("host", f"{grant.host}    the one host that may present it"),
        ("mode", f"{grant.mode}    how"),
        ("access", f"{grant.access}    {access}"),
        ("id map", ", ".join(grant.id_map) or "none    ids are the guest's own"),
        ("qos", ", ".join(f"{name}={limit}" for name, limit in sorted(grant.qos.items())) or "none    no limits"),
    )
    return [f"        {name:<12}{text}" for name, text in told]
