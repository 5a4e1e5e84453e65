"""Units in their sandboxes, on the real kernel: what they may, what they see, how they end."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from isthmus.host import elsewhere, kernel, mounts, netns
from isthmus.host.cgroup import Cgroups
from isthmus.host.child import ChildSupervisor
from isthmus.host.unit import Bind, Limits, Supervisor, Unit
from isthmus.model.errors import HostFailure, Invalid
from isthmus.model.layout import Layout

OBEDIENT = "trap 'exit 0' TERM; "
STAY = "while :; do sleep 1000 & wait $!; done"


@pytest.fixture
async def supervisor(layout: Layout) -> AsyncIterator[ChildSupervisor]:
    """A supervisor whose units end with the test."""
    one = ChildSupervisor(layout)
    yield one
    for name in Cgroups(layout.prefix).units():
        await one.stop(name, grace=0)
    one.close()


def unit_of(layout: Layout, script: str, **more: object) -> Unit:
    """A unit that runs a shell script; its output is the log."""
    return Unit(name="sh-one", argv=("/bin/sh", "-c", script), log=str(layout.run / "log"), **more)  # type: ignore[arg-type]


def unit_of_python(layout: Layout, script: str) -> Unit:
    return Unit("py-one", ("/usr/bin/python3", "-c", script), str(layout.run / "log"))


async def logged(layout: Layout, word: str) -> str:
    """The log, once it holds ``word``."""
    return await asyncio.to_thread(_logged, layout.run / "log", word)


def _logged(path: Path, word: str) -> str:
    end = time.monotonic() + 10
    while word not in (text := path.read_text() if path.exists() else ""):
        assert time.monotonic() < end, f"{word!r} never came: {text}"
        time.sleep(0.01)
    return text


def groups_of(prefix: str, name: str = "") -> list[Path]:
    """The cgroup directories (or files in them) of a prefix, in every hierarchy."""
    return list(Path("/sys/fs/cgroup").glob(f"**/{prefix}{name}"))


def read(path: str) -> str:
    return Path(path).read_text()


def is_there(path: str) -> bool:
    return Path(path).exists()


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_it_is_a_supervisor(layout: Layout) -> None:
    assert isinstance(ChildSupervisor(layout), Supervisor)


async def test_a_unit_starts_once_and_stops_without_a_trace(supervisor: ChildSupervisor, layout: Layout) -> None:
    unit = unit_of(layout, f"{OBEDIENT} echo ready; {STAY}")
    seen = await supervisor.start(unit)
    assert await supervisor.start(unit) == seen
    assert await supervisor.observe() == {"sh-one": seen}
    assert kernel.start_time(seen.pid) == seen.started
    await logged(layout, "ready")

    await supervisor.stop("sh-one")
    await supervisor.stop("sh-one")

    assert await supervisor.observe() == {}
    assert kernel.start_time(seen.pid) is None
    assert groups_of(layout.prefix) == []


async def test_a_unit_has_only_the_privileges_it_was_given(supervisor: ChildSupervisor, layout: Layout) -> None:
    unit = unit_of(layout, STAY, capabilities=frozenset({"CAP_CHOWN", "CAP_SETUID", "CAP_BPF"}))
    status = status_of((await supervisor.start(unit)).pid)
    kept = 1 << 0 | 1 << 7 | 1 << 39
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {kept}
    assert {int(status[name], 16) for name in ("CapInh", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert int(status["SigIgn"], 16) & (1 << signal.SIGPIPE - 1) == 0


async def test_the_filter_refuses_even_with_every_capability(supervisor: ChildSupervisor, layout: Layout) -> None:
    script = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def told(name, result): print(name, result, ctypes.get_errno() if result < 0 else 0)
told("mount", libc.mount(b"x", b"/tmp", b"tmpfs", 0, None))
told("unshare", libc.unshare(0x10000000))
told("clone", libc.syscall(56 if os.uname().machine == "x86_64" else 220, 0x10000011, 0, 0, 0, 0))
told("clone3", libc.syscall(435, 0, 0))
told("fsopen", libc.syscall(430, b"tmpfs", 0))
told("io_uring", libc.syscall(425, 1, 0))
told("setns", libc.setns(0, 0))
told("bpf", libc.syscall(321 if os.uname().machine == "x86_64" else 280, 0, 0, 0))
handle = ctypes.create_string_buffer(b"\\x80\\0\\0\\0" + bytes(132), 136)
told("name_to_handle_at", libc.name_to_handle_at(-100, b"/tmp", handle, ctypes.byref(ctypes.c_int()), 0))
print("done", flush=True)
"""
    python = "/usr/bin/python3"
    unit = Unit(
        name="py-one",
        argv=(python, "-c", script),
        log=str(layout.run / "log"),
        capabilities=frozenset({"CAP_SYS_ADMIN"}),
    )
    await _run_to_its_end(supervisor, unit)
    lines = dict(line.split(" ", 1) for line in (await logged(layout, "done")).splitlines()[:-1])
    denied = f"-1 {errno.EPERM}"
    for name in ("mount", "unshare", "clone", "fsopen", "io_uring", "setns", "bpf"):
        assert lines[name] == denied, name
    assert lines["clone3"] == f"-1 {errno.ENOSYS}"
    assert lines["name_to_handle_at"] == "0 0"


