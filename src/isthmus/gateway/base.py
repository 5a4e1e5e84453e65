"""What is asked of a family of gateways: one server per guest, in the guest's network namespace."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol, runtime_checkable

from isthmus.model.attachment import Export, GatewaySeen, Mode
from isthmus.model.errors import IsthmusError
from isthmus.model.names import AttachmentId, GuestId


@runtime_checkable
class Gateway(Protocol):
    """Every method is idempotent. A gateway outlives the agent that started it."""

    @property
    def mode(self) -> Mode:
        """The protocol that it speaks."""
        ...

    @property
    def port(self) -> int:
        """The one TCP port that the link's filter has to admit."""
        ...

    async def observe(self) -> Mapping[GuestId, GatewaySeen]:
        """All gateways of this family below the layout's prefix, whole or broken. One that hangs is reported as
        running, with no exports, after a short deadline."""
        ...

    async def start(self, guest: GuestId, exports: Collection[Export]) -> None:
        """The guest's gateway runs and answers its protocol, presenting ``exports``; a broken or half-started one is
        replaced. The guest's netns and link exist. An export that fails does not keep the gateway from starting."""
        ...

    async def present(self, guest: GuestId, exports: Collection[Export]) -> Mapping[AttachmentId, IsthmusError]:
        """The running gateway presents exactly ``exports``: others are withdrawn (handles of theirs answer ESTALE from
        now on, their mounts are given back to the host), those already there are not touched. Returns the errors of
        those that failed; an empty mapping if all are there. A gateway that cannot be asked is replaced rather than
        left with what it should not have."""
        ...

    async def stop(self, guest: GuestId) -> None:
        """No process, mount, run directory or cgroup of the gateway is left."""
        ...
