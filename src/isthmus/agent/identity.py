"""Who this host is to the service: its certificate, its key, and the roots that it trusts.

STATE/agent/roots.pem    the roots, brought by the enrolment's token, or by root on the service's own machine
STATE/agent/host.pem     the certificate and its key: one file, so that they never differ
"""

from __future__ import annotations

import datetime
import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec

from isthmus.host import files
from isthmus.model.address import Address, TcpAddress
from isthmus.model.errors import HostFailure, Invalid, IsthmusError, Refused, Unavailable
from isthmus.model.names import HostName
from isthmus.pki.authority import ders_of, pem_of
from isthmus.pki.facts import facts_of, host_of, print_of
from isthmus.pki.request import key_pem, load_key, make_request, new_key
from isthmus.wire.api import AuthorityView, CertificateAsked, Enrolled, Enrolment
from isthmus.wire.decode import decode

log = logging.getLogger(__name__)

SECONDS = 15.0
RENEW_LEFT = 3
"""A host's certificate is renewed when one part in so many of its life is left."""


@dataclass(frozen=True, slots=True)
class Place:
    """The agent's directory."""

    directory: Path

    @property
    def roots_file(self) -> Path:
        """The roots, PEM."""
        return self.directory / "roots.pem"

    @property
    def host_file(self) -> Path:
        """Key and certificate, PEM."""
        return self.directory / "host.pem"

    def roots(self) -> tuple[bytes, ...]:
        """The roots (DER), () if there are none. Raises ``Invalid`` for a file that cannot be read."""
        try:
            return ders_of(self.roots_file.read_bytes())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise Invalid(f"cannot read {self.roots_file}: {error.strerror}", field="roots") from error

    def write_roots(self, roots: Sequence[bytes]) -> None:
        """These roots are trusted. Raises ``HostFailure``."""
        self._write(self.roots_file, pem_of(roots))

    def certificate(self) -> bytes | None:
        """This host's certificate (DER), None if it has not enrolled. Raises ``Invalid``."""
        try:
            pem = self.host_file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Invalid(f"cannot read {self.host_file}: {error.strerror}", field="host") from error
        found = ders_of(pem)
        load_key(pem)
        return found[0] if found else None

    def write_host(self, key: bytes, certificate: bytes) -> None:
        """This is the host's key (PEM) and certificate (DER). Raises ``HostFailure``."""
        self._write(self.host_file, key + pem_of([certificate]))

    def context(self) -> ssl.SSLContext:
        """TLS 1.3 with the service: its chain is verified by our roots, and we show our certificate if we have one.
        Raises ``Invalid`` before there are roots."""
        context = trusting(self.roots())
        if self.host_file.exists():
            try:
                context.load_cert_chain(self.host_file)
            except (OSError, ssl.SSLError) as error:
                raise Invalid(f"cannot use {self.host_file}: {error}", field="host") from error
        return context

    def _write(self, path: Path, content: bytes) -> None:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.write_whole(path, content)
        except OSError as error:
            raise HostFailure(f"cannot write {path}: {error.strerror}") from error


def trusting(roots: Sequence[bytes]) -> ssl.SSLContext:
    """A context that believes what these roots vouch for, and nothing else. Raises ``Invalid`` for none."""
    if not roots:
        raise Invalid("cannot talk to the service: this host has not enrolled: use isthmus host enrol", field="roots")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=pem_of(roots).decode())
    return context


def enrol(place: Place, address: Address, token: str) -> HostName:
    """This host has the identity that the token is for. The service is believed only if its root is the one whose
    fingerprint the token carries; the token is said to nobody else. Blocks.

    Raises ``Invalid`` for a token or address that is none, ``Refused`` with the service's reason, ``Unavailable``,
    ``HostFailure``; then nothing has changed here.
    """
    parts = token.strip().split(".")
    if len(parts) < 3 or len(parts[-1]) != 64:
        raise Invalid("cannot enrol by this token: it is not whole: copy all of it", field="token")
    if not isinstance(address, TcpAddress) or not address.tls:
        raise Invalid(f"cannot enrol at {address}: give the service's address for agents, https://...", field="service")
    roots = _authentic_roots(address, parts[-1])
    key = new_key()
    body = Enrolment(token=token.strip(), request=make_request(key))
    with _http(address, trusting(roots)) as http:
        done = decode(_ask(http, "POST", "/v1/enrolments", body), Enrolled, "answer")
    host = host_of(done.certificate)
    place.write_roots(roots)
    place.write_host(key_pem(key), done.certificate)
    return host


def fetch_roots(address: Address) -> tuple[bytes, ...]:
    """The roots, from a service on this machine: whoever opens its socket is as trusted as we are. Blocks. Raises
    ``Unavailable``."""
    with _http(address, None) as http:
        return tuple(decode(_ask(http, "GET", "/v1/ca"), AuthorityView, "answer").roots)


def is_due(certificate: bytes, now: datetime.datetime) -> bool:
    """It is time to renew it."""
    facts = facts_of(certificate)
    return now >= facts.not_after - (facts.not_after - facts.not_before) / RENEW_LEFT


def renewal() -> tuple[bytes, CertificateAsked]:
    """A new key (PEM), and what to ask for with it."""
    key = new_key()
    return key_pem(key), CertificateAsked(request=make_request(key))


def _authentic_roots(address: TcpAddress, fingerprint: str) -> tuple[bytes, ...]:
    """The root of this fingerprint, from a service that is not believed in anything else."""
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    with _http(address, blind) as http:
        offered = decode(_ask(http, "GET", "/v1/ca"), AuthorityView, "answer").roots
    found = tuple(root for root in offered if print_of(root) == fingerprint)
    if not found:
        raise Refused(
            f"cannot enrol at {address}: it is not the service that made the token: check the address, and ask for a "
            "new token",
            code="other-authority",
        )
    return found


def _http(address: Address, tls: ssl.SSLContext | None) -> httpx.Client:
    idle = tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if isinstance(address, TcpAddress):
        return httpx.Client(base_url=str(address), verify=idle, trust_env=False, timeout=SECONDS)
    transport = httpx.HTTPTransport(uds=str(address.path), verify=idle)
    return httpx.Client(transport=transport, base_url="http://localhost", trust_env=False, timeout=SECONDS)


def _ask(http: httpx.Client, method: str, path: str, body: msgspec.Struct | None = None) -> bytes:
    headers = {} if body is None else {"content-type": "application/json"}
    content = None if body is None else msgspec.json.encode(body)
    try:
        answer = http.request(method, path, content=content, headers=headers)
    except httpx.HTTPError as error:
        raise Unavailable(
            f"cannot reach the service at {http.base_url}: {error or type(error).__name__}", code="service-unreachable"
        ) from error
    if answer.is_success:
        return answer.content
    raise _fault(answer)


def _fault(answer: httpx.Response) -> IsthmusError:
    try:
        fault = msgspec.json.decode(answer.content)["error"]
        return Refused(str(fault["message"]), code=str(fault["code"]))
    except (msgspec.DecodeError, KeyError, TypeError):
        return Unavailable(f"cannot use the service: it answered {answer.status_code}", code="service-refused")
