"""Events."""

from __future__ import annotations

from typing import Any

from isthmus.service.call import DEFAULT_LIMIT, Call, Reply
from isthmus.service.views import event
from isthmus.wire.api import EventView, Page


async def index(call: Call) -> Reply:
    """Events, oldest first; with a ``timeout``, as soon as there are any."""
    equal: dict[str, Any] = {name: call.query[name] for name in ("subject", "kind", "project") if name in call.query}
    after, limit = call.query.get("after", 0), call.query.get("limit", DEFAULT_LIMIT)

    async def look() -> list[EventView] | None:
        found = await call.read(lambda tx: tx.events(after=after, limit=limit, **equal))
        return [event(row) for row in found] or None

    wait = call.seconds if "timeout" in call.query else 0
    items = await call.service.watch.until("events", look, wait) or []
    return Reply(200, Page(items=items, next=str(items[-1].id) if len(items) == limit else None))
