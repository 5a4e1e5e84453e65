"""An authority in memory, and what it signs for documents. Its keys are made once for a whole run of tests."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from isthmus.agent.admission import Admission, Now
from isthmus.agent.ledger import Ledger
from isthmus.model.attachment import AttachmentSpec
from isthmus.model.desired import Desired
from isthmus.model.grant import Grant
from isthmus.model.names import AttachmentId, HostName
from isthmus.pki import signing
from isthmus.pki.authority import Authority
from isthmus.pki.request import new_key, read_request
from isthmus.pki.trust import Trust

WEEK = datetime.timedelta(days=7)


def utc_now() -> datetime.datetime:
    """The present time."""
    return datetime.datetime.now(datetime.UTC)


@functools.cache
def authority(name: str = "test root", *, days_ago: int = 1) -> Authority:
    """An authority of this name; the same one each time."""
    now = utc_now() - datetime.timedelta(days=days_ago)
    top, key = new_key(), new_key()
    root = signing.make_root(top, name=name, now=now)
    issuer = signing.make_issuer(root, top, key.public_key(), now=now)
    return Authority(issuer, key, (root,), (root, issuer))


def admission(host: HostName, directory: Path, *, now: Now = utc_now, certificate: str = "") -> Admission:
    """The admission of a host that trusts ``authority()`` and keeps its ledger in ``directory``."""
    return Admission(host, Trust(authority().roots), Ledger(directory), now, certificate=certificate)


def grant_for(document: Desired, spec: AttachmentSpec, sequence: int) -> Grant:
    """The grant that the service would write for an attachment of the document."""
    share = next(share for share in document.shares if share.id == spec.share)
    guest = next(guest for guest in document.guests if guest.id == spec.guest)
    return Grant(
        attachment=spec.id,
        sequence=sequence,
        project=guest.project,
        share=share.id,
        place=spec.at,
        pool=share.pool,
        volume=share.id,
        guest=guest.id,
        host=document.host,
        mode=spec.mode,
        access=spec.access,
    )


def signed(
    document: Desired,
    requests: Mapping[AttachmentId, bytes],
    *,
    sequence: int,
    now: datetime.datetime | None = None,
    life: datetime.timedelta = WEEK,
    by: Authority | None = None,
) -> dict[AttachmentId, bytes]:
    """Certificates (DER) on these requests, for what the document says."""
    made = {}
    for spec in document.attachments:
        if spec.id in requests:
            key = read_request(requests[spec.id])
            grant = grant_for(document, spec, sequence)
            made[spec.id] = (by or authority()).sign_grant(grant, key, now=now or utc_now(), lifetime=life)
    return made


def with_grants(document: Desired, grants: Mapping[AttachmentId, bytes], *, revoked: Iterable[str] = ()) -> Desired:
    """The document, carrying these and the authority's certificates."""
    return replace(document, grants=dict(grants), authorities=authority().authorities, revoked=tuple(revoked))
