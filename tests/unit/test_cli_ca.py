"""``isthmus ca``: the authority's life as an operator sees it, without a service."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from isthmus.cli import ca
from isthmus.cli.exits import Exit
from isthmus.pki import keep, profile
from isthmus.pki.authority import Authority
from tests.cli_kit import Ended, run

DAY = datetime.timedelta(days=1)
WEEK = 7 * DAY


@dataclass(frozen=True, slots=True)
class Site:
    """A configuration, and a passphrase in a file."""

    home: Path

    def run(self, *argv: str) -> Ended:
        """``isthmus ARGV`` by this configuration."""
        return run("--config", str(self.home / "isthmus.toml"), *argv)

    @property
    def passphrase(self) -> str:
        """The file that holds it."""
        return str(self.home / "passphrase")

    @property
    def directory(self) -> Path:
        """The authority's."""
        return self.home / "state" / "ca"


@pytest.fixture
def here(tmp_path: Path) -> Site:
    (tmp_path / "isthmus.toml").write_text(
        f'host = "h1"\n[paths]\nrun = "{tmp_path}/run"\nstate = "{tmp_path}/state"\n'
    )
    (tmp_path / "passphrase").write_text("correct horse\n")
    return Site(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime.timedelta], None]:
    """Moves the time on that the program sees."""
    start = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
    monkeypatch.setattr(ca, "_now", lambda: start)
    return lambda later: monkeypatch.setattr(ca, "_now", lambda: start + later)


def well(ended: Ended) -> Ended:
    assert ended.code == Exit.OK, ended.err
    return ended


def test_an_authority_lives_long(here: Site, clock: Callable[[datetime.timedelta], None]) -> None:
    stick = here.home / "stick.key"
    key = ("--root-key", str(stick), "--passphrase-file", here.passphrase)
    well(here.run("ca", "init", *key))
    first = Authority.load(here.directory)
    assert stick.stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in stick.read_bytes()
    assert not (here.directory / "root.key").exists()
    shown = well(here.run("ca", "show"))
    assert "issuer, signs" in shown.out
    assert "next: isthmus ca rotate, before 2028-10-31" in shown.err

    clock(365 * DAY)
    well(here.run("ca", "rotate", *key))
    assert Authority.load(here.directory).root_certificates == first.root_certificates
    shown = well(here.run("ca", "show"))
    assert "issuer, older" in shown.out
    assert "next: isthmus ca retire, from 2028-01-30" in shown.err

    clock(455 * DAY)
    assert "next: isthmus ca retire\n" in well(here.run("ca", "show")).err
    assert "1 older certificates" in well(here.run("ca", "retire")).err

    clock(3000 * DAY)
    assert "next: isthmus ca rotate --root" in well(here.run("ca", "show")).err
    well(here.run("ca", "rotate", "--root", *key))
    shown = well(here.run("ca", "show"))
    assert "link to a newer root" in shown.out
    assert "root, older" in shown.out


def test_it_is_not_retired_while_hosts_may_need_it(here: Site, clock: Callable[[datetime.timedelta], None]) -> None:
    well(here.run("ca", "init", "--passphrase-file", here.passphrase))
    well(here.run("ca", "rotate", "--passphrase-file", here.passphrase))
    before = Authority.load(here.directory)
    for later in (0 * DAY, profile.HOST_LIFE - DAY):
        clock(later)
        ended = here.run("ca", "retire")
        assert ended.code == Exit.REFUSED
        assert "before 2027-01-30" in ended.err
        assert "--at-once" in ended.err
    assert Authority.load(here.directory).known == before.known
    well(here.run("ca", "retire", "--at-once"))
    assert len(Authority.load(here.directory).known) == 2


def test_it_is_shown_for_programs(here: Site) -> None:
    well(here.run("ca", "init", "--discard-root-key"))
    document: Any = well(here.run("-f", "json", "ca", "show")).json()
    assert [one["role"] for one in document] == ["root", "issuer, signs"]
    issuer = Authority.load(here.directory).issuer
    assert document[1]["serial"] == f"{issuer.serial_number:x}"
    serials = well(here.run("-f", "value", "ca", "show")).out.splitlines()
    assert serials == [one["serial"] for one in document]


def test_a_discarded_root_key_is_told_of(here: Site) -> None:
    well(here.run("ca", "init", "--discard-root-key"))
    assert "discarded, so it cannot be rotated" in well(here.run("ca", "show")).err
    ended = here.run("ca", "rotate", "--passphrase-file", here.passphrase)
    assert ended.code == Exit.REFUSED
    assert "--root-key" in ended.err


@pytest.mark.parametrize(
    ("argv", "code", "word"),
    [
        (("init",), Exit.USAGE, "--discard-root-key"),
        (("init", "--discard-root-key", "--root-key", "x"), Exit.USAGE, "discard"),
        (("init", "--passphrase-file", "/nonexistent/passphrase"), Exit.FAILED, "/nonexistent/passphrase"),
        (("rotate",), Exit.UNAVAILABLE, "isthmus ca init"),
        (("retire",), Exit.UNAVAILABLE, "isthmus ca init"),
        (("show",), Exit.UNAVAILABLE, "isthmus ca init"),
    ],
)
def test_what_cannot_be_done_says_why_and_leaves_nothing(
    here: Site, argv: tuple[str, ...], code: Exit, word: str
) -> None:
    ended = here.run("ca", *argv)
    assert ended.code == code
    assert word in ended.err
    assert not here.directory.exists()


def test_there_is_one_authority_and_an_empty_passphrase_is_none(here: Site) -> None:
    Path(here.passphrase).write_text("\n")
    assert "it is empty" in here.run("ca", "init", "--passphrase-file", here.passphrase).err
    well(here.run("ca", "init", "--discard-root-key"))
    before = Authority.load(here.directory).issuer
    ended = here.run("ca", "init", "--discard-root-key")
    assert ended.code == Exit.CONFLICT
    assert Authority.load(here.directory).issuer == before


def test_a_root_key_is_never_written_over(here: Site) -> None:
    taken = here.home / "taken.key"
    taken.write_text("another")
    ended = here.run("ca", "init", "--root-key", str(taken), "--passphrase-file", here.passphrase)
    assert ended.code == Exit.CONFLICT
    assert taken.read_text() == "another"
    assert not keep.exists(here.directory)
