"""The API's client: small, typed, over the service's unix socket or a loopback port."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import quote

import msgspec

from isthmus.cli import credentials
from isthmus.model.address import UnixAddress, parse_address
from isthmus.model.errors import Invalid, IsthmusError, Unavailable
from isthmus.wire.api import (
    AttachmentView,
    AuditView,
    EventView,
    FaultEnvelope,
    GrantView,
    GuestView,
    HostView,
    Page,
    PoolView,
    RevertShare,
    ShareView,
    SnapshotView,
    TokenCreate,
    TokenView,
    TypeView,
)
from isthmus.wire.decode import decode

if TYPE_CHECKING:
    import httpx

View = TypeVar("View", bound=msgspec.Struct)
Value = TypeVar("Value")

PAGE = 500
NOT_FOUND = 404
ANSWER_SECONDS = 30.0
"""How long an answer may take, beyond what a long-poll asks for."""


@dataclass(frozen=True, slots=True)
class Noun(Generic[View]):
    """A kind of object of the API. ``key``: the field that names one."""

    word: str
    path: str
    view: type[View]
    page: type[Page[View]]
    key: str = "id"

    def key_of(self, view: View) -> str:
        """What names this object in the API."""
        return str(getattr(view, self.key))


HOSTS = Noun("host", "hosts", HostView, Page[HostView], "name")
POOLS = Noun("pool", "pools", PoolView, Page[PoolView], "name")
TYPES = Noun("type", "types", TypeView, Page[TypeView], "name")
SHARES = Noun("share", "shares", ShareView, Page[ShareView])
SNAPSHOTS = Noun("snapshot", "snapshots", SnapshotView, Page[SnapshotView])
GUESTS = Noun("guest", "guests", GuestView, Page[GuestView])
ATTACHMENTS = Noun("attachment", "attachments", AttachmentView, Page[AttachmentView])
GRANTS = Noun("grant", "grants", GrantView, Page[GrantView], "serial")
AUDIT = Noun("audit", "audit", AuditView, Page[AuditView])
EVENTS = Noun("event", "events", EventView, Page[EventView])


class Answered(IsthmusError):
    """The service said no. ``status`` is the HTTP status, ``code`` and ``detail`` are the service's."""

    def __init__(self, status: int, envelope: FaultEnvelope) -> None:
        fault = envelope.error
        super().__init__(fault.message, code=fault.code, detail=fault.detail)
        self.status, self.request_id = status, fault.request_id


class NotFoundHere(IsthmusError):
    """No object has this name or prefix."""

    code = "not-found"


