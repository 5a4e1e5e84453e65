"""Users, by Keystone's tokens (Identity API v3).

What Keystone says of a token counts for ``keystone.cache`` seconds: within that time a revocation is not seen. While
Keystone does not answer, what it said last counts until the token's own end.

A token of an application credential with access rules is refused, by Keystone itself: it gives such tokens only to
services that say that they check the rules, which Isthmus does not.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from keystoneauth1 import exceptions, session
from keystoneauth1.identity import v3

from isthmus.model.caller import Caller, Way, with_implied
from isthmus.model.config import KeystoneConfig
from isthmus.model.errors import Invalid, Unauthenticated, Unavailable
from isthmus.model.names import parse_project
from isthmus.service.identity.base import Presented

log = logging.getLogger(__name__)

SECONDS = 10.0
"""How long Keystone may take to answer."""
THREADS = 8
RETRY = datetime.timedelta(seconds=2)
"""The time after a failure in which Keystone is not asked again: nobody waits for one that is away but the first."""
REMEMBERED = 10_000
"""Tokens, good ones; as many refused ones, apart, so that a flood of those drives no good one out."""
_TOKEN = re.compile(r"[!-~]{1,8192}")
_REFUSED_SECONDS = 5.0
"""How long a refused token is not asked about again."""

Now = Callable[[], datetime.datetime]


@dataclass(frozen=True, slots=True)
class _Said:
    """What Keystone said of a token: ``caller`` is None if it refused it. ``fresh_until``: no need to ask again."""

    caller: Caller | None
    ends_at: datetime.datetime
    fresh_until: datetime.datetime


class _Known:
    """What was said of tokens, by their SHA-256: that of the ``REMEMBERED`` which were used last."""

    def __init__(self) -> None:
        self._said: OrderedDict[bytes, _Said] = OrderedDict()

    def get(self, key: bytes) -> _Said | None:
        """None if nothing is known."""
        said = self._said.get(key)
        if said is not None:
            self._said.move_to_end(key)
        return said

    def put(self, key: bytes, said: _Said) -> None:
        """In place of what was known."""
        self._said[key] = said
        self._said.move_to_end(key)
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)

    def drop(self, key: bytes) -> None:
        """Nothing is known."""
        self._said.pop(key, None)


def address(config: KeystoneConfig) -> str:
    """Of version 3 of its API, whether or not the configuration says which."""
    url = config.url.rstrip("/")
    return url if url.endswith("/v3") else f"{url}/v3"


def connect(config: KeystoneConfig) -> session.Session:
    """A session of the service's own user, by the password in its file. Raises ``Invalid``."""
    if not config.url:
        raise Invalid("cannot use Keystone: keystone.url is not set", field="keystone.url")
    try:
        password = config.password_file.read_text().strip()
    except OSError as error:
        raise Invalid(
            f"cannot read the password of the service's user: {config.password_file}: {error.strerror}",
            field="keystone.password_file",
        ) from error
    auth = v3.Password(
        auth_url=address(config),
        username=config.user,
        password=password,
        project_name=config.project,
        user_domain_name=config.domain,
        project_domain_name=config.domain,
    )
    return session.Session(auth=auth, verify=config.cafile or True, timeout=SECONDS, user_agent="isthmus")


