"""Whose objects a transaction sees: ownership, where rows are loaded and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

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


def owned_by(table: sa.Table, project: Any, *, or_public: bool) -> sa.ColumnElement[bool] | None:
    """What of the table is ``project``'s (an id, or a parameter for one), or, if so asked, for everybody to read; None
    where its rows belong to nobody. Every statement that is confined says so by this condition."""
    if "project" not in table.c:
        return None
    own: sa.ColumnElement[bool] = table.c.project == project
    if or_public and "public" in table.c:
        return sa.or_(own, table.c.public == sa.true())  # an equation, for the sake of SQLite's index
    return own
