"""Text that comes from hosts, made fit for a database, a log and a terminal."""

from __future__ import annotations

MAX_REASON = 2000


def plain(text: str, limit: int = MAX_REASON) -> str:
    """``text`` cut to ``limit`` characters, with whatever cannot be printed (and spaces other than the plain one) shown
    as an escape. PostgreSQL takes no NUL, and a terminal would act upon the rest."""
    cut = text if len(text) <= limit else text[: limit - 3] + "..."
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}" for c in cut)
