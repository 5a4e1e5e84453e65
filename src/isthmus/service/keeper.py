"""The service's authority: its directory, read again when it changes."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from isthmus.model.errors import Unavailable
from isthmus.model.grant import Grant
from isthmus.model.names import HostName
from isthmus.pki import keep
from isthmus.pki.authority import AUTHORITIES, ISSUER, ROOTS, Authority

log = logging.getLogger(__name__)

Stamp = tuple[tuple[int, int], ...]


class Keeper:
    """``Signer`` over a directory of ``pki.keep``. May be shared by threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: tuple[Stamp, Authority] | None = None

    def ensure(self, now: Callable[[], datetime.datetime]) -> None:
        """There is an authority; a new one has no root key, as nobody said where to keep it. Raises ``HostFailure``."""
        if not keep.exists(self._directory):
            keep.init(self._directory, now=now(), discard=True)
            log.info(
                "service: made an authority in %s, without keeping its root key: it cannot be rotated; for one that "
                "can, stop, remove that directory, and run isthmus ca init",
                self._directory,
            )

    @property
    def stamp(self) -> Stamp:
        """Changes when the directory does."""
        try:
            status = [(self._directory / name).stat() for name in (ISSUER, AUTHORITIES, ROOTS)]
        except OSError:
            return ()
        return tuple((one.st_mtime_ns, one.st_ino) for one in status)

    @property
    def authority(self) -> Authority:
        """The authority as it is now. Raises ``Unavailable``; one that was read goes on while it cannot be again."""
        stamp, held = self.stamp, self._held
        if held is not None and held[0] == stamp:
            return held[1]
        try:
            authority = Authority.load(self._directory)
        except Unavailable as error:
            if held is None:
                raise
            log.warning("%s: going on with what was read before", error)
            return held[1]
        self._held = (stamp, authority)
        return authority

    @property
    def roots(self) -> tuple[bytes, ...]:
        """See ``Signer``."""
        return self.authority.roots

    @property
    def authorities(self) -> tuple[bytes, ...]:
        """See ``Signer``."""
        return self.authority.authorities

    def sign_grant(
        self, grant: Grant, key: EllipticCurvePublicKey, *, now: datetime.datetime, lifetime: datetime.timedelta
    ) -> bytes:
        """See ``Signer``."""
        return self.authority.sign_grant(grant, key, now=now, lifetime=lifetime)

    def sign_host(self, host: HostName, key: EllipticCurvePublicKey, *, now: datetime.datetime) -> bytes:
        """See ``Signer``."""
        return self.authority.sign_host(host, key, now=now)

    def sign_server(self, names: Sequence[str], key: EllipticCurvePublicKey, *, now: datetime.datetime) -> bytes:
        """See ``Authority``."""
        return self.authority.sign_server(names, key, now=now)
