"""Signals to processes that are known by more than their number."""

from __future__ import annotations

import errno
import os
import signal

from isthmus.host import kernel
from isthmus.model.errors import KernelRefused


def send(pid: int, started: int, number: signal.Signals) -> None:
    """The process that began at ``started`` (clock ticks since boot) gets the signal. Raises ``KernelRefused`` with
    ESRCH if it is gone."""
    fd = kernel.open_process(pid, started)
    try:
        signal.pidfd_send_signal(fd, number)
    except OSError as error:
        raise KernelRefused(f"send {number.name} to process {pid}", error.errno or errno.EIO) from error
    finally:
        os.close(fd)
