"""Keys, and the requests (PKCS #10, RFC 2986) by which their owners ask for certificates."""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from isthmus.model.errors import Invalid

MAX_REQUEST = 4 * 1024
MAX_NAME = 64

_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
"""The AlgorithmIdentifier ecdsa-with-SHA256 (RFC 5758), which has no parameters."""


def new_key() -> ec.EllipticCurvePrivateKey:
    """A new key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    """The key as PKCS #8 in PEM, encrypted if there is a passphrase."""
    sealing: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        sealing = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealing)


def load_key(pem: bytes, passphrase: bytes | None = None) -> ec.EllipticCurvePrivateKey:
    """The key in ``pem``. Raises ``Invalid`` if it is none on P-256, or the passphrase is wrong."""
    try:
        key = serialization.load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        cause = "it needs a passphrase" if isinstance(error, TypeError) and passphrase is None else "not a key in PEM"
        if passphrase is not None:
            cause = "not a key in PEM, or the passphrase is wrong"
        raise Invalid(f"cannot read the private key: {cause}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Invalid("cannot read the private key: it is not one on P-256")
    return key


def make_request(key: ec.EllipticCurvePrivateKey, name: str = "") -> bytes:
    """A request for a certificate on ``key``, signed by it; DER. Its ``name`` is for people: nobody believes it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:MAX_NAME])] if name else [])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def read_request(der: bytes) -> ec.EllipticCurvePublicKey:
    """The public key for which a certificate is asked, of which nothing else is taken. Raises ``Invalid`` unless it is
    one on P-256 and whoever asks has the private key to it."""
    if len(der) > MAX_REQUEST:
        raise Invalid(f"cannot read the certificate request: it has more than {MAX_REQUEST} bytes", field="request")
    try:
        request = x509.load_der_x509_csr(der)
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise Invalid("cannot read the certificate request: its key is not one on P-256", field="request")
        held = is_signed(key, der, request.tbs_certrequest_bytes, request.signature)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise Invalid("cannot read the certificate request: not PKCS #10 in DER", field="request") from error
    if not held:
        raise Invalid(
            "cannot take the certificate request: it is not signed by its own key with ECDSA and SHA-256",
            field="request",
        )
    return key


def is_signed(key: ec.EllipticCurvePublicKey, der: bytes, body: bytes, signature: bytes) -> bool:
    """``der``, a certificate or a request, is ``body`` signed by ``key`` with ECDSA and SHA-256, in the one encoding
    that this has. The bytes around the body are under no signature, so they are compared."""
    if not der.endswith(body + _ECDSA_SHA256 + bytes((0x03, (len(signature) + 1) & 0xFF, 0)) + signature):
        return False
    try:
        key.verify(signature, body, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def key_print(key: ec.EllipticCurvePublicKey) -> bytes:
    """SHA-256 of the key's SubjectPublicKeyInfo in DER."""
    info = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(info).digest()