async def test_a_unit_has_no_socket_that_its_network_does_not_confine(
    supervisor: ChildSupervisor, layout: Layout
) -> None:
    script = """
import socket
for family in range(0, 64):
    try:
        socket.socket(family, socket.SOCK_RAW if family == socket.AF_NETLINK else socket.SOCK_STREAM).close()
    except OSError as error:
        print(family, error.errno)
    else:
        print(family, 0)
print("done", flush=True)
"""
    await _run_to_its_end(supervisor, unit_of_python(layout, script))
    lines = dict(line.split(" ") for line in (await logged(layout, "done")).splitlines()[:-1])
    opened = {int(family) for family, number in lines.items() if number == "0"}
    assert opened == {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}
    assert lines[str(int(socket.AF_VSOCK))] == str(errno.EAFNOSUPPORT)


async def test_whatever_a_unit_calls_itself_it_is_found(supervisor: ChildSupervisor, layout: Layout) -> None:
    script = r"""
import ctypes, time
ctypes.CDLL(None).prctl(15, b"\xff\r) Z 1\x85", 0, 0, 0)
print("named", flush=True)
time.sleep(1000)
"""
    seen = await supervisor.start(unit_of_python(layout, script))
    await logged(layout, "named")
    assert await supervisor.observe() == {seen.name: seen}


