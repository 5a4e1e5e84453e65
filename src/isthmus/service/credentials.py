"""Grants in Keystone's credential store, where a tenant's tools find them: type ``cert``, the tuple in the blob.

Level-triggered: what is there and what should be are compared, and the difference is closed; a crash, or a Keystone
that is away, costs time and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import ssl
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from keystoneauth1 import exceptions, session

from isthmus.model.config import KeystoneConfig
from isthmus.model.errors import Unavailable
from isthmus.pki import profile
from isthmus.service.identity.keystone import connect
from isthmus.service.service import Service
from isthmus.store.rows import AttachmentRow, GrantRow
from isthmus.store.tx import ReadTx

log = logging.getLogger(__name__)

KIND = "cert"
LOOK = 10.0
LONGEST_PAUSE = 300.0
_KEYSTONE_ID = re.compile(r"[0-9a-f]{32}")


class CredentialKeeper:
    """Keeps Keystone's store equal to the grants in force. Touches credentials alone whose blob names Isthmus."""

    def __init__(self, service: Service, config: KeystoneConfig) -> None:
        """Raises ``Invalid`` for a configuration that cannot be used."""
        self._service = service
        self._url = f"{config.url.rstrip('/')}/credentials"
        self._session: session.Session = connect(config)

    async def run(self) -> None:
        """Until cancelled."""
        pause = LOOK
        while True:
            try:
                await self.settle()
                pause = LOOK
            except Unavailable as error:
                log.warning("%s: trying again in %.0f s", error, pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def settle(self) -> None:
        """The store has a credential for each grant in force whose attachment a user of Keystone's asked for, and none
        for others. Raises ``Unavailable``."""
        wanted = await self._service.read(_wanted)
        there = await asyncio.to_thread(self._there)
        for serial in there.keys() - wanted.keys():
            await asyncio.to_thread(self._delete, there[serial])
        for serial, body in wanted.items():
            known = there.get(serial)
            await self._note(serial, await asyncio.to_thread(self._create, body) if known is None else known)

    async def _note(self, serial: str, credential: str) -> None:
        known = await self._service.read(lambda tx: tx.get(GrantRow, serial))
        if known is not None and known.credential != credential:
            await self._service.write(lambda tx: tx.change(tx.need(GrantRow, serial), credential=credential))

    def _there(self) -> dict[str, str]:
        """Ids of our credentials, by the serial number of their grant."""
        found: dict[str, str] = {}
        for credential in self._ask("GET", f"?type={KIND}")["credentials"]:
            try:
                blob = json.loads(credential["blob"])
                serial = blob["isthmus"]["serial"]
            except (ValueError, KeyError, TypeError):
                continue  # somebody else's
            if serial in found:
                self._delete(credential["id"])
            else:
                found[serial] = credential["id"]
        return found

    def _create(self, body: Mapping[str, Any]) -> str:
        return str(self._ask("POST", "", {"credential": body})["credential"]["id"])

    def _delete(self, credential: str) -> None:
        self._ask("DELETE", f"/{credential}")

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            answer = self._session.request(self._url + path, method, json=body, raise_exc=False, log=False)
        except exceptions.ClientException as error:
            raise _away(type(error).__name__) from error
        if answer.status_code == 404 and method == "DELETE":
            return None
        if not 200 <= answer.status_code < 300:
            raise _away(f"{method} is answered by {answer.status_code}")
        try:
            return answer.json() if answer.content else None
        except ValueError as error:
            raise _away("its answer is not JSON") from error


def _wanted(tx: ReadTx) -> dict[str, dict[str, Any]]:
    """Credentials by the serial number of their grant."""
    users = {row.id: row.user for row in tx.all(AttachmentRow)}
    found: dict[str, dict[str, Any]] = {}
    for grant in tx.all(GrantRow, ended_at=None):
        user = users.get(grant.attachment, "")
        if grant.not_after > tx.now and _KEYSTONE_ID.fullmatch(user):
            blob = {
                "isthmus": {"serial": grant.serial, **_tuple(grant.certificate)},
                "certificate": ssl.DER_cert_to_PEM_cert(grant.certificate),
            }
            found[grant.serial] = {
                "type": KIND,
                "user_id": user,
                "project_id": grant.project,
                "blob": json.dumps(blob, sort_keys=True),
            }
    return found


def _tuple(certificate: bytes) -> dict[str, Any]:
    value = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_oid(profile.GRANT_OID).value
    assert isinstance(value, x509.UnrecognizedExtension)  # noqa: S101 - no other class stands for our OID
    read: dict[str, Any] = json.loads(value.value)
    return read


def _away(cause: str) -> Unavailable:
    return Unavailable(f"cannot keep grants in Keystone's credential store: {cause}", code="keystone-unavailable")
