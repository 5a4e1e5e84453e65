"""Every error that Isthmus raises on purpose.

    IsthmusError
    ├── Invalid             the request can never work as it is: says which field, and the mend
    ├── Unauthenticated     nobody vouches for the caller, or no longer
    ├── Forbidden           the caller is known, and may not do this
    │   └── HostRevoked     the host's certificate is revoked: it may serve nothing any more
    ├── NotFound            no such object (or none that the caller may know of)
    ├── Conflict            the present state forbids it: wrong status, taken name or place
    ├── Refused             it could not be kept: a promise that the back end cannot hold
    ├── Exhausted           no room: a pool, a quota, a table is full
    ├── Unavailable         a party that is needed does not answer: try again
    └── HostFailure         the host said no
        ├── CommandFailed   a program ended badly: argv, exit code, standard error
        ├── KernelRefused   a system call failed: errno
        └── DeadlineExpired it was not done in time

A message reads "cannot <verb> <noun>: <cause>" and names ids. ``code`` is a stable slug for programs,
``detail`` holds the facts as JSON-ready values. The service maps classes to HTTP in one table
(``isthmus.service.faults``); the CLI maps them to exit codes in one table.
"""

from __future__ import annotations

import errno as _errno
import os
from collections.abc import Mapping, Sequence

Detail = Mapping[str, str | int | float | bool | None]


class IsthmusError(Exception):
    """Base of the tree. ``str(error)`` is the sentence for a person."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None, detail: Detail | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.detail: Detail = dict(detail or {})


class Invalid(IsthmusError):
    """A request that can never work as it is. ``field`` is the dotted name of the value at fault."""

    code = "invalid"

    def __init__(self, message: str, *, field: str = "", detail: Detail | None = None) -> None:
        super().__init__(message, detail={**(detail or {}), **({"field": field} if field else {})})
        self.field = field


class Unauthenticated(IsthmusError):
    """Nobody vouches for the caller, or no longer: no credentials, wrong ones, or expired ones."""

    code = "unauthenticated"


class Forbidden(IsthmusError):
    """The caller is known and may not do this, whatever the object is."""

    code = "forbidden"


class HostRevoked(Forbidden):
    """The certificate by which a host spoke is revoked. Its agent ends its exports when it reads this."""

    code = "host-revoked"


class NotFound(IsthmusError):
    """No such object."""

    code = "not-found"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"cannot find {kind} {name}", code=f"{kind}-not-found", detail={"kind": kind, "id": name})


class Conflict(IsthmusError):
    """The present state forbids it; the message says what would have to change first."""

    code = "conflict"


class Refused(IsthmusError):
    """What is asked could not be kept by this host, pool or guest, so it is not begun."""

    code = "refused"


class Exhausted(IsthmusError):
    """No room left: a pool's capacity, the host's disk, a table of limited size."""

    code = "exhausted"


class Unavailable(IsthmusError):
    """Somebody who is needed does not answer now; trying again later may work."""

    code = "unavailable"


class HostFailure(IsthmusError):
    """The host's kernel or a program on it said no."""

    code = "host-failure"


class CommandFailed(HostFailure):
    """A program ended with a code that is not success. Arguments never hold secrets."""

    code = "command-failed"

    def __init__(self, argv: Sequence[str], returncode: int, stderr: str) -> None:
        self.argv = tuple(argv)
        self.returncode = returncode
        self.stderr = stderr.strip()
        last = self.stderr.splitlines()[-1] if self.stderr else "no message"
        super().__init__(
            f"cannot run {argv[0]}: exit code {returncode}: {last}",
            detail={"argv": " ".join(argv), "returncode": returncode, "stderr": self.stderr[-2000:]},
        )


class KernelRefused(HostFailure):
    """A system call failed. ``errno`` is the kernel's number."""

    code = "kernel-refused"

    def __init__(self, doing: str, number: int) -> None:
        self.errno = number
        name = _errno.errorcode.get(number, str(number))
        super().__init__(f"cannot {doing}: {os.strerror(number)} ({name})", detail={"errno": name})


class DeadlineExpired(HostFailure):
    """It was not done in the time it was given; ``seconds`` is that time."""

    code = "deadline-expired"

    def __init__(self, doing: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"cannot {doing}: not done within {seconds:g} s", detail={"seconds": seconds})
