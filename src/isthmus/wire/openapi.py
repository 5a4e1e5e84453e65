"""The API as an OpenAPI 3.1 document, made from the table that the service runs on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from isthmus.wire.api import FaultEnvelope

Schema = Mapping[str, Any]
_PLACEHOLDER = re.compile(r"{(\w+)}")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query or path parameter."""

    name: str
    schema: Schema
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. ``success``: what each status of success carries, None for no body. ``faults``: the other
    statuses that it may answer with."""

    method: str
    path: str
    name: str
    tag: str
    summary: str
    path_parameters: Sequence[Parameter]
    query: Sequence[Parameter]
    request: Any
    success: Mapping[int, Any]
    faults: Mapping[int, str]


def document(title: str, version: str, operations: Iterable[Operation]) -> dict[str, Any]:
    """The OpenAPI document of these operations."""
    operations = list(operations)
    types = {operation.request for operation in operations} | {FaultEnvelope}
    types |= {body for operation in operations for body in operation.success.values()}
    named = sorted(types - {None, dict}, key=str)
    schemas, components = msgspec.json.schema_components(named, ref_template="#/components/schemas/{name}")
    shown: dict[Any, Schema] = dict(zip(named, schemas, strict=True))
    shown[dict] = {"type": "object"}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, shown)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(operation: Operation, shown: Mapping[Any, Schema]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, body in sorted(operation.success.items()):
        responses[str(status)] = _response("Nothing new, or nothing to say" if body is None else "Done", body, shown)
    for status, summary in sorted(operation.faults.items()):
        responses[str(status)] = _response(summary, FaultEnvelope, shown)
    known = {parameter.name: parameter for parameter in operation.path_parameters}
    parameters = [_parameter(known[name], "path") for name in _PLACEHOLDER.findall(operation.path)]
    parameters += [_parameter(parameter, "query") for parameter in operation.query]
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": parameters,
        "responses": responses,
    }
    if operation.request is not None:
        described["requestBody"] = {"required": True, "content": _content(shown[operation.request])}
    return described


def _response(description: str, body: Any, shown: Mapping[Any, Schema]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": description,
        "headers": {"X-Request-Id": {"schema": {"type": "string"}, "description": "to find the request in the logs"}},
    }
    return response if body is None else {**response, "content": _content(shown[body])}


def _content(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _parameter(parameter: Parameter, where: str) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": where,
        "required": where == "path",
        "schema": parameter.schema,
        "description": parameter.description,
    }
