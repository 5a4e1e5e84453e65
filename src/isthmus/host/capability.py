"""What the kernel lets this process do."""

from __future__ import annotations

import re
from pathlib import Path

CAP_SYS_RESOURCE = 24


def has(capability: int) -> bool:
    """Whether the capability (its number in <linux/capability.h>) is effective for this process, by proc(5)."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> capability & 1)
