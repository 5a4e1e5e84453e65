"""The Shared File Systems API as an ASGI application, and the two faces of the service side by side.

It reads its requests itself: a framework's requests, responses and hundreds of path patterns would cost more than
everything else that showing a share takes.
"""

from __future__ import annotations

import logging
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from isthmus.model.caller import Way
from isthmus.model.errors import Invalid, IsthmusError, Unauthenticated, Unavailable
from isthmus.model.names import MIB, new_id
from isthmus.service.act import Act
from isthmus.service.faults import TooLarge, UnreadableType
from isthmus.service.identity.base import Voucher, headers_of, presented_by
from isthmus.service.manila import faults, openapi
from isthmus.service.manila.ask import Ask
from isthmus.service.manila.router import NoSuchPath, Route, Router, choose
from isthmus.service.manila.routes import ROUTES
from isthmus.service.policy import Policy
from isthmus.service.seal import Seal
from isthmus.service.service import Service
from isthmus.store.reach import EVERYTHING
from isthmus.wire.manila import version
from isthmus.wire.manila.check import check
from isthmus.wire.manila.fault import envelope

LOG = logging.getLogger(__name__)

Headers = Mapping[str, str]
_JSON = (b"content-type", b"application/json")
_HOST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]")


class Faces:
    """Both APIs at one address: ``/`` and ``/v2`` are Manila's, all else is Isthmus's own."""

    def __init__(self, own: ASGIApp, manila: ASGIApp) -> None:
        self._own, self._manila = own, manila

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope.get("path", "")
        theirs = scope["type"] == "http" and (path in ("/", "/v2") or path.startswith("/v2/"))
        await (self._manila if theirs else self._own)(scope, receive, send)


@dataclass(frozen=True, slots=True)
class _Request:
    """What is known of a request before its body is read. ``root``: the URL before ``/v2``."""

    scope: Scope
    headers: Headers
    minor: int
    root: str
    id: str


class Manila:
    """Over one service, for callers that ``voucher`` vouches for."""

    def __init__(
        self,
        service: Service,
        voucher: Voucher,
        policy: Policy,
        *,
        gateway: str,
        seal: Seal,
        routes: Iterable[Route] = ROUTES,
    ) -> None:
        self._service, self._voucher, self._policy = service, voucher, policy
        self._gateway, self._seal = gateway, seal
        self._router = Router(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request_id = f"req-{new_id()}"
        body: Any
        headers = headers_of(scope)
        minor = version.MIN
        extra: list[tuple[bytes, bytes]] = []
        try:
            root = f"{scope['scheme']}://{_host(headers, scope)}"
            path = scope["path"]
            if path == "/":
                status, body = 300, version.documents(root)
            else:
                minor = version.read(headers.get(version.HEADER))
                known = _Request(scope, headers, minor, root, request_id)
                status, body = await self._answer(known, receive)
        except IsthmusError as error:
            status = faults.status_of(error)
            body = envelope(status, error.message)
            if isinstance(error, Unauthenticated) and self._voucher.challenge:
                extra = [(b"www-authenticate", self._voucher.challenge.encode())]
        except Exception:
            LOG.exception("%s %s failed by a defect (request %s)", scope["method"], scope["path"], request_id)
            status, body = 500, envelope(500, f"A defect of the service; its log has more (request {request_id}).")
        encoded = b"" if body is None else msgspec.json.encode(body)
        if scope["path"] != "/":
            extra += [
                (b"x-openstack-manila-api-version", version.shown(minor).encode()),
                (b"vary", b"X-OpenStack-Manila-API-Version"),
            ]
        identity = request_id.encode()
        extra += [(b"x-openstack-request-id", identity), (b"x-compute-request-id", identity)]
        extra += [(b"content-length", str(len(encoded)).encode())] if status != 204 else []
        await send({"type": "http.response.start", "status": status, "headers": [_JSON, *extra] if encoded else extra})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else encoded})

    async def _answer(self, known: _Request, receive: Receive) -> tuple[int, Any]:
        """Status and body."""
        method = known.scope["method"]
        if "\0" in known.scope["path"]:
            raise NoSuchPath("The resource could not be found.")
        parts = [part for part in known.scope["path"].split("/") if part][1:]
        if parts in ([], [openapi.PATH]):
            return 200, _about(known, bool(parts))
        prefix = ""
        if not self._router.knows(parts[0]) and len(parts) > 1:
            prefix, parts = parts[0], parts[1:]
        routes, path = self._router.find(method, parts)
        caller = await self._voucher.caller(presented_by(known.scope, known.headers))
        if caller.way is Way.NOBODY:
            raise Unauthenticated("cannot answer: say who you are")
        if prefix and caller.project is not None and prefix != caller.project:
            raise Invalid("Malformed request url: its project is another than that of your token", field="project_id")
        reads = method in ("POST", "PUT") and routes[0].body is not None
        body = await _read(receive, known.headers) if reads else None
        route = choose(routes, known.minor, body if isinstance(body, dict) else ())
        if known.minor <= route.experimental and known.headers.get(version.EXPERIMENTAL, "").lower() != "true":
            raise NoSuchPath("This API is experimental in this version: send X-OpenStack-Manila-API-Experimental: true")
        base = f"{known.root}/v2/{prefix}" if prefix else f"{known.root}/v2"
        noun = parts[0].rstrip("s")
        named = tuple(f"{noun}/{value}" for value in path.values())
        act = Act(caller, known.id, route.rule if route.writes else "", named)
        names = {**path, "": "/".join(parts)}
        try:
            reach = self._policy.admit(route, caller, {})
            inner = check(route.body, known.minor, body) if route.body is not None else None
            query = _query(known.scope)
            ask = Ask(act, known.minor, reach, names, query, inner, base, known.root, self._gateway, self._seal, prefix)
            return route.status, await self._do(route, ask)
        except Unavailable:
            raise
        except IsthmusError as error:
            if act.action:
                await self._service.refused(act, error)
            raise

    async def _do(self, route: Route, ask: Ask) -> object:
        """What the handler makes of one transaction."""
        reach = EVERYTHING if route.everything else ask.reach
        if route.writes:
            return await self._service.write(lambda tx: route.handler(ask, tx), reach, ask.act)
        return await self._service.read(lambda tx: route.handler(ask, tx), reach)


