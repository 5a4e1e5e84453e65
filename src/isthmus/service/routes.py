"""The API as one table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any

from isthmus import __version__
from isthmus.model.desired import Desired, Report
from isthmus.model.errors import (
    Conflict,
    Exhausted,
    Forbidden,
    Invalid,
    IsthmusError,
    NotFound,
    Refused,
    Unauthenticated,
    Unavailable,
)
from isthmus.model.names import MIB
from isthmus.service import faults
from isthmus.service.call import Call, Reply
from isthmus.service.handlers import (
    about,
    audit,
    authority,
    enrolments,
    events,
    grants,
    guests,
    hosts,
    pools,
    shares,
    snapshots,
)
from isthmus.service.parameters import PATHS, QUERIES
from isthmus.wire import api, openapi


class Access(Enum):
    """Who may use a route."""

    ANYONE = "anyone"
    MEMBER = "member of the object's project"
    OPERATOR = "operator"
    AGENT = "the agent of the host in the path"


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path. ``success``: statuses and what they carry. ``query``: names in ``parameters.QUERIES``.
    ``max_body`` in bytes."""

    method: str
    path: str
    access: Access
    handler: Callable[[Call], Awaitable[Reply]]
    summary: str
    success: Mapping[int, Any]
    request: Any = None
    query: tuple[str, ...] = ()
    faults: tuple[type[IsthmusError], ...] = ()
    max_body: int = field(default=MIB)

    @property
    def writes(self) -> bool:
        """It may change something."""
        return self.method != "GET"

    @property
    def audited(self) -> bool:
        """The audit tells of it. Agents' reports are no acts of anybody."""
        return self.writes and self.request is not Report and self.request is not api.GrantsAsked

    @property
    def rule(self) -> str:
        """The name of its policy rule: ``isthmus:NOUN:VERB``, such as ``isthmus:shares:create``."""
        noun, verb = self.handler.__module__.rsplit(".", 1)[1], self.handler.__name__
        return f"isthmus:{noun}:{verb}"

    def statuses(self) -> set[int]:
        """All statuses of failure that it may answer with."""
        kinds: set[type[IsthmusError]] = {Invalid, Unavailable, *self.faults}
        if self.access is not Access.ANYONE:
            kinds |= {Unauthenticated, Forbidden}
        if "{" in self.path:
            kinds.add(NotFound)
        if self.request is not None:
            kinds |= {faults.TooLarge, faults.UnreadableType}
        return {faults.status_of(kind) for kind in kinds}


_WAIT = ("after", "timeout")
_KEEP = (NotFound, Conflict, Refused, Exhausted)
_ANY, _MEMBER, _OPERATOR, _AGENT = Access.ANYONE, Access.MEMBER, Access.OPERATOR, Access.AGENT


def _get(path: str, access: Access, handler: Any, summary: str, body: Any, *query: str) -> Route:
    return Route("GET", path, access, handler, summary, {200: body}, query=query)


def _one(path: str, access: Access, handler: Any, summary: str, body: Any) -> Route:
    return Route("GET", path, access, handler, summary, {200: body, 204: None}, query=_WAIT)


def _post(path: str, access: Access, handler: Any, summary: str, *, takes: Any, gives: Mapping[int, Any]) -> Route:
    return Route("POST", path, access, handler, summary, gives, takes, faults=_KEEP)


def _patch(path: str, access: Access, handler: Any, summary: str, *, takes: Any, gives: Mapping[int, Any]) -> Route:
    return Route("PATCH", path, access, handler, summary, gives, takes, faults=_KEEP)


def _delete(path: str, access: Access, handler: Any, summary: str, success: Mapping[int, Any]) -> Route:
    return Route("DELETE", path, access, handler, summary, success, faults=(Conflict,))


_BY_NAME, _BY_ID = ("limit", "marker_name"), ("limit", "marker_id")

