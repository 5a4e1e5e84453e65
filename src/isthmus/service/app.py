"""The routes as an ASGI application: reads what a route says it takes, calls its handler, writes what it answers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as Mounted
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isthmus.model.caller import Caller, Way
from isthmus.model.errors import IsthmusError, Unauthenticated, Unavailable
from isthmus.model.names import new_id
from isthmus.service import faults
from isthmus.service.act import Act
from isthmus.service.call import Call
from isthmus.service.identity.base import Voucher, headers_of, presented_by
from isthmus.service.parameters import read_path, read_query
from isthmus.service.policy import Policy
from isthmus.service.routes import ROUTES, Access, Route
from isthmus.service.service import Service
from isthmus.wire.api import Fault
from isthmus.wire.decode import decode

LOG = logging.getLogger(__name__)

JSON = "application/json"


def build(service: Service, voucher: Voucher, policy: Policy, routes: Iterable[Route] = ROUTES) -> Starlette:
    """The API of the service for one listener, whose callers ``voucher`` vouches for."""
    by_path: dict[str, dict[str, Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, {})[route.method] = route
    door = Door(service, voucher, policy)
    return Starlette(
        routes=[Mounted(path, _endpoint(door, methods), methods=list(methods)) for path, methods in by_path.items()],
        middleware=[Middleware(RequestIds)],
        exception_handlers={
            IsthmusError: _fault_answer(voucher.challenge),
            HTTPException: _http_error,
            ClientDisconnect: _gone,
            Exception: _unexpected,
        },
    )


class RequestIds:
    """Gives every request an id, which its answer carries in X-Request-Id and every fault in its envelope."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req-{new_id()}"
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        await self._app(scope, receive, send_with_id)


@dataclass(frozen=True, slots=True)
class Door:
    """Who comes in, and what he may do."""

    service: Service
    voucher: Voucher
    policy: Policy

    async def caller(self, route: Route, request: Request) -> Caller:
        """Who asks. Raises ``Unauthenticated`` where somebody must, and see ``Voucher``."""
        caller = await self.voucher.caller(presented_by(request.scope, headers_of(request.scope)))
        if caller.way is Way.NOBODY and route.access is not Access.ANYONE:
            raise Unauthenticated("cannot answer: say who you are")
        return caller


def _endpoint(door: Door, methods: Mapping[str, Route]) -> Callable[[Request], Awaitable[Response]]:
    async def run(request: Request) -> Response:
        route = methods["GET" if request.method == "HEAD" else request.method]
        caller = await door.caller(route, request)
        path = read_path(request.path_params)
        named = tuple(f"{noun}/{key}" for noun, key in path.items())
        act = Act(caller, _request_id(request), route.rule if route.audited else "", named)
        try:
            reach = door.policy.admit(route, caller, path)
            query = read_query(route.query, request.query_params.multi_items())
            body = None if route.request is None else decode(await _body(request, route.max_body), route.request)
            reply = await route.handler(Call(door.service, path, query, body, act, reach))
        except Unavailable:
            raise
        except IsthmusError as error:
            if act.action and caller.way is not Way.NOBODY:
                await door.service.refused(act, error)
            raise
        if reply.body is None:
            return Response(status_code=reply.status)
        return Response(msgspec.json.encode(reply.body), reply.status, media_type=JSON)

    return run


async def _body(request: Request, limit: int) -> bytes:
    """The body. Raises ``UnreadableType`` unless it is declared as JSON, ``TooLarge`` beyond ``limit`` bytes."""
    declared = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if declared != JSON:
        raise faults.UnreadableType(f"cannot read the request: send it with Content-Type {JSON}")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise faults.TooLarge(f"cannot read the request: it has more than {limit} bytes", detail={"limit": limit})
    return bytes(body)


def _request_id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))


def _fault_answer(challenge: str) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, IsthmusError)  # noqa: S101 - what this handler is registered for
        return faults.answer(error, _request_id(request), challenge)

    return answer


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own: no such path, or none with this method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - what this handler is registered for
    code = {404: "no-such-path", 405: "no-such-method"}.get(error.status_code, "http")
    message = f"cannot answer {request.method}: {faults.SUMMARY.get(error.status_code, error.detail)}"
    if code == "no-such-path":
        message = "cannot find the path: see /v1/openapi.json for those that exist"
    fault = Fault(code=code, message=message, detail={}, request_id=_request_id(request))
    return faults.envelope(error.status_code, fault, error.headers)


async def _gone(_request: Request, _error: Exception) -> Response:
    """The client left before it had said everything; nobody reads this."""
    return Response(status_code=400)


async def _unexpected(request: Request, _error: Exception) -> Response:
    """A defect. Starlette raises it again after this answer, so that the server logs it with its traceback."""
    request_id = _request_id(request)
    LOG.error(
        "%s %s failed by a defect, whose traceback follows (request %s)", request.method, request.url.path, request_id
    )
    message = f"cannot answer: a defect of the service; its log has more (request {request_id})"
    fault = Fault(code="internal", message=message, detail={}, request_id=request_id)
    return faults.envelope(500, fault, {"X-Request-Id": request_id})  # it is sent from outside of RequestIds
