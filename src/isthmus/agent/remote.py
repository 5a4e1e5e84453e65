"""A service behind HTTP: on a unix socket, a loopback port, or over mutual TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from types import TracebackType

import httpx
import msgspec

from isthmus.model.address import Address, TcpAddress
from isthmus.model.desired import Desired, Report
from isthmus.model.errors import HostRevoked, IsthmusError, NotFound, Unavailable
from isthmus.model.names import AttachmentId, HostName
from isthmus.wire.agent import decode_desired, encode_report
from isthmus.wire.api import CertificateAsked, Enrolled, GrantsAnswered, GrantsAsked
from isthmus.wire.decode import decode

SLACK = 10.0
"""Seconds that an answer may take beyond what was asked to wait."""
_JSON = {"Content-Type": "application/json"}


class RemoteOrders:
    """``equipment.Orders`` over HTTP. ``context`` makes what https needs, from the host's certificate as it is then."""

    def __init__(self, address: Address, context: Callable[[], ssl.SSLContext] | None = None) -> None:
        self._address, self._context = address, context
        self._client = self._open()

    def _open(self) -> httpx.AsyncClient:
        address = self._address
        idle = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # httpx's default reads all certificates of the machine
        if not isinstance(address, TcpAddress):
            transport = httpx.AsyncHTTPTransport(uds=str(address.path), verify=idle)
            return httpx.AsyncClient(transport=transport, base_url="http://isthmus", timeout=SLACK, trust_env=False)
        tls = self._context() if address.tls and self._context is not None else idle
        return httpx.AsyncClient(base_url=str(address), verify=tls, timeout=SLACK, trust_env=False)

    async def __aenter__(self) -> RemoteOrders:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def reopen(self) -> None:
        """Connect anew, with the host's certificate as it is now. A request under way ends with ``Unavailable``."""
        before, self._client = self._client, self._open()
        await before.aclose()

    async def desired(self, host: HostName, after: int, timeout: float) -> Desired | None:  # noqa: ASYNC109
        """See ``Orders``."""
        answer = await self._ask(
            "GET",
            f"/v1/hosts/{host}/desired",
            params={"after": str(after), "timeout": f"{timeout:g}"},
            timeout=timeout + SLACK,
        )
        return decode_desired(answer.content) if answer.status_code == httpx.codes.OK else None

    async def report(self, report: Report) -> None:
        """See ``Orders``."""
        await self._ask("POST", f"/v1/hosts/{report.host}/report", content=encode_report(report), headers=_JSON)

    async def sign(self, host: HostName, requests: Mapping[AttachmentId, bytes]) -> Mapping[AttachmentId, str]:
        """See ``Orders``."""
        body = msgspec.json.encode(GrantsAsked(requests={str(name): request for name, request in requests.items()}))
        answer = await self._ask("POST", f"/v1/hosts/{host}/grants", content=body, headers=_JSON)
        refused = decode(answer.content, GrantsAnswered, "answer").refused
        return {AttachmentId(name): reason for name, reason in refused.items()}

    async def certify(self, host: HostName, asked: CertificateAsked) -> Enrolled:
        """Another certificate for this host. Raises as ``Orders``."""
        body = msgspec.json.encode(asked)
        answer = await self._ask("POST", f"/v1/hosts/{host}/certificate", content=body, headers=_JSON)
        return decode(answer.content, Enrolled, "answer")

    async def _ask(self, method: str, path: str, **options: object) -> httpx.Response:
        try:
            answer = await self._client.request(method, path, **options)  # type: ignore[arg-type]
        except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: the client was closed to connect anew
            raise Unavailable(
                f"cannot reach the service at {self._address}: {error or type(error).__name__}",
                code="service-unreachable",
            ) from error
        if answer.is_success:
            return answer
        raise _fault(answer, path)


def _fault(answer: httpx.Response, path: str) -> IsthmusError:
    """The service's error, as far as an agent tells errors apart."""
    try:
        error = msgspec.json.decode(answer.content)["error"]
        message, code = str(error["message"]), str(error["code"])
    except (msgspec.DecodeError, KeyError, TypeError):
        message, code = f"cannot use {path}: the service answered {answer.status_code}", ""
    if code == HostRevoked.code:
        return HostRevoked(message)
    if answer.status_code == httpx.codes.NOT_FOUND:
        return NotFound("host", path.split("/")[3])
    return Unavailable(message, code="service-refused")
