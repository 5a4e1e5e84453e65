"""The service itself."""

from __future__ import annotations

from isthmus import __version__
from isthmus.service.call import Call, Reply
from isthmus.wire import api


async def version(_call: Call) -> Reply:
    """Who answers, and which versions it speaks."""
    return Reply(200, api.Version(name="isthmus", version=__version__, api="v1"))


async def health(call: Call) -> Reply:
    """The database answers."""
    return Reply(200, api.Health(status="ok", revision=await call.service.revision()))


async def openapi(_call: Call) -> Reply:
    """The document of this API."""
    from isthmus.service.routes import described  # noqa: PLC0415 - the table names this handler

    return Reply(200, described())
