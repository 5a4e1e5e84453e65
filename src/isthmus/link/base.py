"""What is asked of a link: the network namespace of a guest with its end of the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from isthmus.model.attachment import LinkSeen
from isthmus.model.guest import Plug
from isthmus.model.names import GuestId


@runtime_checkable
class Link(Protocol):
    """Every method is idempotent."""

    async def observe(self) -> Mapping[GuestId, LinkSeen]:
        """All links below the layout's prefix, whole or half-made."""
        ...

    async def make(self, guest: GuestId) -> None:
        """Namespace, tap, addresses and filter are there and up."""
        ...

    async def remove(self, guest: GuestId) -> None:
        """Nothing of the link is left. The caller has stopped the gateways in it."""
        ...

    def plug(self, guest: GuestId) -> Plug:
        """The device that the guest must be given (pure)."""
        ...
