"""What is asked of a hypervisor on a host."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol, runtime_checkable

from isthmus.model.guest import GuestEvent, GuestSeen, Plug
from isthmus.model.names import GuestId


@runtime_checkable
class Hypervisor(Protocol):
    """Guests are found, never made: whoever starts them goes on managing them."""

    async def guests(self) -> Mapping[GuestId, GuestSeen]:
        """The guests whose process answers. One that hangs delays nobody: it is left out after a short deadline."""
        ...

    async def plug(self, guest: GuestId, plug: Plug) -> None:
        """The guest has the device. Half-made remains of an earlier call are replaced. Raises ``NotFound`` if the guest
        does not run, ``Refused`` if its machine has no place for the device (the message says the mend)."""
        ...

    async def unplug(self, guest: GuestId, plug_id: str) -> None:
        """The guest has let go and the device and its back end are gone. A guest that is gone counts as success.
        Waits for the guest; the caller sets the deadline, and a later call joins the same wait."""
        ...

    def events(self) -> AsyncIterator[GuestEvent]:
        """What happens to guests from now on, without end. A guest that appears is noticed within a second."""
        ...

    async def close(self) -> None:
        """Connections are closed; guests and their devices stay as they are."""
        ...