def _about(known: _Request, described: bool) -> dict[str, Any]:
    """What everybody may read: which versions there are, or the OpenAPI document of one, the newest if none is asked
    for."""
    if not described:
        return version.documents(known.root)
    return openapi.document(known.minor if version.HEADER in known.headers else version.MAX)


def _host(headers: Headers, scope: Scope) -> str:
    """Where the client thinks that this is: only what can stand in a URL."""
    told = headers.get("host", "")
    if told and set(told) <= _HOST:
        return told
    server = scope.get("server") or ("localhost", None)
    return f"{server[0]}:{server[1]}" if server[1] else str(server[0])


def _query(scope: Scope) -> Mapping[str, str]:
    raw = scope.get("query_string", b"")
    if not raw:
        return {}
    try:
        pairs = urllib.parse.parse_qsl(raw.decode("ascii"), keep_blank_values=True, max_num_fields=100, errors="strict")
    except ValueError as error:
        raise Invalid("cannot read the query: it is not UTF-8 in percent-encoding, or too long") from error
    if any("\0" in text for pair in pairs for text in pair):
        raise Invalid("cannot read the query: it holds a NUL character")
    return dict(pairs)


async def _read(receive: Receive, headers: Headers) -> Any:
    """The body. Raises ``Invalid``, ``TooLarge``, ``UnreadableType``."""
    raw = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Invalid("cannot read the request: it ended early")
        raw += message.get("body", b"")
        more = message.get("more_body", False)
        if len(raw) > MIB:
            raise TooLarge(f"cannot read the request: it has more than {MIB} bytes")
    if not raw:
        return {}
    declared = headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if declared != "application/json":
        raise UnreadableType("cannot read the request: send it with Content-Type application/json")
    try:
        found = msgspec.json.decode(bytes(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"cannot read the request: it is not JSON in UTF-8: {str(error)[:200]}") from error
    if not isinstance(found, dict):
        raise Invalid("cannot read the request: its body is not a JSON object")
    if "\0" in str(found):
        raise Invalid("cannot read the request: it holds a NUL character")
    return found
