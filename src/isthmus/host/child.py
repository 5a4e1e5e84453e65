"""Units as processes of no parent: the supervisor for hosts without systemd, and for tests.

Everything is observed through the kernel: a unit is a control group with a process that is number 1 of its own pid
namespace. So an agent that is started anew finds, watches and stops what an earlier one started.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from isthmus.host import kernel, netns, sandbox
from isthmus.host.cgroup import Cgroups
from isthmus.host.command import SEARCH_PATH
from isthmus.host.seccomp import deny_list
from isthmus.host.unit import Unit, UnitSeen
from isthmus.model.errors import DeadlineExpired, HostFailure, Invalid, KernelRefused
from isthmus.model.layout import Layout

_START_DEADLINE = 20.0
_KILL_DEADLINE = 10.0
_PACKAGES = str(Path(__file__).parents[2])
_LAUNCH = "import sys; sys.path.insert(0, sys.argv.pop(1)); from isthmus.host.sandbox import main; sys.exit(main())"


@dataclass(frozen=True, slots=True)
class _Watch:
    """A main process that the event loop watches by its pidfd."""

    seen: UnitSeen
    fd: int


class ChildSupervisor:
    """The ``Supervisor`` of units below one layout's prefix. Used from one event loop."""

    def __init__(self, layout: Layout) -> None:
        self._cgroups = Cgroups(layout.prefix)
        self._watched: dict[str, _Watch] = {}
        self._exited: asyncio.Queue[str] = asyncio.Queue()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def observe(self) -> Mapping[str, UnitSeen]:
        """See ``Supervisor.observe``. From now on their ends are told by ``exits``."""
        found = await asyncio.to_thread(lambda: {name: self._look(name) for name in self._cgroups.units()})
        units = {name: seen for name, seen in found.items() if seen is not None}
        for seen in units.values():
            self._watch(seen)
        return units

    async def start(self, unit: Unit) -> UnitSeen:
        """See ``Supervisor.start``. Remains of a unit of this name whose main process is gone are cleared first. The
        failure's ``detail`` has the ``stage`` that failed and its ``errno``."""
        _check(unit)
        async with self._locks[unit.name]:
            seen = await asyncio.to_thread(self._look, unit.name)
            if seen is None:
                await self._clear(unit.name)
                try:
                    await self._launch(unit)
                    seen = await asyncio.to_thread(self._look, unit.name)
                    if seen is None:
                        raise _not_started(unit, f"it ended at once: see {unit.log}", {"stage": "run"})
                except BaseException:
                    await self._clear(unit.name)
                    raise
            self._watch(seen)
            return seen

    async def stop(self, name: str, *, grace: float = 2.0) -> None:
        """See ``Supervisor.stop``. Raises ``DeadlineExpired`` if the kernel cannot end a process (a dead disk)."""
        async with self._locks[name]:
            seen = await asyncio.to_thread(self._look, name)
            if seen is not None:
                await self._ask_to_end(seen, grace)
            await self._clear(name)
        if not self._locks[name].locked():
            del self._locks[name]

    async def exits(self) -> AsyncIterator[str]:
        """See ``Supervisor.exits``; for one reader."""
        while True:
            yield await self._exited.get()

    def close(self) -> None:
        """Nothing is watched any more; the units stay."""
        for name in tuple(self._watched):
            self._unwatch(name)

    def _look(self, name: str) -> UnitSeen | None:
        """The unit's main process, if it lives. Blocks."""
        for pid in self._cgroups.processes(name):
            started = kernel.start_time(pid)
            if started is not None and _leads_its_namespace(pid):
                return UnitSeen(name, pid, started)
        return None

    async def _clear(self, name: str) -> None:
        """No process and no cgroup of the unit is left."""

        def work() -> None:
            self._cgroups.kill(name)
            self._cgroups.wait_empty(name, _KILL_DEADLINE)
            self._cgroups.remove(name)

        await asyncio.to_thread(work)

    async def _launch(self, unit: Unit) -> None:
        spec = await asyncio.to_thread(self._prepare, unit)
        reader, writer = os.pipe()
        try:
            try:
                launcher = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", "-c", _LAUNCH, _PACKAGES, str(writer)),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                    env={"LC_ALL": "C.UTF-8"},
                    cwd="/",
                    pass_fds=(writer,),
                )
            finally:
                os.close(writer)
            try:
                async with asyncio.timeout(_START_DEADLINE):
                    await launcher.communicate(spec)
                    report = await _read_to_end(reader)
            except TimeoutError as error:
                raise DeadlineExpired(f"start unit {unit.name}", _START_DEADLINE) from error
            finally:
                if launcher.returncode is None:
                    launcher.kill()
                    await launcher.wait()
        finally:
            os.close(reader)
        if report:
            detail = json.loads(report)
            raise _not_started(unit, f"it could not {detail['stage']}: {detail['cause']}", detail)

    def _prepare(self, unit: Unit) -> bytes:
        """Blocks."""
        spec: sandbox.Spec = {
            "argv": list(unit.argv),
            "env": {"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", **unit.env},
            "log": unit.log,
            "cgroups": list(self._cgroups.make(unit.name, unit.limits)),
            "netns": None if unit.netns is None else str(netns.NETNS / unit.netns),
            "binds": [(bind.source, bind.target, bind.read_only) for bind in unit.binds],
            "files": dict(unit.files),
            "capabilities": sorted(unit.capabilities),
            "open_files": unit.limits.files,
            "seccomp": deny_list().hex(),
        }
        return json.dumps(spec).encode()

    async def _ask_to_end(self, seen: UnitSeen, grace: float) -> None:
        try:
            fd = kernel.open_process(seen.pid, seen.started)
        except KernelRefused as error:
            if error.errno == errno.ESRCH:
                return
            raise
        try:
            signal.pidfd_send_signal(fd, signal.SIGTERM)
            async with asyncio.timeout(grace):
                await _readable(fd)
        except (TimeoutError, ProcessLookupError):
            return  # the cgroup is killed next, whether it obeyed or not
        finally:
            os.close(fd)

    def _watch(self, seen: UnitSeen) -> None:
        known = self._watched.get(seen.name)
        if known is not None and known.seen == seen:
            return
        if known is not None:
            self._ended(seen.name)
        try:
            fd = kernel.open_process(seen.pid, seen.started)
        except KernelRefused as error:
            if error.errno != errno.ESRCH:
                raise
            self._exited.put_nowait(seen.name)  # it ended since it was seen
            return
        self._watched[seen.name] = _Watch(seen, fd)
        asyncio.get_running_loop().add_reader(fd, self._ended, seen.name)

    def _ended(self, name: str) -> None:
        self._unwatch(name)
        self._exited.put_nowait(name)

    def _unwatch(self, name: str) -> None:
        watch = self._watched.pop(name)
        asyncio.get_running_loop().remove_reader(watch.fd)
        os.close(watch.fd)


