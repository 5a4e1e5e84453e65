"""Finding the route of a request: a tree of path segments, then the method, the action in the body, the version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isthmus.model.errors import IsthmusError
from isthmus.service.routes import Access
from isthmus.wire.manila.shape import Body
from isthmus.wire.manila.version import MAX, shown

WILD = "{}"
Handler = Callable[[Any, Any], object]


class NoSuchPath(IsthmusError):
    """The API has no such path, or not in this version."""

    code = "no-such-path"


class NoSuchMethod(IsthmusError):
    """The path does not have this method."""

    code = "no-such-method"


@dataclass(frozen=True, slots=True)
class Route:
    """One operation, from version 2.``since`` up to 2.``until``. ``rule``: its policy, by Manila's name for it.
    ``action``: the key of the body that chooses it among the actions of a path. ``experimental``: the last version in
    which callers have to ask for it as an experiment. ``everything``: it reaches beyond the caller's project, and
    decides itself."""

    method: str
    path: str
    access: Access
    handler: Handler
    rule: str
    summary: str
    since: int = 0
    until: int = MAX
    status: int = 200
    body: Body | None = None
    action: str = ""
    experimental: int = -1
    everything: bool = False
    changes: bool | None = None
    """Whether it may change something, where its method does not tell."""

    @property
    def writes(self) -> bool:
        """It may change something."""
        return self.method != "GET" if self.changes is None else self.changes


@dataclass(slots=True)
class _Node:
    children: dict[str, _Node] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    routes: dict[str, list[Route]] = field(default_factory=dict)


class Router:
    """Over a table of routes."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        names = []
        for part in route.path.strip("/").split("/"):
            if part.startswith("{"):
                names.append(part[1:-1])
                part = WILD  # noqa: PLW2901 - any segment
            node = node.children.setdefault(part, _Node())
        node.names = tuple(names)
        node.routes.setdefault(route.method, []).append(route)

    def knows(self, segment: str) -> bool:
        """Whether a path may begin with this segment."""
        return segment in self._root.children

    def find(self, method: str, parts: Sequence[str]) -> tuple[list[Route], Mapping[str, str]]:
        """The operations of this path and method, and what the path names. Raises ``NoSuchPath``, ``NoSuchMethod``."""
        wanted = "GET" if method == "HEAD" else method
        found = _walk(self._root, parts, (), wanted)
        if found is None and _walk(self._root, parts, (), "") is not None:
            raise NoSuchMethod(f"The method {method} is not allowed for this resource.")
        if found is None:
            raise NoSuchPath("The resource could not be found.")
        node, values = found
        return node.routes[wanted], dict(zip(node.names, values, strict=True))


def choose(routes: Sequence[Route], minor: int, keys: Iterable[str]) -> Route:
    """The operation of this version; among actions, that which is among the ``keys`` of the body. Raises
    ``NoSuchPath``, in the words that clients know."""
    actions = set(keys)
    known = [route for route in routes if not route.action or route.action in actions]
    for route in known:
        if route.since <= minor <= route.until:
            return route
    if not known:
        raise NoSuchAction("There is no such action: " + ", ".join(sorted(actions))[:80])
    raise NoSuchPath(f"API version {shown(minor)} is not supported on this method.")


class NoSuchAction(IsthmusError):
    """The body names no action that the path has."""

    code = "no-such-action"


def _walk(
    node: _Node, parts: Sequence[str], values: tuple[str, ...], method: str
) -> tuple[_Node, tuple[str, ...]] | None:
    """Where the path ends at something that has the method ("": any), and what it names: words before wild cards."""
    at = parts[:1]
    if not at:
        return (node, values) if (method in node.routes if method else node.routes) else None
    child = node.children.get(at[0])
    if child is not None and (found := _walk(child, parts[1:], values, method)):
        return found
    child = node.children.get(WILD)
    return _walk(child, parts[1:], (*values, at[0]), method) if child is not None else None
