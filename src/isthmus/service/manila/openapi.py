"""The Shared File Systems API in one version as an OpenAPI 3.1 document, made from the table that the service runs on.

Actions are one operation of their path, with a body for each; so are routes that succeed with several statuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from isthmus.service.manila.router import Route
from isthmus.service.manila.routes import ROUTES
from isthmus.service.routes import Access
from isthmus.wire.manila import version

PATH = "openapi.json"
_ACCEPTED = 202
FAULTS: Mapping[int, str] = {
    400: "What was asked for cannot work as it is",
    401: "Nobody vouches for the caller",
    403: "The caller may not, or a policy or lock forbids it",
    404: "There is none, or not for the caller",
    405: "The path does not have this method",
    409: "The present state forbids it",
    413: "A quota, or a pool, has no room",
    415: "The body is not declared as JSON",
    503: "The service cannot answer now",
}
_PLACEHOLDER = re.compile(r"{(\w+)}")
_ENVELOPE: Mapping[str, Any] = {
    "type": "object",
    "description": "one property, named after the kind of fault",
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": {
        "type": "object",
        "properties": {
            "code": {"type": "integer"},
            "message": {"type": "string"},
            "retryAfter": {"type": "string"},
        },
        "required": ["code", "message"],
    },
}


@cache
def document(minor: int) -> dict[str, Any]:
    """The document of version 2.``minor``."""
    live = [route for route in ROUTES if route.since <= minor <= route.until]
    paths: dict[str, dict[str, Any]] = {}
    for (path, method), routes in _grouped(live).items():
        paths.setdefault(f"/v2{path}", {})[method.lower()] = _operation(path, method, routes, minor)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Isthmus: OpenStack Shared File Systems API",
            "version": version.shown(minor),
            "description": f"Requests carry {version.HEADER}: {version.shown(minor)}.",
        },
        "paths": paths,
        "components": {"schemas": {"Fault": dict(_ENVELOPE)}},
    }


def _grouped(routes: Iterable[Route]) -> dict[tuple[str, str], list[Route]]:
    found: dict[tuple[str, str], list[Route]] = {}
    for route in routes:
        found.setdefault((route.path, route.method), []).append(route)
    return found


def _operation(path: str, method: str, routes: Sequence[Route], minor: int) -> dict[str, Any]:
    header = {"name": version.HEADER, "in": "header", "required": True, "schema": {"const": version.shown(minor)}}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PLACEHOLDER.findall(path)
    ]
    described: dict[str, Any] = {
        "operationId": f"{method.lower()}:{path}",
        "tags": [path.split("/")[1]],
        "summary": "; ".join(dict.fromkeys(route.summary for route in routes)),
        "description": "; ".join(_who(route) for route in routes),
        "parameters": [*parameters, header],
        "responses": {
            **{str(route.status): _success(route) for route in routes},
            **{str(status): _fault(summary) for status, summary in FAULTS.items()},
        },
    }
    bodies = [route.body.at(minor) for route in routes if route.body is not None]
    if bodies:
        schema = bodies[0] if len(bodies) == 1 else {"anyOf": bodies}
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return described


def _who(route: Route) -> str:
    may = "operators" if route.access is Access.OPERATOR else "members"
    return f"{route.action or route.summary}: {may}, by rule {route.rule}"


def _success(route: Route) -> dict[str, Any]:
    if route.method == "DELETE" or (route.action and route.status == _ACCEPTED):
        return {"description": "Done, or begun: there is nothing to say"}
    return {"description": "Done, or begun", "content": {"application/json": {"schema": {"type": ["object", "null"]}}}}


def _fault(summary: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Fault"}}}
    return {"description": summary, "content": content}
