"""Programs as values: an argument list, a deadline, the C locale, a typed failure."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass

from isthmus.model.errors import CommandFailed, DeadlineExpired, HostFailure

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run. ``deadline`` in seconds; when it passes, the program is killed."""

    argv: tuple[str, ...]
    stdin: bytes = b""
    deadline: float = 30.0

    @classmethod
    def of(cls, *argv: str, stdin: bytes = b"", deadline: float = 30.0) -> Command:
        """``Command.of("mkfs.xfs", "-q", path)``."""
        return cls(argv, stdin, deadline)

    async def run(self, *, pass_fds: Sequence[int] = ()) -> bytes:
        """Standard output. Raises ``CommandFailed``, ``DeadlineExpired``, or ``HostFailure`` if it is missing."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self.argv,
                stdin=asyncio.subprocess.PIPE if self.stdin else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={"PATH": SEARCH_PATH, "LC_ALL": "C", "HOME": os.environ.get("HOME", "/")},
                pass_fds=pass_fds,
            )
        except FileNotFoundError as error:
            raise HostFailure(
                f"cannot run {self.argv[0]}: not installed: see README for the Debian package",
                code="program-missing",
                detail={"program": self.argv[0]},
            ) from error
        try:
            async with asyncio.timeout(self.deadline):
                out, err = await process.communicate(self.stdin or None)
        except TimeoutError as error:
            raise DeadlineExpired(f"run {self.argv[0]}", self.deadline) from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise CommandFailed(self.argv, process.returncode or 0, err.decode(errors="replace"))
        return out
