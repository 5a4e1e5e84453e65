"""What to change so that a gateway presents what it should (pure)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from isthmus.model.attachment import Export
from isthmus.model.errors import Conflict, IsthmusError
from isthmus.model.names import AttachmentId, places_overlap


@dataclass(frozen=True, slots=True)
class Difference:
    """``withdraw`` before ``add``; an export that changed is in both."""

    withdraw: frozenset[AttachmentId]
    add: tuple[Export, ...]

    def __bool__(self) -> bool:
        return bool(self.withdraw or self.add)


def difference(
    known: Collection[AttachmentId], served: Mapping[AttachmentId, Export], want: Collection[Export]
) -> Difference:
    """From what a gateway was ever told and not told to forget (``known``) and what it really serves, to ``want``."""
    wanted = {export.attachment: export for export in want}
    right = {attachment for attachment, export in served.items() if wanted.get(attachment) == export}
    return Difference(
        withdraw=frozenset((set(known) | set(served)) - right),
        add=tuple(export for attachment, export in wanted.items() if attachment not in right),
    )


def compatible(exports: Collection[Export]) -> tuple[list[Export], dict[AttachmentId, IsthmusError]]:
    """The exports that can be presented side by side, by slot, and why each of the others cannot."""
    kept: list[Export] = []
    errors: dict[AttachmentId, IsthmusError] = {}
    for export in sorted(exports, key=lambda export: export.slot):
        rival = next((k for k in kept if k.slot == export.slot or places_overlap(k.at, export.at)), None)
        if rival is None:
            kept.append(export)
        else:
            errors[export.attachment] = Conflict(
                f"cannot present attachment {export.attachment} at {export.at} in slot {export.slot}: "
                f"attachment {rival.attachment} is at {rival.at} in slot {rival.slot}",
                detail={"attachment": export.attachment, "rival": rival.attachment},
            )
    return kept, errors
