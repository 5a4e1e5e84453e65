"""Whether a request's body is what its schema says, and the sentence that says what is wrong with it."""

from __future__ import annotations

import json
import uuid
from functools import cache
from typing import Any

import fastjsonschema

from isthmus.model.errors import Invalid
from isthmus.wire.manila.shape import Body


def check(body: Body, minor: int, value: Any) -> Any:
    """What is below the body's root, without the fields that other versions have. Raises ``Invalid``, which names the
    field."""
    if body.root and isinstance(value, dict):
        for other in body.also:
            if other in value and body.root not in value:
                value = {body.root: value[other]}
    try:
        _compiled(body, body.step(minor))(value)
    except fastjsonschema.JsonSchemaValueException as error:
        # ``path`` begins with "data", fastjsonschema's word for the whole document.
        field = ".".join(str(part) for part in error.path[1:])
        cause = error.message.removeprefix(error.name or "").strip()
        raise Invalid(f"cannot read the request: {field or 'the body'} {cause[:300]}", field=field) from error
    inner = value[body.root] if body.root else value
    if isinstance(inner, dict):
        dropped = body.ignored(minor)
        inner = {name: one for name, one in inner.items() if name not in dropped}
    return inner


@cache
def _compiled(body: Body, minor: int) -> Any:
    return fastjsonschema.compile(json.loads(json.dumps(body.at(minor))), formats={"uuid": _is_uuid})


def _is_uuid(text: str) -> bool:
    try:
        return bool(uuid.UUID(text))
    except ValueError:
        return False
