"""The authority's certificates in the database, from which agents' documents take them."""

from __future__ import annotations

from isthmus.pki.facts import facts_of
from isthmus.service.signing import Signer
from isthmus.store.rows import AuthorityRow, HostRow
from isthmus.store.tx import ReadTx, Tx


def publish(tx: Tx, signer: Signer) -> bool:
    """The database has the authority's certificates, and no others. Returns whether that was news: every host then
    hears of it."""
    wanted = {facts_of(der).fingerprint: der for der in signer.authorities}
    known = {row.fingerprint: row for row in tx.all(AuthorityRow)}
    if wanted.keys() == known.keys():
        return False
    for fingerprint in known.keys() - wanted.keys():
        tx.remove(known[fingerprint])
    for fingerprint in wanted.keys() - known.keys():
        der = wanted[fingerprint]
        tx.add(AuthorityRow(fingerprint, der, facts_of(der).not_after))
    for host in tx.all(HostRow):
        tx.wake(host.name)
    return True


def documented(tx: ReadTx) -> tuple[bytes, ...]:
    """What agents are told, DER."""
    return tuple(row.certificate for row in tx.all(AuthorityRow))
