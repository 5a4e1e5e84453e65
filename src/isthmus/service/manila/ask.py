"""What a handler gets: one request, read and admitted."""

from __future__ import annotations

import ast
import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec

from isthmus.model.caller import Caller
from isthmus.model.errors import Forbidden, Invalid
from isthmus.model.names import ProjectId, parse_project
from isthmus.service.act import Act
from isthmus.service.seal import Seal
from isthmus.store.query import Query, Value
from isthmus.store.reach import Reach
from isthmus.wire.manila.shape import Shape, flag, labels

MAX_LIMIT = 1000
_MAX_OFFSET = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Ask:
    """``minor``: of the version. ``base``: the URL before ``/shares``; ``root``: that before ``/v2``. ``gateway``: the
    address at which every guest finds its gateway. ``body``: what is below the root of the request's body."""

    act: Act
    minor: int
    reach: Reach
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    base: str
    root: str
    gateway: str
    seal: Seal
    prefix: str = ""

    @property
    def caller(self) -> Caller:
        """Who asks."""
        return self.act.caller

    @property
    def id(self) -> str:
        """The object that the path names."""
        return self.path["id"]

    @property
    def admin(self) -> bool:
        """Everybody's objects are in the caller's reach."""
        return self.reach.project is None

    @property
    def own(self) -> str | None:
        """The project that the caller is confined to, None for an operator."""
        return self.reach.project

    @property
    def project(self) -> ProjectId:
        """The project that new objects belong to: the caller's, or, for an operator of the whole system, that of the
        URL. Raises ``Invalid`` if there is none."""
        if self.caller.project is not None:
            return self.caller.project
        if self.admin and self.prefix:
            return parse_project(self.prefix)
        raise Invalid(
            "cannot tell whose it is: take a token for a project, or name it in the URL: /v2/PROJECT/...",
            field="project_id",
        )

    def need_admin(self, what: str) -> None:
        """Raise ``Forbidden`` unless an operator asks."""
        if not self.admin:
            raise Forbidden(f"cannot {what}: only an operator can")

    def scope(self) -> dict[str, Value]:
        """Whose objects a list shows: the caller's project's; an operator's ``all_tenants`` shows everybody's."""
        if self.own is not None:
            return {"project": self.own}
        if wanted := self.query.get("project_id"):
            return {"project": wanted}
        everybody = self.caller.project is None or flag(self.query.get("all_tenants"))
        return {} if everybody else {"project": str(self.caller.project)}

    def equals(self, *filters: tuple[str, str]) -> dict[str, Value]:
        """Those of these filters that the query has, as columns and values."""
        return {column: self.query[name] for name, column in filters if name in self.query}

    def holds(self, *filters: tuple[str, str], since: int = 0) -> dict[str, str]:
        """The same of filters that look for a part of a text, which there are from a version on."""
        return {column: self.query[name] for name, column in filters if name in self.query and self.minor >= since}

    def mapping(self, name: str) -> dict[str, str]:
        """A filter that clients write as a Python or JSON dictionary; empty without one. Raises ``Invalid``."""
        text = self.query.get(name)
        if text is None:
            return {}
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
            raise Invalid(f"cannot use {name}: give a dictionary", field=name) from error
        if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
            raise Invalid(f"cannot use {name}: give a dictionary", field=name)
        return labels(found)

    def show(self, shape: Shape, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The facts as this version shows them to this caller."""
        return shape.show(facts, self.minor, admin=self.admin)

    def links(self, collection: str, key: str) -> list[dict[str, str]]:
        """Of one object."""
        return [
            {"rel": "self", "href": f"{self.base}/{collection}/{key}"},
            {"rel": "bookmark", "href": f"{self.root}/{collection}/{key}"},
        ]

    def summaries(self, collection: str, rows: Iterable[Sequence[Any]]) -> list[msgspec.Raw]:
        """Ids, names and links of objects, written as JSON at once: of a thousand, nothing else takes as long. Ids are
        UUIDs, and ``base`` and ``root`` hold nothing that JSON would escape."""
        own, mark = f"{self.base}/{collection}/", f"{self.root}/{collection}/"
        encode = msgspec.json.encode
        return [
            msgspec.Raw(
                f'{{"id":"{key}","name":{encode(name or None).decode()},"links":[{{"rel":"self","href":"{own}{key}"}},'
                f'{{"rel":"bookmark","href":"{mark}{key}"}}]}}'.encode()
            )
            for key, name in rows
        ]

    @property
    def limit(self) -> int:
        """At most so many. Raises ``Invalid``."""
        return min(self.number("limit", MAX_LIMIT), MAX_LIMIT)

    @property
    def offset(self) -> int:
        """From beyond so many. Raises ``Invalid``."""
        return self.number("offset", 0)

    def number(self, name: str, default: int) -> int:
        """A whole number of the query, 0 or more. Raises ``Invalid``."""
        text = self.query.get(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdecimal() or int(text[:12]) > _MAX_OFFSET:
            raise Invalid(f"{name} param must be an integer, 0 or more", field=name)
        return int(text)

    def flag(self, name: str) -> bool | None:
        """A boolean of the query, None if it is not there. Raises ``Invalid``."""
        text = self.query.get(name)
        if text is None:
            return None
        if text.lower() not in ("true", "false", "1", "0", "yes", "no", "on", "off", "t", "f"):
            raise Invalid(f"cannot use {name}: give True or False", field=name)
        return flag(text)

    def when(self, name: str, since: int) -> datetime.datetime | None:
        """A time of the query, from a version on. Raises ``Invalid``."""
        text = self.query.get(name)
        if text is None or self.minor < since:
            return None
        try:
            found = datetime.datetime.fromisoformat(text)
        except ValueError as error:
            raise Invalid(f"cannot use {name}: give an ISO 8601 time", field=name) from error
        return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)

    def order(self, keys: Mapping[str, str], default: str = "created_at") -> tuple[str, bool]:
        """Column to sort by and whether it descends. Raises ``Invalid``."""
        name = self.query.get("sort_key", default)
        way = self.query.get("sort_dir", "desc").lower()
        if name not in keys:
            raise Invalid(f"cannot sort by this key: choose one of {', '.join(sorted(keys))}", field="sort_key")
        if way not in ("asc", "desc"):
            raise Invalid("cannot sort that way: sort_dir is asc or desc", field="sort_dir")
        return keys[name], way == "desc"

    def part(self, equal: Mapping[str, Value], keys: Mapping[str, str], **more: Any) -> Query:
        """The part of a list that the query asks for."""
        sort, descending = self.order(keys)
        return Query(equal=equal, sort=sort, descending=descending, limit=self.limit, offset=self.offset, **more)

    def page(self, name: str, shown: list[Any], count: int | None = None) -> dict[str, Any]:
        """A list as the body of an answer, with a link to what comes next where there may be more."""
        body: dict[str, Any] = {name: shown}
        if count is not None:
            body["count"] = count
        if "limit" in self.query and shown and len(shown) == self.limit:
            rest = {**self.query, "limit": str(self.limit), "offset": str(self.offset + len(shown))}
            body[f"{name}_links"] = [{"rel": "next", "href": f"{self.base}/{self.path['']}?{_encoded(rest.items())}"}]
        return body


def stamp(time: datetime.datetime | None) -> str | None:
    """A time as the API writes it: UTC, without saying so."""
    return None if time is None else time.replace(tzinfo=None).isoformat(timespec="microseconds")


def _encoded(pairs: Iterable[tuple[str, str]]) -> str:

    return urlencode(list(pairs))