class KeystoneVoucher:
    """Belongs to one event loop."""

    def __init__(self, config: KeystoneConfig, now: Now) -> None:
        """Raises ``Invalid`` for a configuration that cannot be used. Keystone itself is not asked yet."""
        self._config, self._now = config, now
        self._session = connect(config)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="isthmus-keystone")
        self._good, self._refused = _Known(), _Known()
        self._asking: dict[bytes, asyncio.Task[_Said]] = {}
        self._away: tuple[datetime.datetime, str] | None = None
        """When Keystone did not answer, and why."""

    @property
    def challenge(self) -> str:
        """As keystonemiddleware has it."""
        return f'Keystone uri="{address(self._config)}"'

    async def caller(self, presented: Presented) -> Caller:
        """See ``Voucher``."""
        token = presented.headers.get("x-auth-token")
        if token is None:
            return Caller(address=presented.address)
        if not _TOKEN.fullmatch(token):
            raise Unauthenticated("cannot let you in: this is no token of Keystone's")
        said = await self._look(token)
        if said.caller is None or said.ends_at <= self._now():
            raise Unauthenticated("cannot let you in: Keystone does not know this token, or its time is over")
        return replace(said.caller, address=presented.address)

    async def _look(self, token: str) -> _Said:
        """What is known of the token, or else what Keystone says. Raises ``Unavailable``."""
        key = hashlib.sha256(token.encode()).digest()
        now = self._now()
        known = self._good.get(key) or self._refused.get(key)
        if known is not None and now < known.fresh_until:
            return known
        try:
            if self._away is not None and datetime.timedelta() <= now - self._away[0] < RETRY:
                raise _away(self._away[1])
            return await asyncio.shield(self._question(key, token))
        except Unavailable:
            if known is not None and known.caller is not None:
                return known
            raise

    def _question(self, key: bytes, token: str) -> asyncio.Task[_Said]:
        """The one that is under way about this token, however many wait for its answer."""
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._ask(key, token))
            asking.add_done_callback(lambda done: self._answered(key, done))
        return asking

    def _answered(self, key: bytes, done: asyncio.Task[_Said]) -> None:
        self._asking.pop(key, None)
        if not done.cancelled():
            done.exception()  # those who waited may all have left: it is no defect that nobody hears of it

    async def _ask(self, key: bytes, token: str) -> _Said:
        asked = self._now()  # what is revoked while Keystone answers may be missing in the answer
        try:
            body = await asyncio.get_running_loop().run_in_executor(self._threads, self._validate, token)
        except exceptions.ClientException as error:
            cause = type(error).__name__
            self._away = (self._now(), cause)
            log.warning("service: Keystone does not answer (%s): tokens that are known go on until they end", cause)
            raise _away(cause) from error
        self._away = None
        said = self._read(body, asked)
        if said.caller is None:
            self._good.drop(key)
            self._refused.put(key, said)
        else:
            self._good.put(key, said)
        return said

    def _validate(self, token: str) -> Mapping[str, Any] | None:
        """Keystone's word on a token; None if it refuses it. Raises ``Unavailable``, ``ClientException``."""
        url = f"{address(self._config)}/auth/tokens?nocatalog"
        answer = self._session.get(url, headers={"X-Subject-Token": token}, raise_exc=False, log=False)
        if answer.status_code == 404:
            return None
        if answer.status_code in (401, 403):  # not the token's fault
            raise _away(
                f"{answer.status_code}: user {self._config.user} may not validate tokens: give it the role service or "
                f"admin on project {self._config.project}"
            )
        try:
            found = answer.json()["token"] if answer.status_code == 200 else None
        except (ValueError, KeyError, TypeError):
            found = None
        if not isinstance(found, dict):
            raise _away(f"it answered {answer.status_code}")
        return found

    def _read(self, token: Mapping[str, Any] | None, asked: datetime.datetime) -> _Said:
        if token is None:
            soon = asked + datetime.timedelta(seconds=min(_REFUSED_SECONDS, self._config.cache))
            return _Said(None, soon, soon)
        try:
            ends_at = datetime.datetime.fromisoformat(token["expires_at"])
            fresh_until = min(ends_at, asked + datetime.timedelta(seconds=self._config.cache))
            return _Said(_caller(token), ends_at, fresh_until)
        except (KeyError, TypeError, ValueError, AttributeError, Invalid) as error:
            raise _away(f"its answer cannot be read: {error}") from error

    async def close(self) -> None:
        """Threads have ended."""
        for asking in tuple(self._asking.values()):
            asking.cancel()
        await asyncio.to_thread(self._threads.shutdown)


def _caller(token: Mapping[str, Any]) -> Caller:
    """The caller, as Keystone describes the token. A token without a scope has no roles."""
    project = token.get("project")
    return Caller(
        way=Way.KEYSTONE,
        user=str(token["user"]["id"]),
        name=str(token["user"].get("name", "")),
        project=parse_project(project["id"]) if project else None,
        roles=with_implied(frozenset(str(role["name"]) for role in token.get("roles", ()))),
        system=(token.get("system") or {}).get("all") is True,
    )


def _away(cause: str) -> Unavailable:
    return Unavailable(
        f"cannot tell who asks: Keystone does not answer ({cause}): try again", code="keystone-unavailable"
    )
