"""Whose objects a transaction sees: ownership, where rows are loaded and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.model.errors import Forbidden
from isthmus.model.names import ProjectId


@dataclass(frozen=True, slots=True)
class Reach:
    """``project`` None: everybody's objects. Else those of one project alone: another's is not there, neither found by
    its id nor listed, but that reading transactions see public shares. What no project owns (hosts, pools, types) is
    everybody's to load; who may ask for it is the policy's matter."""

    project: ProjectId | None = None

    def check_owner(self, project: str, doing: str) -> None:
        """Raise ``Forbidden`` unless an object of ``project`` may be made."""
        if self.project is not None and project != self.project:
            raise Forbidden(
                f"cannot {doing} in project {project}: you act for project {self.project}",
                code="other-project",
                detail={"project": project},
            )


EVERYTHING = Reach()
