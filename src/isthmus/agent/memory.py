"""The last document, kept over a restart: a host that comes up while its service is away mends itself by it."""

from __future__ import annotations

import logging
from pathlib import Path

from isthmus.host import files
from isthmus.model.desired import Desired
from isthmus.model.errors import Invalid
from isthmus.wire.agent import decode_desired, encode_desired

log = logging.getLogger(__name__)


class FileMemory:
    """One file, replaced as a whole. Losing it costs nothing but help in that one case, so nothing here is fatal."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Desired | None:
        """The kept document; None if there is none, or none that can be read."""
        try:
            return decode_desired(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, Invalid) as error:
            log.warning("cannot read the kept document %s: %s", self._path, error)
            return None

    def save(self, desired: Desired) -> None:
        """Keep this one instead. A full disk is logged, not raised."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.write_whole(self._path, encode_desired(desired))
        except OSError as error:
            log.warning("cannot keep the document in %s: %s", self._path, error)
