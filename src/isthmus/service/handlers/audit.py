"""The audit."""

from __future__ import annotations

from typing import Any

from isthmus.service.call import DEFAULT_LIMIT, Call, Reply
from isthmus.service.views import entry
from isthmus.wire.api import Page


async def index(call: Call) -> Reply:
    """Entries, oldest first."""
    equal: dict[str, Any] = {name: value for name, value in call.query.items() if name not in ("after", "limit")}
    limit: int = call.query.get("limit", DEFAULT_LIMIT)
    rows = await call.read(lambda tx: tx.entries(after=call.query.get("after", 0), limit=limit, **equal))
    last = str(rows[-1].id) if len(rows) == limit else None
    return Reply(200, Page(items=[entry(row) for row in rows], next=last))