class Client:
    """Requests to one service. Every method raises ``Answered`` if the service says no and ``Unavailable`` if it does
    not answer."""

    def __init__(self, address: str) -> None:
        """``address``: ``unix:/run/isthmus/api.sock``, ``http://127.0.0.1:PORT`` or ``https://HOST:PORT``. Over TCP,
        the environment says who asks (``cli.credentials``). Raises ``Invalid``, ``Unavailable``."""
        self._address = address
        self._http = _open(address)

    def close(self) -> None:
        """The connection is closed."""
        self._http.close()

    def page(self, noun: Noun[View], query: Mapping[str, str]) -> Page[View]:
        """A part of the list of what passes the query, in the order of keys."""
        return decode(self._ask("GET", f"/v1/{noun.path}", query=query).content, noun.page, "answer")

    def all(self, noun: Noun[View], filters: Mapping[str, str] | None = None) -> list[View]:
        """All objects that pass the filters."""
        found: list[View] = []
        query = {**(filters or {}), "limit": str(PAGE)}
        while True:
            page = self.page(noun, query)
            found += page.items
            if page.next is None:
                return found
            query["marker"] = page.next

    def get(self, noun: Noun[View], key: str) -> View:
        """One object."""
        return decode(self._ask("GET", _path(noun, key)).content, noun.view, "answer")

    def next(self, noun: Noun[View], key: str, after: int, seconds: float) -> View | None:
        """The object as soon as its revision is beyond ``after``; None if that is not so within ``seconds``."""
        query = {"after": str(after), "timeout": f"{seconds:.3f}"}
        return self._take(noun, self._ask("GET", _path(noun, key), query=query, seconds=seconds))

    def events(self, after: int, seconds: float, filters: Mapping[str, str]) -> list[EventView]:
        """Some events beyond the id ``after``, oldest first, as soon as there are any; none within ``seconds``: []."""
        query = {**filters, "after": str(after), "limit": str(PAGE), "timeout": f"{seconds:.3f}"}
        return decode(self._ask("GET", "/v1/events", query=query, seconds=seconds).content, EVENTS.page, "answer").items

    def create(self, noun: Noun[View], request: msgspec.Struct) -> View:
        """The object is asked for; as it is now."""
        return decode(self._ask("POST", f"/v1/{noun.path}", request).content, noun.view, "answer")

    def change(self, noun: Noun[View], key: str, request: msgspec.Struct) -> View:
        """The object with these changes asked for; as it is now."""
        return decode(self._ask("PATCH", _path(noun, key), request).content, noun.view, "answer")

    def delete(self, noun: Noun[View], key: str) -> View | None:
        """The object is asked to go; as it is now, None if it is gone already."""
        return self._take(noun, self._ask("DELETE", _path(noun, key)))

    def revert(self, share: str, snapshot: str) -> ShareView:
        """The share is asked to go back to the snapshot; as it is now."""
        answer = self._ask("POST", f"{_path(SHARES, share)}/revert", RevertShare(snapshot=snapshot))
        return decode(answer.content, ShareView, "answer")

    def make_token(self, host: str, *, replace: bool, lifetime: float) -> TokenView:
        """A one-time token by which an agent enrols as the host."""
        request = TokenCreate(replace=replace, lifetime=lifetime)
        return decode(self._ask("POST", f"{_path(HOSTS, host)}/tokens", request).content, TokenView, "answer")

    def revoke_host(self, host: str, reason: str) -> HostView:
        """The host's certificates and grants have ended."""
        answer = self._ask("DELETE", f"{_path(HOSTS, host)}/certificate", query={"reason": reason})
        return decode(answer.content, HostView, "answer")

    def revoke_grant(self, attachment: str, reason: str) -> None:
        """The attachment has no grant, and gets none."""
        self._ask("DELETE", f"{_path(ATTACHMENTS, attachment)}/grant", query={"reason": reason})

    def renew_grant(self, attachment: str) -> None:
        """The attachment gets a new grant."""
        self._ask("POST", f"{_path(ATTACHMENTS, attachment)}/grant")

    def _take(self, noun: Noun[View], answer: httpx.Response) -> View | None:
        return decode(answer.content, noun.view, "answer") if answer.content else None

    def _ask(
        self,
        method: str,
        path: str,
        request: msgspec.Struct | None = None,
        *,
        query: Mapping[str, str] | None = None,
        seconds: float = 0.0,
    ) -> httpx.Response:
        import httpx  # noqa: PLC0415 - a tenth of a second that --help and completion of verbs do not need

        body = None if request is None else msgspec.json.encode(request)
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            answer = self._http.request(
                method, path, params=query, content=body, headers=headers, timeout=ANSWER_SECONDS + seconds
            )
        except httpx.TimeoutException as error:
            raise Unavailable(f"cannot use the service at {self._address}: it does not answer") from error
        except httpx.TransportError as error:
            raise Unavailable(f"cannot reach the service at {self._address}: {_why(error)}") from error
        if answer.is_success:
            return answer
        try:
            envelope = decode(answer.content, FaultEnvelope, "answer")
        except Invalid as error:
            raise Unavailable(
                f"cannot use the service at {self._address}: it answers {answer.status_code}, not as Isthmus does"
            ) from error
        raise Answered(answer.status_code, envelope)


def _open(address: str) -> httpx.Client:
    import httpx  # noqa: PLC0415 - see Client._ask

    place = parse_address(address, "api")
    tls = ssl.SSLContext(
        ssl.PROTOCOL_TLS_CLIENT
    )  # not used without TLS; httpx's default reads all certificates, for 60 ms
    if isinstance(place, UnixAddress):
        transport = httpx.HTTPTransport(uds=str(place.path), verify=tls)
        return httpx.Client(transport=transport, base_url="http://localhost", verify=tls, trust_env=False)
    if place.tls:
        tls = credentials.trust()
    return httpx.Client(base_url=address.rstrip("/"), verify=tls, trust_env=False, headers=credentials.headers())


def _path(noun: Noun[View], key: str) -> str:
    return f"/v1/{noun.path}/{quote(key, safe='')}"


def _why(error: BaseException) -> str:
    """The cause and the mend, by the errno at the bottom of the chain of exceptions."""
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, OSError) and cause.errno):
        cause = cause.__cause__ or cause.__context__
    number = cause.errno if isinstance(cause, OSError) else None
    if number in (errno.ENOENT, errno.ECONNREFUSED):
        return "nobody listens there: start it with `isthmus up`, or name another with --api"
    if number in (errno.EACCES, errno.EPERM):
        return "permission denied: run this as the user who started it (root)"
    return os.strerror(number) if number else str(error) or type(error).__name__
