"""The suite's last test: the machine is as it was when the session began."""

from __future__ import annotations

import os

import pytest

from tests.zz_leftovers.machine import MACHINE, things


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, and without root no test made any")
def test_nothing_is_left(pytestconfig: pytest.Config) -> None:
    before = pytestconfig.stash[MACHINE]
    left = {kind: sorted(now - before[kind]) for kind, now in things().items() if now - before[kind]}
    assert left == {}
