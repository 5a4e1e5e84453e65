"""How a row of the table of routes is written."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from isthmus.service.manila.router import Route
from isthmus.service.routes import Access
from isthmus.wire.manila import requests as r

MEMBER, OPERATOR = Access.MEMBER, Access.OPERATOR


def get(path: str, rule: str, handler: Any, summary: str, who: Access = MEMBER, **more: Any) -> Route:
    """Reads."""
    return Route("GET", path, who, handler, rule, summary, **more)


def post(path: str, rule: str, handler: Any, summary: str, body: Any, who: Access = MEMBER, **more: Any) -> Route:
    """Makes something."""
    return Route("POST", path, who, handler, rule, summary, body=body, **more)


def put(path: str, rule: str, handler: Any, summary: str, body: Any, who: Access = MEMBER, **more: Any) -> Route:
    """Changes something."""
    return Route("PUT", path, who, handler, rule, summary, body=body, **more)


def delete(path: str, rule: str, handler: Any, summary: str, who: Access = MEMBER, **more: Any) -> Route:
    """Removes something."""
    return Route("DELETE", path, who, handler, rule, summary, **{"status": 202, **more})


def act(noun: str, rule: str, handler: Any, summary: str, body: Any, who: Access = MEMBER, **more: Any) -> Route:
    """An action: chosen by the key of the body."""
    path = f"/{noun}/{{id}}/action"
    return Route("POST", path, who, handler, rule, summary, body=body, action=body.root, **{"status": 202, **more})


def labelled(path: str, rule: str, since: int, name: str, m: ModuleType) -> tuple[Route, ...]:
    """Metadata: ``m`` has the handlers."""
    read, write, drop = f"{rule}:get_{name}", f"{rule}:update_{name}", f"{rule}:delete_{name}"
    key = f"{path}/{{key}}"
    return (
        get(path, read, m.index, "List metadata", since=since),
        post(path, write, m.add, "Add metadata", r.METADATA, since=since),
        put(path, write, m.replace, "Replace metadata", r.METADATA, since=since),
        get(key, read, m.show, "Show an item of metadata", since=since),
        post(key, write, m.put, "Set an item of metadata", r.METADATA, since=since),
        put(key, write, m.put, "Set an item of metadata", r.METADATA, since=since),
        delete(key, drop, m.delete, "Delete an item of metadata", since=since, status=200),
    )
