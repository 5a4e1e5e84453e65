"""What a caller may do: oslo.policy, a rule per route, defaults in code, overrides in ``policy.yaml``.

Rules speak of roles and scope alone. Whose an object is, the store decides (``store.reach``); of that, policy says
only whom the rule ``isthmus:operator`` fits: all is in his reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from oslo_config import cfg
from oslo_policy import policy

from isthmus.model.caller import Caller, Way
from isthmus.model.errors import Forbidden, Invalid
from isthmus.service.manila.routes import ROUTES as THEIRS
from isthmus.service.routes import ROUTES, Access
from isthmus.store.reach import EVERYTHING, Reach

OPERATOR = "isthmus:operator"
OBSERVER = "isthmus:observer"
AGENT = "isthmus:agent"

BASE: Mapping[str, tuple[str, str]] = {
    OPERATOR: ("role:admin and system_scope:all", "Whoever this fits has everybody's objects in his reach"),
    OBSERVER: ("role:reader and system_scope:all", "Whoever this fits may read everybody's objects"),
    AGENT: ("host:%(host)s", "The agent of the host that the path names, by its certificate"),
}
_DEFAULTS: Mapping[tuple[Access, bool], str] = {
    (Access.ANYONE, False): "@",
    (Access.ANYONE, True): "@",
    (Access.MEMBER, False): "role:reader",
    (Access.MEMBER, True): "role:member",
    (Access.OPERATOR, False): f"rule:{OBSERVER}",
    (Access.OPERATOR, True): f"rule:{OPERATOR}",
    (Access.AGENT, False): f"rule:{AGENT} or rule:{OPERATOR}",
    (Access.AGENT, True): f"rule:{AGENT} or rule:{OPERATOR}",
}
_REMEMBERED = 10_000


def default_of(route: Ruled) -> str:
    """The rule of a route unless the operator says otherwise."""
    return _DEFAULTS[route.access, route.writes]


class Ruled(Protocol):
    """A route of either API, as far as the policy looks at it."""

    @property
    def method(self) -> str:
        """Of HTTP."""
        ...

    @property
    def path(self) -> str:
        """Its pattern."""
        ...

    @property
    def access(self) -> Access:
        """Who may use it by default."""
        ...

    @property
    def summary(self) -> str:
        """What it does."""
        ...

    @property
    def rule(self) -> str:
        """The name of its rule."""
        ...

    @property
    def writes(self) -> bool:
        """It may change something."""
        ...


def everything() -> tuple[Ruled, ...]:
    """The routes of both APIs, one of each rule."""
    by_rule: dict[str, Ruled] = {}
    routes: list[Ruled] = [*ROUTES, *THEIRS]
    for route in routes:
        known = by_rule.setdefault(route.rule, route)
        if route.writes and not known.writes:
            by_rule[route.rule] = route
    return tuple(by_rule.values())


class Policy:
    """The rules in force. A file that changes is read again."""

    def __init__(self, path: Path | None = None, routes: Iterable[Ruled] | None = None) -> None:
        """Raises ``Invalid`` for a file that cannot be read, or names a rule that does not exist."""
        conf = cfg.ConfigOpts()
        conf([], project="isthmus", default_config_files=[], default_config_dirs=[])
        self._path = path
        self._enforcer = policy.Enforcer(conf, policy_file=str(self._path or "/nonexistent"))
        for name, (check, description) in BASE.items():
            self._enforcer.register_default(policy.RuleDefault(name, check, description=description))
        for route in everything() if routes is None else routes:
            described = policy.DocumentedRuleDefault(
                route.rule, default_of(route), route.summary, [{"path": route.path, "method": route.method}]
            )
            self._enforcer.register_default(described)
        self._stamp: tuple[int, int] | None = None
        self._outcomes: dict[tuple[object, ...], bool] = {}
        self._read()

    def admit(self, route: Ruled, caller: Caller, path: Mapping[str, str]) -> Reach:
        """What is in the caller's reach on this route. Raises ``Forbidden`` if he may not use it at all."""
        self._read()
        host = path.get("host", "")
        if not self._fits(route.rule, caller, host):
            raise Forbidden(
                f"cannot do this for {_who(caller)}: the rule {route.rule} ({route.summary}) does not allow it",
                detail={"rule": route.rule},
            )
        if route.access in (Access.ANYONE, Access.AGENT) or self._fits(OPERATOR, caller, host):
            return EVERYTHING
        if not route.writes and self._fits(OBSERVER, caller, host):
            return EVERYTHING
        if caller.project is None:
            raise Forbidden(
                f"cannot do this for {_who(caller)}, who acts for no project: take a token for one",
                code="no-project",
            )
        return Reach(caller.project)

    def rules(self) -> dict[str, str]:
        """All rules in force, by name."""
        self._read()
        return {name: str(check) for name, check in sorted(self._enforcer.rules.items())}

    def _fits(self, rule: str, caller: Caller, host: str) -> bool:
        who = (caller.way, caller.user, caller.project, caller.roles, caller.system, caller.host)
        key = (rule, who, host)
        known = self._outcomes.get(key)
        if known is None:
            known = bool(
                self._enforcer.enforce(rule, {"host": host, "project_id": caller.project}, _credentials(caller))
            )
            if len(self._outcomes) >= _REMEMBERED:
                self._outcomes.clear()
            self._outcomes[key] = known
        return known

    def _read(self) -> None:
        """Take in the file if it has changed. Raises ``Invalid``; what was in force stays so then."""
        stamp = None
        try:
            if self._path is not None and self._path.exists():
                status = self._path.stat()
                stamp = (status.st_mtime_ns, status.st_size)
        except OSError as error:
            raise Invalid(f"cannot read the policy {self._path}: {error.strerror}", field="policy") from error
        if stamp == self._stamp and self._enforcer.rules:
            return
        try:
            self._enforcer.load_rules(force_reload=True)
            self._enforcer.check_rules(raise_on_violation=True)
        except (policy.InvalidDefinitionError, ValueError, OSError) as error:
            raise Invalid(f"cannot read the policy {self._path}: {error}", field="policy") from error
        unknown = sorted(set(self._enforcer.file_rules) - set(self._enforcer.registered_rules))
        if unknown:
            raise Invalid(
                f"cannot read the policy {self._path}: there is no rule {unknown[0]}: see isthmus policy sample",
                field="policy",
            )
        self._stamp = stamp
        self._outcomes.clear()


@cache
def sample() -> str:
    """A ``policy.yaml`` with all rules as comments, which says what each is for."""
    lines = ["# Rules that differ from the defaults. Each line below is the default: remove its # to change it.", ""]
    for name, (check, description) in BASE.items():
        lines += [f"# {description}.", f'#"{name}": "{check}"', ""]
    for route in everything():
        lines += [f"# {route.summary}: {route.method} {route.path}", f'#"{route.rule}": "{default_of(route)}"', ""]
    return "\n".join(lines)


def _credentials(caller: Caller) -> dict[str, Any]:
    return {
        "user_id": caller.user,
        "project_id": caller.project,
        "roles": sorted(caller.roles),
        "system_scope": "all" if caller.system else None,
        "host": caller.host,
    }


def _who(caller: Caller) -> str:
    if caller.way is Way.CERTIFICATE:
        return f"the agent of host {caller.host}"
    return f"user {caller.name or caller.user}" if caller.user else "whoever asks"
