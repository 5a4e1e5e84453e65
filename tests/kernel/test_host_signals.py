"""Signals reach the process that is meant, and no other that came to bear its number."""

from __future__ import annotations

import errno
import signal
import subprocess

import pytest

from isthmus.host import kernel, signals
from isthmus.model.errors import KernelRefused


def test_only_the_process_that_is_meant() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        started = kernel.start_time(process.pid)
        assert started is not None
        with pytest.raises(KernelRefused) as refused:
            signals.send(process.pid, started + 1, signal.SIGTERM)
        assert refused.value.errno == errno.ESRCH
        assert process.poll() is None
        signals.send(process.pid, started, signal.SIGTERM)
        assert process.wait(5) == -signal.SIGTERM
    with pytest.raises(KernelRefused) as refused:
        signals.send(process.pid, started, signal.SIGTERM)
    assert refused.value.errno == errno.ESRCH
