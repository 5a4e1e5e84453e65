"""What a developer's first command does on a machine that has little, with programs that only pretend to install."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from lab.image import CannotBuild, guest_image

SETUP = Path(__file__).parents[2] / "scripts" / "setup"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of programs that comes first on the path."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def setup(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``scripts/setup`` in a clone where the virtual environment is made already."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/setup").write_bytes(SETUP.read_bytes())
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    stamp = hashlib.sha256(SETUP.read_bytes()).hexdigest()[:16]
    (tmp_path / ".venv").mkdir()
    (tmp_path / f".venv/.isthmus-{stamp}").touch()
    return subprocess.run(
        ["/bin/sh", "scripts/setup", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )


def test_who_cannot_install_packages_is_told_which(tmp_path: Path, programs: Path) -> None:
    program(programs / "id", "echo 1000")
    program(programs / "apt-get", "exit 99")
    program(programs / "dpkg-query", "echo 'installed fio'; exit 1")

    done = setup(tmp_path)

    assert done.returncode == 1
    assert done.stderr.startswith("setup: cannot install qemu-system-x86 nfs-ganesha ")
    assert done.stderr.endswith(": run as root\n")
    assert " fio" not in done.stderr


def test_checks_and_unit_tests_need_no_packages(tmp_path: Path, programs: Path) -> None:
    program(programs / "id", "echo 1000")
    program(programs / "apt-get", "exit 99")
    program(programs / "dpkg-query", "exit 99")

    done = setup(tmp_path, "python")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_machine_without_package_lists_gets_them_before_the_kernel(tmp_path: Path, programs: Path) -> None:
    program(programs / "apt-cache", f"[ -e {tmp_path}/lists ] && echo 'Depends: linux-image-6.1.0-9-amd64' || exit 100")
    program(programs / "apt-get", f'echo "$*" >>{tmp_path}/asked; [ "$1" = update ] && touch {tmp_path}/lists')

    with pytest.raises(CannotBuild, match="cannot run apt-get"):
        guest_image(cache=tmp_path / "cache")

    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0] == "update -qq"
    assert asked[1].endswith(" linux-image-6.1.0-9-amd64")
