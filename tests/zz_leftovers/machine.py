"""What on a machine could be left over by a test: the names of things, in sets that can be subtracted."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from isthmus.host import mounts, netns

MACHINE = pytest.StashKey[dict[str, frozenset[str]]]()
"""Where the session keeps how it found the machine."""

# Whatever a test makes bears its layout's prefix (tests/conftest.py) or lies in its temporary directory. Others may
# work on the machine meanwhile.
_MARK = re.compile(r"istest|pytest-of-|/tap[0-9a-f]{12}$")


def things() -> dict[str, frozenset[str]]:
    """By kind, what bears our mark."""
    return {
        "network namespace": _marked(netns.names()),
        "network device": _marked(f"host/{name}" for _, name in socket.if_nameindex()),
        "mount": _marked(f"{entry.target} ({entry.source})" for entry in mounts.mounts()),
        "loop device": _marked(_loop_devices()),
        "cgroup": _marked(str(path) for path in Path("/sys/fs/cgroup").glob("**/")),
        "process": frozenset(_processes()),
        "run directory": _marked(entry.name for entry in Path("/run").iterdir()),
    }


def _marked(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name for name in names if _MARK.search(name))


def _loop_devices() -> list[str]:
    return subprocess.run(
        ["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"], check=True, capture_output=True, text=True
    ).stdout.splitlines()


def _processes() -> list[str]:
    """Those whose command line or group has the mark, and zombies of this process."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in (os.getpid(), os.getppid()):
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            groups = (entry / "cgroup").read_text()
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        zombie = stat[0] == "Z" and int(stat[1]) == os.getpid()
        if _MARK.search(command) or _MARK.search(groups) or zombie:
            found.append(f"{entry.name} {command}")
    return found
