"""TLS for the service's listeners: contexts whose certificates and roots can be changed while they listen."""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

from isthmus.model.errors import Invalid
from isthmus.pki.authority import pem_of
from isthmus.pki.facts import facts_of
from isthmus.pki.request import key_pem, new_key
from isthmus.service.keeper import Keeper


class OwnTls:
    """A context with a certificate by the service's own authority. ``clients``: hosts may show theirs, TLS 1.3 only."""

    def __init__(self, keeper: Keeper, names: Sequence[str], scratch: Path, *, clients: bool) -> None:
        """``names``: what clients call the service; ``scratch``: where the key is for a moment, as OpenSSL reads it
        from a file."""
        self._keeper, self._names, self._scratch, self._clients = keeper, tuple(names), scratch, clients
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3 if clients else ssl.TLSVersion.TLSv1_2
        if clients:
            self.context.verify_mode = ssl.CERT_OPTIONAL
        self._stamp: object = None
        self._renew_at = datetime.datetime.min.replace(tzinfo=datetime.UTC)

    def refresh(self, now: datetime.datetime) -> bool:
        """New connections see a certificate that is good for a while, and hosts of every root are known. Returns
        whether anything was changed. Raises ``Unavailable``, ``Invalid``, ``OSError``."""
        if self._keeper.stamp == self._stamp and now < self._renew_at:
            return False
        stamp, authority = self._keeper.stamp, self._keeper.authority
        key = new_key()
        certificate = authority.sign_server(self._names, key.public_key(), now=now)
        facts = facts_of(certificate)
        with _file(self._scratch, key_pem(key) + pem_of([certificate]) + authority.chain) as path:
            self.context.load_cert_chain(path)
        if self._clients:
            # Issuers too: a host shows its certificate alone.
            self.context.load_verify_locations(cadata=pem_of(authority.authorities).decode())
        self._stamp = stamp
        self._renew_at = facts.not_after - (facts.not_after - facts.not_before) / 3
        return True


def given(certificate: str, key: str) -> ssl.SSLContext:
    """A context with the operator's own certificate (PEM files). Raises ``Invalid``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key or None)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            f"cannot use the certificate {certificate} with the key {key}: {error}", field="service.certificate"
        ) from error
    return context


@contextlib.contextmanager
def _file(directory: Path, content: bytes) -> Iterator[str]:
    path = directory / f"tls-{secrets.token_hex(8)}"
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        yield str(path)
    finally:
        path.unlink(missing_ok=True)