def _check(unit: Unit) -> None:
    """A unit's name becomes a directory; what the launcher would choke upon is said before anything is made."""
    if not unit.name or "/" in unit.name or unit.name.startswith("."):
        raise Invalid(f"cannot use {unit.name!a} as a unit's name: it names a directory", field="name")
    for name in sorted(unit.capabilities - frozenset(sandbox.CAPABILITIES)):
        raise Invalid(f"cannot start unit {unit.name}: there is no capability {name!a}", field="capabilities")
    inside = [bind.target for bind in unit.binds] + list(unit.files)
    for path in inside:
        if not path.startswith("/") or ".." in path.split("/"):
            raise Invalid(f"cannot start unit {unit.name}: {path!a} is no absolute, normal path", field="binds")


def _not_started(unit: Unit, cause: str, detail: Mapping[str, str | int]) -> HostFailure:
    return HostFailure(f"cannot start unit {unit.name}: {cause}", code="unit-not-started", detail=detail)


def _leads_its_namespace(pid: int) -> bool:
    """Whether the process is number 1 of a pid namespace below ours, and no zombie (proc(5), status)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    numbers = fields["NSpid"].split()
    return len(numbers) > 1 and numbers[-1] == "1" and fields["State"][0] not in "ZX"


async def _readable(fd: int) -> None:
    """The descriptor has something to say; of a pidfd: the process ended."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(fd, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(fd)


async def _read_to_end(fd: int) -> bytes:
    """All that is written to a pipe until nobody holds its other end."""
    os.set_blocking(fd, False)
    parts: list[bytes] = []
    while True:
        await _readable(fd)
        part = os.read(fd, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
