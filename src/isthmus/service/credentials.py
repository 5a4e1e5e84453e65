"""Grants in Keystone's credential store, where a tenant's tools find them: type ``cert``, the tuple in the blob.

Level-triggered: what is there and what should be are compared, and the difference is closed; a crash, or a Keystone
that is away, costs time and nothing else. Users can write credentials of their own and change these, so that what is
there counts only if it is exactly what should be.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cryptography import x509
from keystoneauth1 import exceptions, session

from isthmus.model.config import KeystoneConfig
from isthmus.model.errors import IsthmusError, Refused, Unavailable
from isthmus.pki import profile
from isthmus.service.identity.keystone import address, connect
from isthmus.service.service import Service
from isthmus.store.rows import AttachmentRow, GrantRow
from isthmus.store.tx import ReadTx, Tx

log = logging.getLogger(__name__)

KIND = "cert"
LOOK = 10.0
"""Seconds between two looks at the grants in force."""
ROUNDS = 60
"""Looks after which Keystone's store is compared though no grant has changed: listing it costs Keystone 1.6 ms each."""
LONGEST_PAUSE = 300.0
_KEYSTONE_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")
"""Of a user: of Keystone's own, or of a directory behind it."""

_NOT_OURS = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What reading a blob comes to that somebody else wrote, who may write what he likes."""


@dataclass(frozen=True, slots=True)
class Credential:
    """As Keystone has it, but for its id."""

    user_id: str
    project_id: str
    blob: str
    type: str = KIND


class CredentialKeeper:
    """Keeps Keystone's store equal to the grants in force. Touches only credentials that hold a grant of this service's
    authority, or one whose time is over: several services can share a Keystone."""

    def __init__(self, service: Service, config: KeystoneConfig) -> None:
        """Raises ``Invalid`` for a configuration that cannot be used."""
        self._service = service
        self._url = f"{address(config)}/credentials"
        self._session: session.Session = connect(config)
        self._settled: Mapping[str, str] | None = None

    async def run(self) -> None:
        """Until cancelled. What fails is tried again, later each time."""
        pause, quiet = LOOK, 0
        while True:
            try:
                quiet = 0 if quiet >= ROUNDS or await self.changed() else quiet + 1
                if quiet == 0:
                    await self.settle()
                pause = LOOK
            except IsthmusError as error:
                log.warning("%s: trying again in %.0f s", error, pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                await asyncio.sleep(pause)

    async def changed(self) -> bool:
        """Whether other grants are in force than at the end of the last ``settle``."""
        return await self._service.read(_users) != self._settled

    async def settle(self) -> None:
        """The store has a credential for each grant in force whose attachment a user of Keystone's asked for, and none
        for others. What Keystone refuses is logged, and holds nothing else up. Raises ``Unavailable``."""
        self._settled = None
        users, grants, now = await self._service.read(lambda tx: (_users(tx), tx.all(GrantRow), tx.now))
        wanted = await asyncio.to_thread(_wanted, users, grants)
        there = await asyncio.to_thread(self._there, set(users.values()))
        kept, stale = _compare(wanted, there, self._issuers(), now)
        stale |= {grant.credential for grant in grants if grant.credential and grant.serial not in users}
        for name in stale:
            await asyncio.to_thread(self._delete, name)
        for credential, serial in wanted.items():
            if serial not in kept and (made := await asyncio.to_thread(self._create, serial, credential)):
                kept[serial] = made
        await self._note({one.serial: kept.get(one.serial, "") for one in grants}, grants)
        self._settled = users

    async def _note(self, credentials: Mapping[str, str], grants: Iterable[GrantRow]) -> None:
        """The grants know their credentials."""
        news = [grant.serial for grant in grants if credentials[grant.serial] != grant.credential]

        def work(tx: Tx) -> None:
            for serial in news:
                if (grant := tx.get(GrantRow, serial)) is not None:
                    tx.measure(grant, credential=credentials[serial])

        if news:
            await self._service.write(work)

    def _issuers(self) -> frozenset[bytes]:
        """The key identifiers of this service's authority."""
        signer = self._service.signer
        read = (x509.load_der_x509_certificate(der) for der in (*signer.authorities, *signer.roots))
        return frozenset(x509.SubjectKeyIdentifier.from_public_key(one.public_key()).digest for one in read)

    def _there(self, users: Iterable[str]) -> dict[str, Credential]:
        """What is there, by id: of all users, or of these if Keystone does not list that many."""
        answer = self._ask("GET", f"?type={KIND}")
        found = _read(answer)
        if answer.get("truncated"):
            for user in users:
                found |= _read(self._ask("GET", f"?type={KIND}&user_id={user}"))
        return found

    def _create(self, serial: str, credential: Credential) -> str | None:
        """Its id; None if Keystone refuses it."""
        try:
            return str(self._ask("POST", "", {"credential": asdict(credential)})["credential"]["id"])
        except Refused as error:
            log.warning("cannot keep grant %s in Keystone's credential store: %s", serial, error)
            return None
        except (KeyError, TypeError) as error:
            raise _away("its answer to POST cannot be read") from error

    def _delete(self, credential: str) -> None:
        try:
            self._ask("DELETE", f"/{credential}")
        except Refused as error:
            log.warning("cannot remove credential %s from Keystone's credential store: %s", credential, error)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Raises ``Unavailable``, and ``Refused`` for a change that Keystone does not want."""
        try:
            answer = self._session.request(self._url + path, method, json=body, raise_exc=False, log=False)
        except exceptions.ClientException as error:
            raise _away(type(error).__name__) from error
        status = answer.status_code
        if status == 404 and method == "DELETE":
            return None
        if method != "GET" and status in (400, 403, 404, 409, 413):
            raise Refused(f"{method} is answered by {status}")
        if status in (401, 403):
            raise _away(f"{status}: give the service's user the role admin on its project")
        if not 200 <= status < 300:
            raise _away(f"{method} is answered by {status}")
        try:
            return answer.json() if answer.content else None
        except ValueError as error:
            raise _away("its answer is not JSON") from error


def _users(tx: ReadTx) -> dict[str, str]:
    """For whom the grants in force are, by their serial number: those of users whom Keystone knows."""
    users = {row.id: row.user for row in tx.all(AttachmentRow)}
    live = (row for row in tx.all(GrantRow, ended_at=None) if row.not_after > tx.now)
    return {row.serial: user for row in live if _KEYSTONE_ID.fullmatch(user := users.get(row.attachment, ""))}


def _wanted(users: Mapping[str, str], grants: Iterable[GrantRow]) -> dict[Credential, str]:
    """What should be there, with the serial number of the grant."""
    found: dict[Credential, str] = {}
    for grant in grants:
        if grant.serial in users:
            blob = {
                "isthmus": {"serial": grant.serial, **_tuple(grant.certificate)},
                "certificate": ssl.DER_cert_to_PEM_cert(grant.certificate),
            }
            text = json.dumps(blob, sort_keys=True)
            found[Credential(users[grant.serial], grant.project, text)] = grant.serial
    return found


def _compare(
    wanted: Mapping[Credential, str], there: Mapping[str, Credential], issuers: frozenset[bytes], now: datetime.datetime
) -> tuple[dict[str, str], set[str]]:
    """Ids by the serial number of their grant, and ids of what must go."""
    kept: dict[str, str] = {}
    stale: set[str] = set()
    for name, credential in sorted(there.items()):
        serial = wanted.get(credential)
        if serial is not None and serial not in kept:
            kept[serial] = name
        elif serial is not None or _is_ours(credential.blob, issuers, now):
            stale.add(name)
    return kept, stale


def _is_ours(blob: str, issuers: frozenset[bytes], now: datetime.datetime) -> bool:
    """Whether it holds a grant of these issuers, or one that has ended."""
    try:
        certificate = x509.load_pem_x509_certificate(json.loads(blob)["certificate"].encode())
        certificate.extensions.get_extension_for_oid(profile.GRANT_OID)
        issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        return issuer in issuers or certificate.not_valid_after_utc < now
    except _NOT_OURS:
        return False


def _read(answer: Any) -> dict[str, Credential]:
    try:
        return {
            str(one["id"]): Credential(str(one["user_id"]), str(one["project_id"]), str(one["blob"]), str(one["type"]))
            for one in answer["credentials"]
        }
    except (KeyError, TypeError) as error:
        raise _away("its list cannot be read") from error


def _tuple(certificate: bytes) -> dict[str, Any]:
    value = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_oid(profile.GRANT_OID).value
    assert isinstance(value, x509.UnrecognizedExtension)  # noqa: S101 - no other class stands for our OID
    read: dict[str, Any] = json.loads(value.value)
    return read


def _away(cause: str) -> Unavailable:
    return Unavailable(f"cannot keep grants in Keystone's credential store: {cause}", code="keystone-unavailable")