async def test_a_unit_sees_nothing_of_the_host(supervisor: ChildSupervisor, layout: Layout) -> None:
    script = (
        "ls -A / /etc /root /tmp; cat /proc/self/mountinfo; ls /sys /home; cat /etc/shadow; ls /proc;"
        "touch /usr/x; echo 1 > /proc/sys/kernel/sysrq; readlink /etc/mtab; echo done;" + STAY
    )
    (layout.run / "secret").write_text("of another")
    seen = await supervisor.start(unit_of(layout, script))
    text = await logged(layout, "done")
    assert "cannot open directory" not in text
    assert "cat: /etc/shadow: No such file" in text
    assert "cannot touch '/usr/x': Read-only" in text
    assert "/proc/sys/kernel/sysrq: Directory nonexistent" in text or "No such file" in text
    assert {entry.target for entry in mounts.mounts_of(seen.pid)} >= {"/", "/usr", "/dev", "/proc"}
    hosts = {entry.device for entry in mounts.mounts()}
    assert {entry.device for entry in mounts.mounts_of(seen.pid)} & hosts == set()
    assert not is_there(f"/proc/{seen.pid}/root{layout.run}")
    for name in ("mnt", "pid", "ipc", "uts", "net", "cgroup"):
        assert os.readlink(f"/proc/{seen.pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name  # noqa: PTH115
    assert sorted(os.listdir(f"/proc/{seen.pid}/fd")) == ["0", "1", "2"]  # noqa: PTH208


@pytest.fixture
def own(layout: Layout) -> Iterator[Path]:
    """A file system that holds nothing of others."""
    path = layout.run / "own"
    path.mkdir()
    mounts.mount_filesystem("tmpfs", layout.prefix, str(path), {"size": "1M"})
    yield path
    mounts.unmount(str(path))


async def test_handles_do_not_lead_to_the_hosts_files(supervisor: ChildSupervisor, layout: Layout, own: Path) -> None:
    """CAP_DAC_READ_SEARCH opens any file of a file system of which one descriptor is had."""
    handle = _handle("/usr/bin/env")
    script = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
handle = ctypes.create_string_buffer({handle!r}, {len(handle)})
places = [os.open(path, os.O_RDONLY) for path in ("/usr", "/usr/bin/env", "/", "/dev", "/dev/null", "/etc", "/proc")]
print(*[libc.open_by_handle_at(fd, handle, 0) for fd in [0, 1, 2, *places]], flush=True)
print("done", flush=True)
"""
    host = os.open("/usr", os.O_RDONLY)
    opened = _libc.open_by_handle_at(host, ctypes.create_string_buffer(handle, len(handle)), 0)
    os.close(host)
    assert opened >= 0, "the attack works outside of the sandbox, or this proves nothing"
    os.close(opened)
    unit = Unit(
        name="py-one",
        argv=("/usr/bin/python3", "-c", script),
        log=str(own / "log"),
        capabilities=frozenset({"CAP_DAC_READ_SEARCH"}),
    )
    await _run_to_its_end(supervisor, unit)
    assert read(str(own / "log")).splitlines() == [" ".join(["-1"] * 10), "done"]


async def test_a_unit_that_opens_by_handle_gets_no_file_system_of_others(
    supervisor: ChildSupervisor, layout: Layout
) -> None:
    by_handle = frozenset({"CAP_DAC_READ_SEARCH"})
    with pytest.raises(Invalid, match="give it one of its own"):
        await supervisor.start(unit_of(layout, STAY, capabilities=by_handle))
    assert await supervisor.observe() == {}
    assert groups_of(layout.prefix) == []


async def test_binds_and_files_are_there_as_asked(supervisor: ChildSupervisor, layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "ro").mkdir()
    (tmp_path / "rw").mkdir()
    (tmp_path / "one").write_text("a file")
    unit = unit_of(
        layout,
        "cat /etc/app/conf /srv/one; touch /srv/ro/x; touch /srv/rw/x; echo $WORD done; " + STAY,
        binds=(
            Bind(str(tmp_path / "ro"), "/srv/ro"),
            Bind(str(tmp_path / "rw"), "/srv/rw", read_only=False),
            Bind(str(tmp_path / "one"), "/srv/one"),
        ),
        files={"/etc/app/conf": "configured "},
        env={"WORD": "all"},
    )
    seen = await supervisor.start(unit)
    text = await logged(layout, "done")
    assert "configured a file" in text
    assert "touch: cannot touch '/srv/ro/x': Read-only file system" in text
    assert "all done" in text
    assert (tmp_path / "rw" / "x").exists()
    options = {e.target: e.options for e in mounts.mounts_of(seen.pid)}
    assert all({"nosuid", "nodev"} <= options[target] for target in ("/srv/ro", "/srv/rw", "/srv/one"))


async def test_a_unit_pins_no_mount_of_the_host(supervisor: ChildSupervisor, layout: Layout) -> None:
    other = layout.run / "other-share"
    other.mkdir()
    mounts.mount_filesystem("tmpfs", "istest", str(other), {"size": "1M"})
    await supervisor.start(unit_of(layout, STAY))
    device = next(e.device for e in mounts.mounts() if e.target == str(other))
    mounts.unmount(str(other))
    assert device not in {e.device for e in mounts.mounts()}
    other.rmdir()  # EBUSY if it were a mount point in any namespace


async def test_a_share_is_attached_to_a_running_unit_and_taken_away(
    supervisor: ChildSupervisor, layout: Layout, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("shared")
    seen = await supervisor.start(unit_of(layout, STAY))
    inside = f"/proc/{seen.pid}/root/exports/a/file"
    fd = mounts.clone(str(tmp_path), read_only=True)
    mounts.attach_in(seen.pid, fd, "/exports/a", started=seen.started)
    os.close(fd)
    assert read(inside) == "shared"
    mounts.detach_in(seen.pid, "/exports/a", started=seen.started)
    assert not is_there(f"/proc/{seen.pid}/root/exports/a")
    assert not is_there("/exports")


async def test_a_killed_unit_is_noticed_and_started_again(supervisor: ChildSupervisor, layout: Layout) -> None:
    unit = unit_of(layout, STAY)
    first = await supervisor.start(unit)
    os.kill(first.pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        assert await anext(supervisor.exits()) == "sh-one"
    assert await supervisor.observe() == {}
    second = await supervisor.start(unit)
    assert second != first
    assert (await supervisor.observe())["sh-one"] == second


async def test_another_agent_finds_watches_and_stops_what_the_first_one_started(
    supervisor: ChildSupervisor, layout: Layout
) -> None:
    seen = await supervisor.start(unit_of(layout, STAY))
    supervisor.close()
    later = ChildSupervisor(layout)
    assert await later.observe() == {"sh-one": seen}
    os.kill(seen.pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        assert await anext(later.exits()) == "sh-one"
    await later.stop("sh-one")
    assert Cgroups(layout.prefix).units() == frozenset()
    later.close()


async def test_two_agents_do_not_see_each_other(supervisor: ChildSupervisor, layout: Layout) -> None:
    await supervisor.start(unit_of(layout, STAY))
    assert await ChildSupervisor(Layout(prefix=layout.prefix + "b", run=layout.run)).observe() == {}


async def test_children_end_with_their_unit(supervisor: ChildSupervisor, layout: Layout) -> None:
    script = "setsid sh -c 'trap : TERM; echo child; while :; do sleep 1000 & wait $!; done' & echo main; " + STAY
    await supervisor.start(unit_of(layout, script))
    await logged(layout, "child")
    processes = Cgroups(layout.prefix).processes("sh-one")
    assert len(processes) >= 3
    await supervisor.stop("sh-one", grace=0.05)
    assert [pid for pid in processes if kernel.start_time(pid) is not None] == []


async def test_one_that_does_not_obey_is_killed_after_its_grace(supervisor: ChildSupervisor, layout: Layout) -> None:
    seen = await supervisor.start(unit_of(layout, "trap '' TERM; echo ready; " + STAY))
    await logged(layout, "ready")
    await supervisor.stop("sh-one", grace=0.05)
    assert kernel.start_time(seen.pid) is None


@pytest.mark.parametrize(
    ("changes", "stage"),
    [
        ({"argv": ("/usr/bin/no-such-program",)}, "execute /usr/bin/no-such-program"),
        ({"binds": (Bind("/no/such/source", "/srv"),)}, "build the root"),
        ({"netns": "istest-absent"}, "leave the host's namespaces"),
        ({"log": "/no/such/directory/log"}, "read the specification"),
    ],
)
async def test_a_start_that_fails_says_where_and_leaves_nothing(
    supervisor: ChildSupervisor, layout: Layout, changes: dict[str, object], stage: str
) -> None:
    wanted: dict[str, object] = {"name": "bad", "argv": ("/bin/true",), "log": str(layout.run / "log"), **changes}
    with pytest.raises(HostFailure, match="cannot start unit bad: it could not") as caught:
        await supervisor.start(Unit(**wanted))  # type: ignore[arg-type]
    assert caught.value.code == "unit-not-started"
    assert (caught.value.detail["stage"], caught.value.detail["errno"]) == (stage, errno.ENOENT)
    assert Cgroups(layout.prefix).units() == frozenset()
    assert await supervisor.observe() == {}


async def test_a_program_that_ends_at_once_has_not_started_or_is_noticed(
    supervisor: ChildSupervisor, layout: Layout
) -> None:
    unit = unit_of(layout, "exit 3")
    try:
        await supervisor.start(unit)
    except HostFailure as error:
        assert error.detail["stage"] == "run"  # noqa: PT017 - either way is right, this is what the first must say
        assert Cgroups(layout.prefix).units() == frozenset()
    else:
        async with asyncio.timeout(5):
            assert await anext(supervisor.exits()) == "sh-one"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "../x"}, "name"),
        ({"name": ""}, "name"),
        ({"capabilities": frozenset({"CAP_TO_FLY"})}, "capabilities"),
        ({"binds": (Bind("/tmp", "/a/../../b"),)}, "binds"),
        ({"files": {"relative": ""}}, "binds"),
    ],
)
async def test_a_unit_that_makes_no_sense_is_refused_first(
    supervisor: ChildSupervisor, layout: Layout, changes: dict[str, object], field: str
) -> None:
    wanted: dict[str, object] = {"name": "bad", "argv": ("/bin/true",), "log": str(layout.run / "log"), **changes}
    with pytest.raises(Invalid) as caught:
        await supervisor.start(Unit(**wanted))  # type: ignore[arg-type]
    assert caught.value.field == field


async def test_limits_are_in_force(supervisor: ChildSupervisor, layout: Layout) -> None:
    limits = Limits(memory=64 << 20, pids=9, files=77)
    seen = await supervisor.start(unit_of(layout, STAY, limits=limits))
    found = {}
    for name in ("memory.max", "memory.limit_in_bytes", "pids.max"):
        for path in groups_of(layout.prefix, f"/sh-one/{name}"):
            found[name] = path.read_text().strip()
            assert str(seen.pid) in (path.parent / "cgroup.procs").read_text().split()
    assert found.pop("pids.max") == "9"
    assert set(found.values()) == {str(64 << 20)}
    assert resource.prlimit(seen.pid, resource.RLIMIT_NOFILE) == (77, 77)


async def test_an_interrupted_start_leaves_nothing(supervisor: ChildSupervisor, layout: Layout) -> None:
    interrupted = 0
    for delay in (0.0, 0.005, 0.02, 0.04):
        task = asyncio.create_task(supervisor.start(unit := unit_of(layout, STAY)))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        interrupted += task.cancelled()
        if not task.cancelled():  # it was there before it could be interrupted
            await supervisor.stop(unit.name, grace=0)
        assert Cgroups(layout.prefix).units() == frozenset()
    assert interrupted


@pytest.fixture
def namespace(layout: Layout) -> Iterator[str]:
    netns.create(layout.prefix)
    yield layout.prefix
    netns.remove(layout.prefix)


async def test_a_unit_is_in_the_network_it_was_given(
    supervisor: ChildSupervisor, layout: Layout, namespace: str
) -> None:
    seen = await supervisor.start(unit_of(layout, STAY, netns=namespace))
    assert os.stat(f"/proc/{seen.pid}/ns/net").st_ino == os.stat(netns.NETNS / namespace).st_ino  # noqa: PTH116


async def test_a_unit_without_network_has_none(supervisor: ChildSupervisor, layout: Layout) -> None:
    seen = await supervisor.start(unit_of(layout, STAY))
    fd = kernel.open_process(seen.pid)
    names = elsewhere.visit("look", fd, kernel.CLONE_NEWNET, lambda: [name for _, name in socket.if_nameindex()])
    os.close(fd)
    assert names == ["lo"]


async def _run_to_its_end(supervisor: ChildSupervisor, unit: Unit) -> None:
    await supervisor.start(unit)
    async with asyncio.timeout(10):
        assert await anext(supervisor.exits()) == unit.name


_libc = ctypes.CDLL(None, use_errno=True)


def _handle(path: str) -> bytes:
    """A struct file_handle, as name_to_handle_at(2) makes it."""
    buffer = ctypes.create_string_buffer(b"\x80\0\0\0" + bytes(132), 136)
    result = _libc.name_to_handle_at(-100, path.encode(), buffer, ctypes.byref(ctypes.c_int()), 0)
    assert result == 0, os.strerror(ctypes.get_errno())
    return buffer.raw
