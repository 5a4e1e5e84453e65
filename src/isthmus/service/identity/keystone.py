"""Users, by Keystone's tokens (Identity API v3).

What Keystone says of a token counts for ``keystone.cache`` seconds: within that time a revocation is not seen. While
Keystone does not answer, what it said last counts until the token's own end.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import logging
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
MAX_TOKEN = 8192
_REMEMBERED = 10_000
_REFUSED_SECONDS = 5.0
"""How long a refused token is not asked about again."""
_REFUSED_STATUS = frozenset({400, 401, 403, 404})

Now = Callable[[], datetime.datetime]


@dataclass(frozen=True, slots=True)
class _Said:
    """What Keystone said of a token: ``caller`` is None if it refused it. ``fresh_until``: no need to ask again."""

    caller: Caller | None
    ends_at: datetime.datetime
    fresh_until: datetime.datetime


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
        auth_url=config.url,
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
        self._said: OrderedDict[bytes, _Said] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[_Said]] = {}

    @property
    def challenge(self) -> str:
        """As keystonemiddleware has it."""
        return f'Keystone uri="{self._config.url}"'

    async def caller(self, presented: Presented) -> Caller:
        """See ``Voucher``."""
        token = presented.headers.get("x-auth-token")
        if token is None:
            return Caller(address=presented.address)
        if not token.isascii() or not token.isprintable() or len(token) > MAX_TOKEN:
            raise Unauthenticated("cannot let you in: this is no token of Keystone's")
        said = await self._look(token)
        if said.caller is None or said.ends_at <= self._now():
            raise Unauthenticated("cannot let you in: Keystone does not know this token, or its time is over")
        return replace(said.caller, address=presented.address)

    async def _look(self, token: str) -> _Said:
        key = hashlib.sha256(token.encode()).digest()
        known = self._said.get(key)
        if known is not None and self._now() < known.fresh_until:
            self._said.move_to_end(key)
            return known
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._ask(key, token))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        try:
            return await asyncio.shield(asking)
        except Unavailable as error:
            if known is not None and known.caller is not None and self._now() < known.ends_at:
                log.warning("%s: a token that is known goes on", error)
                return known
            raise

    async def _ask(self, key: bytes, token: str) -> _Said:
        loop = asyncio.get_running_loop()
        body = await loop.run_in_executor(self._threads, self._validate, token)
        said = self._read(body)
        self._said[key] = said
        self._said.move_to_end(key)
        if len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)
        return said

    def _validate(self, token: str) -> Mapping[str, Any] | None:
        """Keystone's word on a token; None if it refuses it. Raises ``Unavailable``."""
        url = f"{self._config.url.rstrip('/')}/auth/tokens?nocatalog"
        try:
            answer = self._session.get(url, headers={"X-Subject-Token": token}, raise_exc=False, log=False)
        except exceptions.ClientException as error:
            raise _away(type(error).__name__) from error
        if answer.status_code in _REFUSED_STATUS:
            return None
        try:
            found = answer.json()["token"] if answer.status_code == 200 else None
        except (ValueError, KeyError, TypeError):
            found = None
        if not isinstance(found, dict):
            raise _away(f"it answered {answer.status_code}")
        return found

    def _read(self, token: Mapping[str, Any] | None) -> _Said:
        now = self._now()
        if token is None:
            soon = now + datetime.timedelta(seconds=min(_REFUSED_SECONDS, self._config.cache))
            return _Said(None, soon, soon)
        try:
            ends_at = datetime.datetime.fromisoformat(token["expires_at"])
            caller = _caller(token)
        except (KeyError, TypeError, ValueError, Invalid) as error:
            raise _away(f"its answer cannot be read: {error}") from error
        return _Said(caller, ends_at, min(ends_at, now + datetime.timedelta(seconds=self._config.cache)))

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
        system=bool(token.get("system", {}).get("all")),
    )


def _away(cause: str) -> Unavailable:
    return Unavailable(
        f"cannot tell who asks: Keystone does not answer ({cause}): try again", code="keystone-unavailable"
    )
