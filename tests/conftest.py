"""What all tests share: marks by directory, a layout of one's own, and clear words when a machine lacks something."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.model.layout import Layout
from tests.zz_leftovers import machine

KINDS = ("unit", "kernel", "daemon", "e2e")
TESTS = Path(__file__).parent


def pytest_sessionstart(session: pytest.Session) -> None:
    """How the machine is found, for the test that comes last."""
    if os.geteuid() == 0:
        session.config.stash[machine.MACHINE] = machine.things()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test's kind is its directory. Cheap kinds run first, the proof that nothing is left runs last."""
    for item in items:
        kind = item.path.relative_to(TESTS).parts[0]
        if kind in KINDS:
            item.add_marker(kind)
        if kind in ("kernel", "daemon", "e2e") and os.geteuid() != 0:
            if os.environ.get("CI"):
                raise pytest.UsageError("CI runs every test, and these need root")
            item.add_marker(pytest.mark.skip(reason="needs root"))
    order = {kind: number for number, kind in enumerate(KINDS)}
    items.sort(key=lambda item: order.get(item.path.relative_to(TESTS).parts[0], len(KINDS)))


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    """A prefix and a run directory that no other test has. The run path is short: a unix socket's has 107 bytes."""
    prefix = f"istest{secrets.token_hex(3)}"
    base = Path("/run") if os.geteuid() == 0 else tmp_path
    run = base / prefix
    run.mkdir(mode=0o700)
    yield Layout(prefix=prefix, run=run, state=tmp_path / "state")
    shutil.rmtree(run)
