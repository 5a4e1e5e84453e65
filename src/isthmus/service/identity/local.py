"""Users of one machine, in a file: HTTP Basic (RFC 7617) against bcrypt hashes.

    NAME:BCRYPT-HASH:PROJECT:ROLE[,ROLE...]

One user a line; ``#`` begins a comment line. The project ``@system`` gives the roles on the whole system.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt

from isthmus.model.caller import Caller, Role, Way, with_implied
from isthmus.model.errors import Invalid, Unauthenticated, Unavailable
from isthmus.model.names import ProjectId, parse_project, parse_slug
from isthmus.service.identity.base import Presented

SYSTEM = "@system"
ROUNDS = 12
MAX_PASSWORD = 72
"""Bytes: bcrypt looks at no more."""
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class User:
    """A line. ``project`` is None for roles on the whole system."""

    name: str
    digest: bytes = field(repr=False)
    project: ProjectId | None
    roles: frozenset[str]

    def line(self) -> str:
        """As in the file."""
        return f"{self.name}:{self.digest.decode()}:{self.project or SYSTEM}:{','.join(sorted(self.roles))}"


def make_user(name: str, password: str, project: str, roles: Iterable[str], *, rounds: int = ROUNDS) -> User:
    """A user with this password. Raises ``Invalid``."""
    body = password.encode()
    if not 8 <= len(body) <= MAX_PASSWORD or b"\0" in body:
        raise Invalid(f"cannot use this password: give 8 to {MAX_PASSWORD} bytes", field="password")
    return _checked(name, bcrypt.hashpw(body, bcrypt.gensalt(rounds)), project, tuple(roles))


def read_users(text: str, name: str = "the users file") -> dict[str, User]:
    """The users in ``text``. Raises ``Invalid`` with the line at fault."""
    users: dict[str, User] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split(":")
        try:
            if len(parts) != 4:
                raise Invalid("write NAME:HASH:PROJECT:ROLES")
            user = _checked(parts[0], parts[1].encode(), parts[2], parts[3].split(","))
            if user.name in users:
                raise Invalid(f"user {user.name} is there twice")
        except Invalid as error:
            raise Invalid(f"cannot read {name}, line {number}: {error.message}", field="users") from error
        users[user.name] = user
    return users


def _checked(name: str, digest: bytes, project: str, roles: Iterable[str]) -> User:
    given = frozenset(roles)
    wrong = sorted(given - set(Role))
    if wrong or not given:
        raise Invalid(f"cannot use role {wrong[0] if wrong else ''!a}: choose from {', '.join(Role)}", field="role")
    if not digest.startswith((b"$2a$", b"$2b$", b"$2y$")) or len(digest) != 60:
        raise Invalid("cannot read the hash: it is not one of bcrypt", field="hash")
    owner = None if project == SYSTEM else parse_project(project)
    return User(parse_slug(name, "name"), digest, owner, given)


class UsersFile:
    """The file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._users: Mapping[str, User] = {}

    def users(self) -> Mapping[str, User]:
        """All users by name. Raises ``Unavailable`` if the file is away or wrong: nobody is let in by half of it."""
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen != self._seen:
                self._users = read_users(self._path.read_text(), str(self._path))
                self._seen = seen
        except (OSError, UnicodeDecodeError, Invalid) as error:
            raise Unavailable(
                f"cannot tell who asks: {error}: mend the file of users, or add one with `isthmus user add`",
                code="users-unreadable",
            ) from error
        return self._users

    def write(self, users: Mapping[str, User]) -> None:
        """The file has these users, and is for its owner alone. Raises ``OSError``."""
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        beside = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write("".join(user.line() + "\n" for _, user in sorted(users.items())))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        finally:
            beside.unlink(missing_ok=True)


class LocalVoucher:
    """HTTP Basic against the file. What was verified is remembered by a keyed digest, until the user's line changes."""

    challenge = 'Basic realm="isthmus", charset="UTF-8"'

    def __init__(self, path: Path) -> None:
        self._file = UsersFile(path)
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="isthmus-passwords")
        self._secret = secrets.token_bytes(32)
        self._verified: OrderedDict[bytes, None] = OrderedDict()
        self._dummy = bcrypt.hashpw(b"nobody", bcrypt.gensalt(ROUNDS))

    async def caller(self, presented: Presented) -> Caller:
        """See ``Voucher``."""
        header = presented.headers.get("authorization")
        if header is None:
            return Caller(address=presented.address)
        name, password = _basic(header)
        user = self._file.users().get(name)
        digest = user.digest if user is not None else self._dummy
        if not await self._matches(digest, password) or user is None:
            raise Unauthenticated("cannot let you in: unknown user or wrong password")
        return Caller(
            Way.LOCAL,
            user.name,
            user.name,
            user.project,
            with_implied(user.roles),
            system=user.project is None,
            address=presented.address,
        )

    async def _matches(self, digest: bytes, password: bytes) -> bool:
        mark = hmac.new(self._secret, digest + password, hashlib.sha256).digest()
        if mark in self._verified:
            self._verified.move_to_end(mark)
            return True
        loop = asyncio.get_running_loop()
        right = await loop.run_in_executor(self._threads, bcrypt.checkpw, password[:MAX_PASSWORD], digest)
        if right and len(password) <= MAX_PASSWORD:
            self._verified[mark] = None
            if len(self._verified) > _REMEMBERED:
                self._verified.popitem(last=False)
        return right and len(password) <= MAX_PASSWORD

    async def close(self) -> None:
        """Threads have ended."""
        await asyncio.to_thread(self._threads.shutdown)


def _basic(header: str) -> tuple[str, bytes]:
    scheme, _, body = header.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError(scheme)
        name, colon, password = base64.b64decode(body.strip(), validate=True).partition(b":")
        if not colon or b"\0" in password:
            raise ValueError(colon)
        return name.decode(), password
    except (ValueError, binascii.Error) as error:
        raise Unauthenticated("cannot read the Authorization header: use HTTP Basic") from error
