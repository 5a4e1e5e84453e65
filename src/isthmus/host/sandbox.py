# pathlib would cost 5 ms of every unit's start. The paths in /tmp and /var/tmp are the sandbox's own.
# ruff: noqa: PTH101, PTH102, PTH103, PTH110, PTH112, PTH114, PTH115, PTH120, PTH123, PTH211, S103, S108
"""The launcher of a unit: a process of its own that builds the sandbox and executes the unit's program in it.

    agent ---- spec (JSON on standard input) ----> launcher: joins the cgroups, leaves the host's namespaces
      ^                                              | clone
      |                                              v
      +------ report: pid, or what failed ----- pid 1 of the sandbox: root, capabilities, filter, exec

The report is a descriptor (``argv[1]``) that gets JSON lines: ``{"pid": N}``, and on failure one with stage, errno and
cause. It closes by itself when the program is executed, so no failure until its end means success. The program becomes
the agent's own child, which reaps it; when the agent is gone, init does.

Mounts are made in the new mount namespace alone: whatever fails, they vanish with the last process in it.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import stat
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from isthmus.host import kernel
from isthmus.host.detached import attach, clone, make_filesystem, make_private
from isthmus.model.errors import IsthmusError

CAPABILITIES = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID"),
    *("CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST"),
    *("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO"),
    *("CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE"),
    *("CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE"),
    *("CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM"),
    *("CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"),
)
"""By their numbers (linux/capability.h)."""

_NEW_ROOT = "/tmp"
"""A directory that every host has, to mount the new root on; nothing is written to it."""
_ETC = {
    "/etc/passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
    "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nprotocols: files\nservices: files\n",
    "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
}
_DIRECTORIES = {"/dev": 0o755, "/etc": 0o755, "/proc": 0o555, "/root": 0o700, "/run": 0o755}
_DIRECTORIES |= {"/tmp": 0o1777, "/usr": 0o755, "/var": 0o755, "/var/lib": 0o755, "/var/tmp": 0o1777}
_LINKS = {"/dev/fd": "/proc/self/fd", "/etc/mtab": "/proc/self/mounts", "/var/run": "/run"}
_DEVICES = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}
"""Minor numbers of the memory devices, whose major number is 1 (Linux Documentation/admin-guide/devices.txt)."""
_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_COPIED = ("/etc/ld.so.cache",)

_CLONE3, _CLONE_PARENT = 435, 0x8000
_MNT_DETACH = 2
_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 22, 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class Spec(TypedDict):
    """What the agent asks for. ``cgroups``: files to write ``0`` to. ``netns``: a path, None for an empty namespace.
    ``binds``: source, target, read-only. ``seccomp``: a BPF program in hexadecimal."""

    argv: list[str]
    env: dict[str, str]
    log: str
    cgroups: list[str]
    netns: str | None
    binds: list[tuple[str, str, bool]]
    files: dict[str, str]
    capabilities: list[str]
    open_files: int
    seccomp: str


class _Steps:
    """What is being done now, for the report of a failure."""

    def __init__(self, report: int) -> None:
        self._report = report
        self.stage = "read the specification"

    def run(self, stage: str, work: Callable[[], object]) -> None:
        self.stage = stage
        work()

    def failed(self, error: BaseException) -> None:
        number = getattr(error, "errno", None) or errno.EINVAL
        self.tell({"stage": self.stage, "errno": number, "cause": str(error)})

    def tell(self, message: Mapping[str, str | int]) -> None:
        os.write(self._report, json.dumps(message).encode() + b"\n")


def main() -> int:
    """Does not return in the process that becomes the program, unless that fails."""
    report = int(sys.argv[1])
    os.set_inheritable(report, False)
    steps = _Steps(report)
    try:
        spec: Spec = json.loads(sys.stdin.buffer.read())
        log = _open_log(spec["log"])
        steps.run("join the cgroup", lambda: _join(spec["cgroups"]))
        steps.run("leave the host's namespaces", lambda: _leave(spec["netns"]))
        steps.stage = "make the first process"
        if child := _clone_sibling():
            steps.tell({"pid": child})
            return 0
        _become(spec, log, steps)
    except (OSError, IsthmusError, ValueError, KeyError) as error:
        steps.failed(error)
    return 1


def _clone_sibling() -> int:
    """As fork, but the new process is a child of this one's parent. There is one thread here, and nothing that
    Python would have to do after a fork."""
    arguments = struct.pack("=8Q", _CLONE_PARENT, 0, 0, 0, 0, 0, 0, 0)
    return kernel.syscall("make the first process", _CLONE3, arguments, len(arguments))


def _become(spec: Spec, log: int, steps: _Steps) -> None:
    """Pid 1 of the sandbox: does not return if all goes well."""
    steps.run("build the root", lambda: _build_root(spec["binds"], spec["files"]))
    steps.run("start a session", os.setsid)
    steps.run("limit open files", lambda: _limit_files(spec["open_files"]))
    steps.run("direct the output", lambda: _direct_output(log))
    steps.run("drop capabilities", lambda: _keep_capabilities(spec["capabilities"]))
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and that would be inherited
        signal.signal(number, signal.SIG_DFL)
    program = bytes.fromhex(spec["seccomp"])
    steps.run("filter system calls", lambda: _filter_calls(program))
    steps.run(f"execute {spec['argv'][0]}", lambda: _execute(spec))


def _open_log(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)


def _join(cgroups: Sequence[str]) -> None:
    for path in cgroups:
        _write(path, "0")


def _leave(netns: str | None) -> None:
    namespaces = kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWPID
    namespaces |= kernel.CLONE_NEWCGROUP
    if netns is None:
        namespaces |= kernel.CLONE_NEWNET
    else:
        fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        kernel.setns(f"enter {netns}", fd, kernel.CLONE_NEWNET)
        os.close(fd)
    kernel.unshare("leave the host's namespaces", namespaces)
    make_private("/")


def _build_root(binds: Sequence[tuple[str, str, bool]], files: Mapping[str, str]) -> None:
    """The new root in place of the old one, of which nothing is left.

    A unit that may open files by handle (CAP_DAC_READ_SEARCH) reads every file of a file system of which it sees
    anything. So it sees nothing of the host's: programs through an overlay, which no handle leads through; devices and
    the rest on file systems of its own.
    """
    # Sources are cloned before anything is mounted: the new root's mount point may hide some of them.
    clones = [(clone(source, read_only=read_only), target) for source, target, read_only in binds]
    copies = {path: _read(path) for path in _COPIED if os.path.exists(path)}
    _mount("tmpfs", "", {"size": "64M", "nr_inodes": "4096", "mode": "755"}, noexec=True)
    for path, mode in _DIRECTORIES.items():
        os.makedirs(_NEW_ROOT + path, exist_ok=True)
        os.chmod(_NEW_ROOT + path, mode)
    _show_programs()
    _make_devices()
    for path, to in _LINKS.items():
        os.symlink(to, _NEW_ROOT + path)
    for path, text in {**_ETC, **files}.items():
        os.makedirs(os.path.dirname(_NEW_ROOT + path), exist_ok=True)
        _write(_NEW_ROOT + path, text)
    for path, content in copies.items():
        with open(_NEW_ROOT + path, "wb") as file:
            file.write(content)
    for fd, target in clones:
        _place(fd, _NEW_ROOT + target)
    # Only its own processes: neither the machine's settings (/proc/sys) nor its memory, keys and interrupts.
    _mount("proc", "/proc", {"subset": "pid"}, noexec=True)
    os.chdir(_NEW_ROOT)
    if _libc.pivot_root(b".", b"."):  # the old root now lies on the new one: see pivot_root(2), NOTES
        raise OSError(ctypes.get_errno(), "pivot_root")
    kernel.umount("let go of the old root", ".", _MNT_DETACH)
    os.chdir("/")


def _show_programs() -> None:
    """The host's programs and libraries, read-only; the links to them (/bin -> usr/bin) as on the host."""
    for path in _PROGRAMS:
        if os.path.islink(path):
            os.symlink(os.readlink(path), _NEW_ROOT + path)
        elif os.path.isdir(path):
            os.makedirs(_NEW_ROOT + path, exist_ok=True)
            # Without an upper layer an overlay needs two lower ones: the second is the empty mount point.
            _mount("overlay", path, {"lowerdir": f"{path}:{_NEW_ROOT}{path}"}, read_only=True)


