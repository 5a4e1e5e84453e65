"""Where whatever went wrong becomes an error that can be told: in a chain, in a look, in a word with the service."""

from __future__ import annotations

import errno
import logging

from isthmus.model.errors import HostFailure, IsthmusError, KernelRefused

log = logging.getLogger(__name__)


def told(doing: str, error: BaseException) -> IsthmusError:
    """The error of one who could not do something. A defect of ours is logged with its traceback; it stops nobody
    else."""
    if isinstance(error, IsthmusError):
        return error
    if isinstance(error, OSError):
        return KernelRefused(doing, error.errno or errno.EIO)
    log.error("cannot %s: a defect of isthmus", doing, exc_info=error)
    return HostFailure(f"cannot {doing}: a defect of isthmus: {error!r}", code="defect")
