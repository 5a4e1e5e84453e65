"""A gateway in memory, held to the same contract as the real ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from isthmus.gateway.difference import compatible
from isthmus.model.attachment import Export, GatewaySeen, Mode
from isthmus.model.errors import HostFailure, IsthmusError, Unavailable
from isthmus.model.names import AttachmentId, GuestId


class FakeGateway:
    """Presents what exists on this machine, to nobody."""

    mode = Mode.NFS
    port = 2049

    def __init__(self) -> None:
        self.seen: dict[GuestId, GatewaySeen] = {}

    async def observe(self) -> Mapping[GuestId, GatewaySeen]:
        return dict(self.seen)

    async def start(self, guest: GuestId, exports: Collection[Export]) -> None:
        self.seen[guest] = GatewaySeen(guest, self.mode, running=True)
        await self.present(guest, exports)

    async def present(self, guest: GuestId, exports: Collection[Export]) -> Mapping[AttachmentId, IsthmusError]:
        if guest not in self.seen:
            raise Unavailable(f"cannot present exports to guest {guest}: its gateway does not run", code="gateway-down")
        wanted, errors = compatible(exports)
        for export in wanted:
            if not Path(export.source).is_dir():  # noqa: ASYNC240 - a fake may block
                errors[export.attachment] = HostFailure(f"cannot export {export.source}: it does not exist")
        served = {export.attachment: export for export in wanted if export.attachment not in errors}
        self.seen[guest] = replace(self.seen[guest], exports=served)
        return errors

    async def stop(self, guest: GuestId) -> None:
        self.seen.pop(guest, None)
