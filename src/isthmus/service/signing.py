"""The seam between the service and the authority that signs for it."""

from __future__ import annotations

import datetime
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from isthmus.model.grant import Grant
from isthmus.model.names import HostName


class Signer(Protocol):
    """Signs grants and hosts' certificates; certificates are DER. What signs raises ``Unavailable`` (code
    ``authority-unavailable``) with the mend while there is no authority, or its issuer has ended."""

    @property
    def roots(self) -> tuple[bytes, ...]:
        """The roots, newest first."""
        ...

    @property
    def authorities(self) -> tuple[bytes, ...]:
        """Issuers and link certificates that have not ended: what agents need between grants and roots."""
        ...

    def sign_grant(
        self, grant: Grant, key: EllipticCurvePublicKey, *, now: datetime.datetime, lifetime: datetime.timedelta
    ) -> bytes:
        """A grant's certificate, backdated by five minutes; it ends with its issuer at the latest."""
        ...

    def sign_host(self, host: HostName, key: EllipticCurvePublicKey, *, now: datetime.datetime) -> bytes:
        """A host's certificate for talking to the service."""
        ...
