"""What was measured: figures with their goals. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LESS, MORE = "less is better", "more is better"


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity, measured some times. ``goal``: the most that a statistic (``median``, ``p99``, ``worst``) may be.
    ``note``: what a reader has to know of these values."""

    name: str
    unit: str
    values: tuple[float, ...]
    goal: Mapping[str, float] = field(default_factory=dict)
    better: str = LESS
    note: str = ""

    @property
    def least(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def p99(self) -> float:
        """The smallest value that 99 of 100 do not exceed; of fewer than 100 values, the largest."""
        return sorted(self.values)[math.ceil(0.99 * len(self.values)) - 1]

    @property
    def worst(self) -> float:
        """The largest value."""
        return max(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if not self.goal:
            return None
        return all(float(getattr(self, statistic)) <= most for statistic, most in self.goal.items())

    def document(self) -> dict[str, Any]:
        """The figure for JSON, with every value in the order of measuring."""
        return {
            "name": self.name,
            "unit": self.unit,
            "n": len(self.values),
            "median": round(self.median, 3),
            "p99": round(self.p99, 3),
            "worst": round(self.worst, 3),
            "min": round(self.least, 3),
            "goal": dict(self.goal),
            "met": self.met,
            "better": self.better,
            "note": self.note,
            "values": [round(value, 3) for value in self.values],
        }
