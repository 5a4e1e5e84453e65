"""How a host comes to its certificate, and how it loses it."""

from __future__ import annotations

import datetime
import hashlib
import secrets
from dataclasses import dataclass

from isthmus.model.errors import Conflict, HostRevoked, Invalid, Unauthenticated
from isthmus.model.names import HostName
from isthmus.pki.facts import facts_of
from isthmus.pki.request import read_request
from isthmus.service.domain import grants
from isthmus.service.domain.words import plain
from isthmus.service.signing import Signer
from isthmus.store.rows import CertificateRow, HostRow, TokenRow
from isthmus.store.tx import ReadTx, Tx

LEAST_LIFE, MOST_LIFE = 60, 7 * 86400
"""Seconds for which a token may be good."""
SECRET_BYTES = 24
MAX_TOKEN = 256


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A host's new certificate, and the authority's (DER)."""

    host: HostName
    certificate: bytes
    roots: tuple[bytes, ...]
    authorities: tuple[bytes, ...]


def make_token(
    tx: Tx, host: str, root_print: str, *, replace: bool = False, lifetime: float = 3600
) -> tuple[str, TokenRow]:
    """A one-time token by which an agent becomes ``host``; the database keeps its digest alone. ``root_print`` travels
    in it, so that the agent knows the service before it says anything.

    Raises ``NotFound`` for a host that is not registered, ``Invalid`` for a lifetime out of bounds.
    """
    row = tx.need(HostRow, host)
    if not LEAST_LIFE <= lifetime <= MOST_LIFE:
        raise Invalid(f"cannot make a token for {lifetime:g} s: between {LEAST_LIFE} and {MOST_LIFE}", field="lifetime")
    for old in tx.all(TokenRow, host=row.name):
        if old.used_at is None and old.expires_at <= tx.now:
            tx.remove(old)
    token = f"{row.name}.{secrets.token_urlsafe(SECRET_BYTES)}.{root_print}"
    expires = tx.now + datetime.timedelta(seconds=lifetime)
    made = tx.add(TokenRow(_digest(token), row.name, expires, replace=replace))
    tx.tell(row, f"a token to enrol by was made, good until {expires:%Y-%m-%d %H:%M} UTC")
    return token, made


def enrol(tx: Tx, signer: Signer, token: str, request: bytes) -> Enrolled:
    """The token is used, and its host has a certificate on this request.

    Raises ``Unauthenticated`` for a token that is unknown, used or over; ``Conflict`` for a host that has an agent,
    unless the token says that this one takes its place (the old one's certificate then ends); ``Invalid``,
    ``Unavailable``.
    """
    row = tx.get(TokenRow, _digest(token)) if len(token) <= MAX_TOKEN else None
    if row is None or row.used_at is not None or row.expires_at <= tx.now:
        cause = "it is unknown" if row is None else "it was used before" if row.used_at else "its time is over"
        raise Unauthenticated(
            f"cannot enrol by this token: {cause}: ask the operator for a new one (isthmus host token HOST)",
            code="token-refused",
        )
    host = tx.need(HostRow, row.host)
    live = [one for one in tx.all(CertificateRow, host=host.name, ended_at=None) if one.not_after > tx.now]
    if live and not row.replace:
        raise Conflict(
            f"cannot enrol host {host.name}: an agent of that name has enrolled: if it is gone, make the token with "
            "--replace, which ends its certificate",
            code="host-enrolled",
            detail={"host": host.name},
        )
    key = read_request(request)
    for old in live:
        tx.change(old, ended_at=tx.now, reason="another agent took its place")
    if live:
        grants.end_of_host(tx, host.name, "another agent took its host's place")
    tx.change(row, used_at=tx.now)
    done = _certify(tx, signer, host.name, signer.sign_host(host.name, key, now=tx.now))
    tx.tell(host, "an agent enrolled" + (" in the place of another" if live else ""))
    return done


def renew(tx: Tx, signer: Signer, host: HostName, request: bytes) -> Enrolled:
    """The host has another certificate on this request; the one before it goes on until its end."""
    tx.need(HostRow, host)
    return _certify(tx, signer, host, signer.sign_host(host, read_request(request), now=tx.now))


def revoke_host(tx: Tx, name: str, reason: str = "") -> HostRow:
    """The host's certificates, tokens and grants have ended: its agent ends its exports when it hears of it. Raises
    ``Conflict`` for a host that has not enrolled: nothing could tell its agent."""
    host = tx.need(HostRow, name)
    reason = plain(reason, 200) or "revoked"
    live = tx.all(CertificateRow, host=host.name, ended_at=None)
    if not live:
        raise Conflict(
            f"cannot revoke host {host.name}: no agent has enrolled by that name: to end what is presented there, "
            "revoke the grants of its attachments, or detach them",
            code="host-not-enrolled",
            detail={"host": host.name},
        )
    for certificate in live:
        tx.change(certificate, ended_at=tx.now, reason=reason)
    for token in tx.all(TokenRow, host=host.name):
        tx.remove(token)
    grants.end_of_host(tx, host.name)
    tx.tell(host, f"its certificate was revoked: {reason}")
    return tx.need(HostRow, name)


def check_certificate(tx: ReadTx, der: bytes, host: HostName) -> None:
    """Raise ``HostRevoked`` unless this certificate of ``host`` is in force."""
    row = tx.get(CertificateRow, facts_of(der).serial)
    if row is None or row.host != host or row.ended_at is not None or row.not_after <= tx.now:
        cause = row.reason if row is not None and row.ended_at is not None else "it is not known here"
        raise HostRevoked(
            f"cannot take the certificate of host {host}: {cause}: enrol the host anew with isthmus host enrol",
            detail={"host": host},
        )


def prune(tx: Tx) -> None:
    """Certificates and tokens whose time is over are forgotten."""
    tx.expire(CertificateRow)
    for token in tx.all(TokenRow):
        if token.expires_at <= tx.now:
            tx.remove(token)


def _certify(tx: Tx, signer: Signer, host: HostName, certificate: bytes) -> Enrolled:
    facts = facts_of(certificate)
    tx.add(CertificateRow(facts.serial, host, facts.not_after))
    return Enrolled(host, certificate, signer.roots, signer.authorities)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
