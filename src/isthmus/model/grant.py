"""The grant: what the signed mapping certificate of one attachment says.

It ties the tenant's name for a virtual volume (project, place) to the provider's object (pool, volume, sub-path), to
the one guest on the one host that may have it, and to the terms. How it is written into a certificate is
``isthmus.pki.profile``; that a host presents nothing without one is ``isthmus.agent.admission``.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field

from isthmus.model.attachment import Access, Mode
from isthmus.model.names import AttachmentId, GuestId, HostName, PoolName, ProjectId, ShareId

MAX_PATH = 1024
MAX_RULES = 64
MAX_SEQUENCE = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Grant:
    """The tuple. ``sequence`` grows with every grant of one attachment: milliseconds since 1970 when it was issued, or
    one more than the last, so that it does not go back even when the database does.

    ``volume``: the provider's object in ``pool`` (for the ``local`` driver, the share's id); ``sub_path``: what of it,
    "" for all. ``id_map``: rules, () for none. ``qos``: limits by name, in bytes or operations per second.
    """

    attachment: AttachmentId
    sequence: int
    project: ProjectId
    share: ShareId
    place: str
    pool: PoolName
    volume: str
    guest: GuestId
    host: HostName
    mode: Mode
    access: Access
    sub_path: str = ""
    id_map: tuple[str, ...] = ()
    qos: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SignedGrant:
    """A grant whose signature has been verified, with what its certificate says besides. ``serial`` is lower-case hex;
    ``key``: SHA-256 of the public key that it is for (of its SubjectPublicKeyInfo, DER); times are UTC."""

    grant: Grant
    serial: str
    key: bytes
    not_before: datetime.datetime
    not_after: datetime.datetime
