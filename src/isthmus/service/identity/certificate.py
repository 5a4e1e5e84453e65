"""Agents, by the certificates of their hosts."""

from __future__ import annotations

from isthmus.model.caller import Caller, Way
from isthmus.model.errors import Invalid, Unauthenticated
from isthmus.pki.facts import host_of
from isthmus.service.domain.enrolment import check_certificate
from isthmus.service.identity.base import Presented
from isthmus.service.service import Service


class CertificateVoucher:
    """The TLS layer has verified the chain; the host's name is taken from the certificate and from nowhere else."""

    challenge = ""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def caller(self, presented: Presented) -> Caller:
        """The host's agent; nobody without a certificate. Raises ``HostRevoked``, ``Unauthenticated`` for a
        certificate that names no host, ``Unavailable``."""
        der = presented.certificate
        if der is None:
            return Caller(address=presented.address)
        try:
            host = host_of(der)
        except Invalid as error:
            raise Unauthenticated(error.message) from error
        await self._service.read(lambda tx: check_certificate(tx, der, host))
        return Caller(Way.CERTIFICATE, host, host, host=host, address=presented.address)

    async def close(self) -> None:
        """Nothing is held."""