def _make_devices() -> None:
    _mount("tmpfs", "/dev", {"size": "16M", "nr_inodes": "256", "mode": "755"}, nodev=False, noexec=True)
    for name, minor in _DEVICES.items():
        path = f"{_NEW_ROOT}/dev/{name}"
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        os.chmod(path, 0o666)
    os.mkdir(f"{_NEW_ROOT}/dev/shm")
    os.chmod(f"{_NEW_ROOT}/dev/shm", 0o1777)


def _mount(
    fstype: str,
    path: str,
    options: Mapping[str, str],
    *,
    nodev: bool = True,
    noexec: bool = False,
    read_only: bool = False,
) -> None:
    """A file system at a path of the new root."""
    target = _NEW_ROOT + path
    fd = make_filesystem(
        fstype, "isthmus", options, nodev=nodev, noexec=noexec, read_only=read_only, purpose=path or "/"
    )
    attach(fd, target)
    os.close(fd)


def _place(fd: int, target: str) -> None:
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))
    attach(fd, target)
    os.close(fd)


def _limit_files(count: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY:
        count = min(count, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core holds what guests wrote


def _direct_output(log: int) -> None:
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    for source, number in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, number)


def _keep_capabilities(names: Sequence[str]) -> None:
    """Of what this process has, only these are left, for it and for whatever it will execute."""
    wanted = {CAPABILITIES.index(name) for name in names}
    for number in range(64):  # the kernel may know more than we do, and says EINVAL beyond its last
        if number not in wanted and not _prctl(_PR_CAPBSET_DROP, number):
            if ctypes.get_errno() == errno.EINVAL:
                break
            raise OSError(ctypes.get_errno(), "prctl(PR_CAPBSET_DROP)")
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    have = ctypes.create_string_buffer(24)
    if _libc.capget(header, have):
        raise OSError(ctypes.get_errno(), "capget")
    low, high = (struct.unpack_from("=III", have, offset)[1] for offset in (0, 12))
    keep = sum(1 << number for number in wanted) & (low | high << 32)
    low, high = keep & 0xFFFFFFFF, keep >> 32
    if _libc.capset(header, struct.pack("=IIIIII", low, low, 0, high, high, 0)):
        raise OSError(ctypes.get_errno(), "capset")


def _filter_calls(program: bytes) -> None:
    """The last step but one: it may not do much afterwards. No new privileges, or the kernel refuses the filter."""
    if not _prctl(_PR_SET_NO_NEW_PRIVS, 1):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    instructions = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    if not _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filter_):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")


def _prctl(option: int, value: int, third: bytes | None = None) -> bool:
    """Whether the kernel did it."""
    pointer = ctypes.c_char_p(third) if third is not None else ctypes.c_ulong(0)
    zero = ctypes.c_ulong(0)
    return not _libc.prctl(option, ctypes.c_ulong(value), pointer, zero, zero)


def _execute(spec: Spec) -> None:
    os.execvpe(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606 - there is no shell, on purpose


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
