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
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from isthmus.host import kernel, netns, sandbox
from isthmus.host.cgroup import Cgroups
from isthmus.host.command import SEARCH_PATH
from isthmus.host.seccomp import deny_list
from isthmus.host.unit import Unit, UnitSeen
from isthmus.model.errors import DeadlineExpired, HostFailure, Invalid, KernelRefused
from isthmus.model.layout import Layout

_BY_HANDLE = "CAP_DAC_READ_SEARCH"
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
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

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
        async with self._lock(unit.name):
            seen = await asyncio.to_thread(self._look, unit.name)
            if seen is None:
                await self._clear(unit.name)
                seen = await self._launch(unit)
            self._watch(seen)
            return seen

    async def stop(self, name: str, *, grace: float = 2.0) -> None:
        """See ``Supervisor.stop``. Raises ``DeadlineExpired`` if the kernel cannot end a process (a dead disk)."""
        async with self._lock(name):
            seen = await asyncio.to_thread(self._look, name)
            with _pidfd(seen) as fd:
                if fd is not None:
                    await _ask_to_end(fd, grace)
                await self._clear(name)
                if fd is not None:
                    await _reaped(fd)

    async def exits(self) -> AsyncIterator[str]:
        """See ``Supervisor.exits``; for one reader."""
        while True:
            yield await self._exited.get()

    def close(self) -> None:
        """Nothing is watched any more; the units stay."""
        for name in tuple(self._watched):
            self._unwatch(name)

    def _lock(self, name: str) -> asyncio.Lock:
        """One change at a time to a unit."""
        return self._locks.setdefault(name, asyncio.Lock())

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

    async def _launch(self, unit: Unit) -> UnitSeen:
        spec = await asyncio.to_thread(self._prepare, unit)
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        report = bytearray()
        try:
            await _run_launcher(unit, spec, reader, writer, report)
            failures = [line for line in _lines(report) if "stage" in line]
            if failures:
                detail = failures[0]
                raise _not_started(unit, f"it could not {detail['stage']}: {detail['cause']}", detail)
            seen = await asyncio.to_thread(self._look, unit.name)
            if seen is None:
                raise _not_started(unit, f"it ended at once: see {unit.log}", {"stage": "run"})
            return seen
        except BaseException:
            await self._clear(unit.name)
            await _read_to_end(reader, report)  # whoever could write is dead, so there is an end
            for line in _lines(report):
                if "pid" in line:
                    await asyncio.to_thread(_wait_for, int(line["pid"]))
            raise
        finally:
            os.close(reader)

    def _prepare(self, unit: Unit) -> bytes:
        """Blocks."""
        _check_reach(unit)
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
        _reap(watch.fd)
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


def _check_reach(unit: Unit) -> None:
    """A unit that can open files by handle is given no file system that holds anything of others'. Blocks."""
    if _BY_HANDLE not in unit.capabilities:
        return
    common = {Path(path).stat().st_dev for path in ("/", "/run", "/var", "/tmp")}  # noqa: S108 - only looked at
    for path in (Path(unit.log).parent, *(Path(bind.source) for bind in unit.binds)):
        if path.exists() and path.stat().st_dev in common:
            raise Invalid(
                f"cannot start unit {unit.name}: with {_BY_HANDLE} it would reach all of the file system of {path}: "
                "give it one of its own",
                field="binds",
            )


def _not_started(unit: Unit, cause: str, detail: Mapping[str, str | int]) -> HostFailure:
    return HostFailure(f"cannot start unit {unit.name}: {cause}", code="unit-not-started", detail=detail)


def _leads_its_namespace(pid: int) -> bool:
    """Whether the process is number 1 of a pid namespace below ours, and no zombie (proc(5), status)."""
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # Bytes: the first line is the process's name, which it may have made of anything but a newline.
    fields = dict(line.split(b":\t", 1) for line in status.split(b"\n") if b":\t" in line)
    numbers = fields[b"NSpid"].split()
    return len(numbers) > 1 and numbers[-1] == b"1" and fields[b"State"][:1] not in b"ZX"


@contextmanager
def _pidfd(seen: UnitSeen | None) -> Iterator[int | None]:
    """A descriptor of the unit's main process; None if it is gone."""
    fd = None
    if seen is not None:
        try:
            fd = kernel.open_process(seen.pid, seen.started)
        except KernelRefused as error:
            if error.errno != errno.ESRCH:
                raise
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


async def _ask_to_end(fd: int, grace: float) -> None:
    """The process was asked, and had ``grace`` seconds; whoever did not obey is killed with its cgroup."""
    try:
        signal.pidfd_send_signal(fd, signal.SIGTERM)
        async with asyncio.timeout(grace):
            await _readable(fd)
    except (TimeoutError, ProcessLookupError):
        return


async def _reaped(fd: int) -> None:
    """A process that is ending has ended, and is no zombie if it is our child."""
    try:
        async with asyncio.timeout(_KILL_DEADLINE):
            await _readable(fd)
    except TimeoutError as error:
        raise DeadlineExpired("end a unit's first process", _KILL_DEADLINE) from error
    _reap(fd)


def _reap(fd: int) -> None:
    """If the process has ended and is our child, it is no zombie; one that an earlier agent started is init's."""
    try:
        os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return


def _wait_for(pid: int) -> None:
    """The same, of a child that was killed. Blocks."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return


async def _run_launcher(unit: Unit, spec: bytes, reader: int, writer: int, report: bytearray) -> None:
    """The launcher has ended, and ``report`` has all that it and the unit's first process had to say."""
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
            await _read_to_end(reader, report)
    except TimeoutError as error:
        raise DeadlineExpired(f"start unit {unit.name}", _START_DEADLINE) from error
    finally:
        if launcher.returncode is None:
            launcher.kill()
            await launcher.wait()


def _lines(report: bytearray) -> list[dict[str, str | int]]:
    return [json.loads(line) for line in report.splitlines()]


async def _readable(fd: int) -> None:
    """The descriptor has something to say; of a pidfd: the process ended."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(fd, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(fd)


async def _read_to_end(fd: int, into: bytearray) -> None:
    """All that is written to a pipe until nobody holds its other end."""
    while True:
        await _readable(fd)
        part = os.read(fd, 1 << 16)
        if not part:
            return
        into += part
