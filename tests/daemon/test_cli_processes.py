"""``isthmus up``, ``service``, ``agent`` and ``doctor`` as processes of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from isthmus.cli.exits import Exit
from isthmus.model.layout import Layout

PROGRAM = (sys.executable, "-c", "from isthmus.cli.main import main; main()")


class Site:
    """A configuration below a layout of the test's own."""

    def __init__(self, layout: Layout, tmp_path: Path) -> None:
        self.layout = layout
        self.config = tmp_path / "isthmus.toml"
        self.config.write_text(
            f'host = "h1"\n[paths]\nprefix = "{layout.prefix}"\nrun = "{layout.run}"\nstate = "{layout.state}"\n'
        )

    def command(self, *argv: str) -> list[str]:
        """``isthmus ARGV`` with this configuration."""
        return [*PROGRAM, "--config", str(self.config), *argv]

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """The command, to its end."""
        return subprocess.run(self.command(*argv), capture_output=True, text=True, check=False, timeout=60)

    @contextmanager
    def process(self, *argv: str, says: str) -> Iterator[subprocess.Popen[str]]:
        """The command, once its log says that it is ready; killed at the end if it still runs."""
        with subprocess.Popen(self.command(*argv), stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            try:
                for line in process.stderr:
                    if says in line:
                        break
                else:
                    pytest.fail(f"{argv} ended before it said {says!r}")
                yield process
            finally:
                if process.poll() is None:
                    process.kill()


@pytest.fixture
def here(layout: Layout, tmp_path: Path) -> Site:
    return Site(layout, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("verb", "says"), [("up", "agent: host h1"), ("service", "service: listening")])
def test_a_signal_is_a_good_end(here: Site, verb: str, says: str, number: int) -> None:
    with here.process(verb, says=says) as process:
        process.send_signal(number)
        _, rest = process.communicate(timeout=20)

    assert process.returncode == 0
    assert "Traceback" not in rest
    assert not here.layout.api_socket.exists()


def test_an_agent_of_its_own_serves_what_the_service_wants(here: Site, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    with here.process("service", says="service: listening"):
        assert here.run("host", "add").returncode == 0
        with here.process("agent", says="agent: host h1") as agent:
            made = here.run("pool", "create", "disk", "--path", str(tmp_path / "pool"))
            agent.send_signal(signal.SIGTERM)
            agent.communicate(timeout=20)

    assert made.returncode == 0, made.stderr
    assert agent.returncode == 0


def test_up_registers_its_host_and_makes_shares(here: Site, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    with here.process("up", says="agent: host h1"):
        pool = here.run("pool", "create", "disk", "--path", str(tmp_path / "pool"))
        share = here.run(
            "-f", "json", "share", "create", "x", "--project", "p", "--pool", "disk", "--size", "256M"
        )  # fmt: skip
        healthy = here.run("doctor")
        gone = here.run("share", "delete", "x")

    assert pool.returncode == 0, pool.stderr
    assert json.loads(share.stdout)["status"] == "available"
    assert healthy.returncode == Exit.OK, healthy.stdout
    assert "all is as it should be" in healthy.stdout
    assert gone.returncode == 0, gone.stderr


def test_a_second_agent_below_the_same_prefix_is_refused(here: Site) -> None:
    with here.process("up", says="agent: host h1"):
        second = here.run("agent")
        mending = here.run("doctor", "--fix")

    assert second.returncode == Exit.CONFLICT
    assert second.stderr.splitlines()[-1].startswith("isthmus: cannot act on this host: another agent holds")
    assert mending.returncode == Exit.CONFLICT


def test_a_second_service_on_the_same_socket_is_a_conflict(here: Site) -> None:
    with here.process("service", says="service: listening"):
        second = here.run("service")

    assert second.returncode == Exit.CONFLICT
    assert "another service does" in second.stderr


def test_doctor_names_what_is_left_over_and_mends_it(here: Site) -> None:
    with here.process("up", says="agent: host h1"):
        pass
    guest = "11111111-1111-4111-8111-111111111111"
    orphan = here.layout.gateways / f"nfs-{guest}"
    orphan.mkdir(parents=True)

    found = here.run("-f", "json", "doctor")
    shown = here.run("doctor").stdout.splitlines()
    mended = here.run("doctor", "--fix")
    after = here.run("doctor")

    assert found.returncode == Exit.FAILED
    assert any(guest in finding["name"] for finding in json.loads(found.stdout)["findings"])
    assert any(line.startswith("orphan ") and guest in line for line in shown)
    assert mended.returncode == Exit.OK, mended.stdout + mended.stderr
    assert after.returncode == Exit.OK
    assert not orphan.exists()


def test_doctor_without_any_service_says_that_it_cannot_judge(here: Site) -> None:
    ended = here.run("doctor")

    assert ended.returncode == Exit.OK, ended.stdout
    assert "what should be on this host is not known" in ended.stderr
    assert here.run("doctor", "--fix").returncode == Exit.UNAVAILABLE
