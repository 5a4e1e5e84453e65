"""The machine that measures and is measured: what it is, how busy it is, what processes take of it."""

from __future__ import annotations

import asyncio
import os
import platform
import re
from pathlib import Path
from typing import Any

from isthmus.model.layout import Layout
from lab.guest import accelerator

TICKS = os.sysconf("SC_CLK_TCK")


def facts() -> dict[str, Any]:
    """What the figures depend on."""
    memory = re.search(r"^MemTotal:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_mb": int(memory[1]) // 1024 if memory else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "guests": "hardware virtualisation" if "kvm" in accelerator() else "software emulation",
    }


def load() -> float:
    """The load average of the last minute."""
    return os.getloadavg()[0]


async def busy(seconds: float = 0.5) -> float:
    """How much of all cores was at work just now, from 0 to 1; whoever it was (proc(5), /proc/stat)."""
    before = _times()
    await asyncio.sleep(seconds)
    after = _times()
    total = sum(after) - sum(before)
    idle = sum(after[3:5]) - sum(before[3:5])  # idle and waiting for a disk
    return 1 - idle / total if total else 0.0


def memory(*pids: int) -> tuple[float, float]:
    """PSS and RSS of processes together, in MiB (proc(5), smaps_rollup)."""
    sums = {"Pss": 0, "Rss": 0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            key, _, rest = line.partition(":")
            if key in sums:
                sums[key] += int(rest.split()[0])
    return sums["Pss"] / 1024, sums["Rss"] / 1024


def processor_of(pid: int) -> float:
    """Seconds of processor that a process and its children that have ended took (proc(5), /proc/PID/stat). It is told
    to 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(value) for value in fields[11:15]) / TICKS


def processor_by_thread(*pids: int) -> dict[str, float]:
    """The same of each thread of the processes, exactly (sched-stats.rst)."""
    tasks = (task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir())
    return {task.name: int((task / "schedstat").read_text().split()[0]) / 1e9 for task in tasks}


def spent(before: dict[str, float], after: dict[str, float]) -> float:
    """What the threads used in between that are there at the end; those that ended do not count."""
    return sum(seconds - before.get(thread, 0.0) for thread, seconds in after.items())


def is_mounted(layout: Layout, share: str) -> bool:
    """Whether the host has any part of the share mounted."""
    return f"{layout.shares}/{share}/" in Path("/proc/self/mountinfo").read_text()


def _times() -> list[int]:
    with Path("/proc/stat").open() as file:
        return [int(word) for word in file.readline().split()[1:9]]