# fmt: off
ROUTES: tuple[Route, ...] = (
    _get("/v1", _ANY, about.version, "Who answers", api.Version),
    _get("/v1/health", _ANY, about.health, "Whether the service and its database answer", api.Health),
    _get("/v1/openapi.json", _ANY, about.openapi, "This document", dict),

    _get("/v1/hosts", _OPERATOR, hosts.index, "List hosts", api.Page[api.HostView], *_BY_NAME),
    _post("/v1/hosts", _OPERATOR, hosts.register, "Register a host",
          takes=api.HostCreate, gives={201: api.HostView}),
    _one("/v1/hosts/{host}", _OPERATOR, hosts.show, "Show a host, or wait for its change", api.HostView),
    _delete("/v1/hosts/{host}", _OPERATOR, hosts.remove, "Forget a host", {204: None}),
    Route("GET", "/v1/hosts/{host}/desired", _AGENT, hosts.desired, "The host's document, or wait for its change",
          {200: Desired, 204: None}, query=("after_document", "timeout")),
    Route("POST", "/v1/hosts/{host}/grants", _AGENT, grants.sign, "Ask for grants of the host's attachments",
          {200: api.GrantsAnswered}, api.GrantsAsked),
    _post("/v1/hosts/{host}/tokens", _OPERATOR, enrolments.make_token, "Make a one-time token to enrol a host by",
          takes=api.TokenCreate, gives={201: api.TokenView}),
    _post("/v1/hosts/{host}/certificate", _AGENT, enrolments.renew, "Renew a host's certificate",
          takes=api.CertificateAsked, gives={201: api.Enrolled}),
    Route("DELETE", "/v1/hosts/{host}/certificate", _OPERATOR, enrolments.revoke,
          "Revoke a host: its certificates and grants end", {200: api.HostView}, query=("reason",), faults=(Conflict,)),
    _post("/v1/enrolments", _ANY, enrolments.enrol, "Enrol a host by a one-time token",
          takes=api.Enrolment, gives={201: api.Enrolled}),
    _get("/v1/ca", _ANY, authority.show, "The certificates of the authority", api.AuthorityView),

    Route("POST", "/v1/hosts/{host}/report", _AGENT, hosts.report, "Report what is on the host",
          {204: None}, Report, max_body=16 * MIB),

    _get("/v1/pools", _OPERATOR, pools.index, "List pools", api.Page[api.PoolView], "host", *_BY_NAME),
    _post("/v1/pools", _OPERATOR, pools.register, "Register a pool",
          takes=api.PoolCreate, gives={201: api.PoolView}),
    _one("/v1/pools/{pool}", _OPERATOR, pools.show, "Show a pool, or wait for its change", api.PoolView),
    _patch("/v1/pools/{pool}", _OPERATOR, pools.update, "Change what a pool may promise",
          takes=api.PoolPatch, gives={200: api.PoolView}),
    _delete("/v1/pools/{pool}", _OPERATOR, pools.remove, "Forget a pool that has no shares", {204: None}),

    _get("/v1/types", _MEMBER, pools.index_types, "List share types", api.Page[api.TypeView], *_BY_NAME),
    _post("/v1/types", _OPERATOR, pools.register_type, "Offer a share type",
          takes=api.TypeCreate, gives={201: api.TypeView}),
    _one("/v1/types/{type}", _MEMBER, pools.show_type, "Show a share type, or wait for its change", api.TypeView),
    _delete("/v1/types/{type}", _OPERATOR, pools.remove_type, "Stop offering a share type", {204: None}),

    _get("/v1/shares", _MEMBER, shares.index, "List shares", api.Page[api.ShareView],
         "project", "name", "share_status", "pool", *_BY_ID),
    _post("/v1/shares", _MEMBER, shares.create, "Ask for a share",
          takes=api.ShareCreate, gives={202: api.ShareView}),
    _one("/v1/shares/{share}", _MEMBER, shares.show, "Show a share, or wait for its change", api.ShareView),
    _patch("/v1/shares/{share}", _MEMBER, shares.update, "Rename (200) or resize (202) a share",
          takes=api.SharePatch, gives={200: api.ShareView, 202: api.ShareView}),
    _delete("/v1/shares/{share}", _MEMBER, shares.delete, "Delete a share and its data", {202: api.ShareView}),
    _post("/v1/shares/{share}/revert", _MEMBER, shares.revert, "Take a share's data back to a snapshot",
          takes=api.RevertShare, gives={202: api.ShareView}),

    _get("/v1/snapshots", _MEMBER, snapshots.index, "List snapshots", api.Page[api.SnapshotView],
         "project", "name", "snapshot_status", "share", *_BY_ID),
    _post("/v1/snapshots", _MEMBER, snapshots.create, "Take a snapshot of a share",
          takes=api.SnapshotCreate, gives={202: api.SnapshotView}),
    _one("/v1/snapshots/{snapshot}", _MEMBER, snapshots.show, "Show a snapshot, or wait for its change",
         api.SnapshotView),
    _patch("/v1/snapshots/{snapshot}", _MEMBER, snapshots.update, "Rename a snapshot",
          takes=api.SnapshotPatch, gives={200: api.SnapshotView}),
    _delete("/v1/snapshots/{snapshot}", _MEMBER, snapshots.delete, "Delete a snapshot", {202: api.SnapshotView}),

    _get("/v1/guests", _OPERATOR, guests.index, "List guests", api.Page[api.GuestView],
         "project", "name", "host", *_BY_ID),
    _post("/v1/guests", _OPERATOR, guests.register, "Register a guest",
          takes=api.GuestCreate, gives={201: api.GuestView}),
    _one("/v1/guests/{guest}", _MEMBER, guests.show, "Show a guest, or wait for its change", api.GuestView),
    _patch("/v1/guests/{guest}", _OPERATOR, guests.update, "Change a guest",
          takes=api.GuestPatch, gives={200: api.GuestView}),
    _delete("/v1/guests/{guest}", _OPERATOR, guests.remove, "Forget a guest that has no attachments", {204: None}),

    _get("/v1/attachments", _MEMBER, guests.index_attachments, "List attachments", api.Page[api.AttachmentView],
         "project", "attachment_status", "share", "guest", *_BY_ID),
    _post("/v1/attachments", _MEMBER, guests.attach, "Attach a share to a guest",
          takes=api.AttachmentCreate, gives={202: api.AttachmentView}),
    _one("/v1/attachments/{attachment}", _MEMBER, guests.show_attachment, "Show an attachment, or wait for its change",
         api.AttachmentView),
    _delete("/v1/attachments/{attachment}", _MEMBER, guests.detach, "Detach a share from a guest",
            {202: api.AttachmentView}),

    Route("DELETE", "/v1/attachments/{attachment}/grant", _MEMBER, grants.revoke,
          "Revoke an attachment's grant, and give it no other", {200: api.AttachmentView}, query=("reason",)),
    Route("POST", "/v1/attachments/{attachment}/grant", _MEMBER, grants.renew,
          "Let an attachment have grants again, or a new one", {200: api.AttachmentView}, faults=(Conflict,)),

    _get("/v1/grants", _MEMBER, grants.index, "List grants", api.Page[api.GrantView],
         "project", "attachment", "share", "guest", "host", "limit", "marker_serial"),
    _get("/v1/grants/{grant}", _MEMBER, grants.show, "Show a grant and its certificate", api.GrantView),

    _get("/v1/audit", _OPERATOR, audit.index, "List who did what", api.Page[api.AuditView],
         "user", "project", "action", "target", "request", "limit", "after_entry"),

    _get("/v1/events", _MEMBER, events.index, "List events, or wait for one", api.Page[api.EventView],
         "subject", "kind", "project", "limit", "after_event", "timeout"),
)
# fmt: on


def operation(route: Route) -> openapi.Operation:
    """The route as the OpenAPI document shows it."""
    return openapi.Operation(
        method=route.method,
        path=route.path,
        name=f"{route.handler.__module__.rsplit('.', 1)[1]}_{route.handler.__name__}",
        tag=route.path.split("/")[2] if route.path.count("/") > 1 else "about",
        summary=route.summary,
        path_parameters=[query.described for query in PATHS.values()],
        query=[QUERIES[name].described for name in route.query],
        request=route.request,
        success=route.success,
        faults={status: faults.SUMMARY[status] for status in route.statuses()},
    )


@cache
def described() -> dict[str, Any]:
    """The OpenAPI document of the table."""
    return openapi.document("Isthmus", __version__, map(operation, ROUTES))
