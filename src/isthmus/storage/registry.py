"""Which driver serves a pool, by the name in ``Pool.driver``."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.storage.local import LocalDriver

DRIVERS: Mapping[str, type[LocalDriver]] = {"local": LocalDriver}
