"""One line to a shell in the guest: scripts go in, output and exit codes come back. The guest's half is
``rootfs/lib/lab/channel``, which also has the format."""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import dataclass
from typing import cast

READY = re.compile(rb"READY ([0-9a-f-]{36})\n")


class GuestError(Exception):
    """Base of what goes wrong with a guest."""


class GuestGone(GuestError):
    """The guest ended or rebooted before it answered."""


class GuestFailed(GuestError):
    """A script ended with an exit code that is not 0."""

    def __init__(self, script: str, result: Result) -> None:
        said = "\n".join(text for text in (result.stdout.strip(), result.stderr.strip()) if text)
        super().__init__(f"the guest's script ended with {result.code}: {script.strip()}\n{said}")
        self.code = result.code
        self.stdout = result.stdout
        self.stderr = result.stderr


@dataclass(frozen=True, slots=True)
class Result:
    """What a script in the guest did."""

    code: int
    stdout: str
    stderr: str


class Channel(asyncio.Protocol):
    """Runs one script at a time. ``ready`` completes when the guest's shell listens, again after every reboot."""

    def __init__(self) -> None:
        self.ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._boot = ""
        self._job: asyncio.Future[Result] | None = None
        self._mark = b""
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    @property
    def free(self) -> bool:
        """Whether a script can be started."""
        return self._job is None and self.ready.done()

    def start(self, script: str) -> asyncio.Future[Result]:
        """Give the script to the shell. The result fails with ``GuestGone``. Whoever cancels it only stops listening:
        the channel is free again when the script ends."""
        if not self.free or self._transport is None:
            raise GuestError("the channel is busy")
        self._job = asyncio.get_running_loop().create_future()
        self._mark = secrets.token_hex(8).encode()
        self._transport.write(self._mark + b" " + quoted(script) + b"\n")
        return asyncio.ensure_future(_shielded(self._job))

    def rebooting(self) -> None:
        """The guest was reset: what runs is lost, what it still says is of no interest."""
        self._fail("the guest was reset")
        self._buffer.clear()
        if self.ready.done():
            self.ready = asyncio.get_running_loop().create_future()

    def close(self) -> None:
        """Hang up."""
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        searched = max(0, len(self._buffer) - 64)  # a mark, or "READY BOOT", may have come in two pieces
        self._buffer += data
        booted = READY.search(self._buffer, searched)
        if booted and booted[1].decode() != self._boot:
            self._booted(booted[1].decode(), booted.end())
        elif self._job and (end := re.compile(re.escape(self._mark) + rb" (\d+)\n").search(self._buffer, searched)):
            self._finish(int(end[1]), end.start())

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Called by asyncio. The machine's process ended."""
        self._fail("the guest's machine ended")
        if not self.ready.done():
            self.ready.set_exception(GuestGone("the guest's machine ended"))
            self.ready.exception()  # whoever waits gets it; nobody has to

    def _booted(self, boot: str, end: int) -> None:
        if self._boot:
            self.rebooting()
        del self._buffer[:end]
        self._boot = boot
        if not self.ready.done():
            self.ready.set_result(boot)

    def _finish(self, code: int, end: int) -> None:
        out, _, err = bytes(self._buffer[:end]).partition(self._mark)
        self._buffer.clear()
        job, self._job = self._job, None
        if job:
            job.set_result(Result(code, out.decode(errors="replace"), err.decode(errors="replace")))

    def _fail(self, why: str) -> None:
        job, self._job = self._job, None
        if job:
            job.set_exception(GuestGone(why))
            job.exception()


async def _shielded(job: asyncio.Future[Result]) -> Result:
    return await asyncio.shield(job)


def quoted(script: str) -> bytes:
    """On one line, in the shell's ``$'..'``."""
    if "\0" in script:
        raise ValueError("a script cannot hold NUL")
    text = script.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return b"$'" + text.encode() + b"'"
