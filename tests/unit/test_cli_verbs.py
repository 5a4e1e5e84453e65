"""Every verb against a real service: what it prints, and what it ends with."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isthmus.cli.exits import Exit
from isthmus.model.layout import Layout
from isthmus.model.names import MIB, new_id
from tests.cli_kit import Site, run, site
from tests.service_kit import GUEST


@pytest.fixture
def here(tmp_path: Path, layout: Layout) -> Iterator[Site]:
    with site(tmp_path, layout.run) as made:
        yield made


@pytest.fixture(scope="module")
def nobody_changes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with one share, for tests that only fail."""
    with (
        tempfile.TemporaryDirectory(prefix="isthmus-") as run_dir,  # short: a unix socket's path has 107 bytes
        site(tmp_path_factory.mktemp("site"), Path(run_dir)) as made,
    ):
        _share(made, "photos", "--id", "abcd0000-0000-4000-8000-000000000001")
        yield made


def _share(here: Site, name: str = "photos", *more: str) -> str:
    ended = here.run(
        "-f", "value", "share", "create", name, "--project", "acme", "--pool", "p1", "--size", "100M", *more
    )
    assert ended.code == 0, ended.err
    return ended.out.strip()


def _one(here: Site, *argv: str) -> dict[str, Any]:
    ended = here.run("-f", "json", *argv)
    assert ended.code == 0, ended.err
    document = ended.json()
    assert isinstance(document, dict)
    return document


def test_share_create_waits_until_the_share_is_there(here: Site) -> None:
    share = _one(here, "share", "create", "photos", "--project", "acme", "--pool", "p1", "--size", "100M")

    assert share["status"] == "available"
    assert share["size"] == 100 * MIB
    assert _one(here, "share", "show", share["id"]) == share


def test_share_create_says_only_the_id_when_asked_for_values(here: Site) -> None:
    ended = here.run("share", "create", "x", "--project", "acme", "--pool", "p1", "--size", "64M", "-f", "value")

    assert (ended.code, ended.err) == (0, "")
    assert here.run("-f", "value", "share", "list").out == ended.out


def test_no_wait_returns_while_the_share_is_being_made(here: Site) -> None:
    here.idle = True

    share = _one(
        here, "share", "create", "x", "--project", "acme", "--pool", "p1", "--size", "64M", "--no-wait"
    )  # fmt: skip

    assert share["status"] == "creating"


def test_a_wait_that_times_out_says_so_and_where_to_look(here: Site) -> None:
    here.idle = True

    ended = here.run(
        "share", "create", "x", "--project", "acme", "--pool", "p1", "--size", "64M", "--timeout", "0.1"
    )  # fmt: skip

    assert ended.code == Exit.WAIT_EXPIRED
    assert "within 0.1 s: it is still creating" in ended.err
    assert "isthmus share show " in ended.err
    assert ended.out == ""


def test_a_share_that_ends_in_error_is_reported_with_its_reason(here: Site) -> None:
    here.failing = "cannot make image: the disk is on fire"

    ended = here.run("share", "create", "x", "--project", "acme", "--pool", "p1", "--size", "64M")

    assert ended.code == Exit.FAILED
    assert ended.err.startswith("isthmus: cannot make image: the disk is on fire\n")
    assert "goes on trying" in ended.err


def test_repeating_a_create_with_the_same_id_finds_the_share(here: Site) -> None:
    wanted = new_id()

    assert _share(here, "photos", "--id", wanted) == wanted
    assert _share(here, "photos", "--id", wanted) == wanted
    assert len(here.run("-f", "value", "share", "list").out.splitlines()) == 1


def test_resize_rename_and_delete(here: Site) -> None:
    _share(here)

    assert _one(here, "share", "resize", "photos", "200M")["size"] == 200 * MIB
    assert _one(here, "share", "rename", "photos", "pictures")["name"] == "pictures"
    ended = here.run("share", "delete", "pictures")

    assert (ended.code, ended.out) == (0, "")
    assert "is deleted" in ended.err
    assert here.run("-f", "json", "share", "list").json() == []


def test_snapshot_revert_and_copy(here: Site) -> None:
    share = _share(here)
    snapshot = _one(here, "snapshot", "create", "photos", "--name", "before")

    assert snapshot["share"] == share
    assert _one(here, "share", "revert", "photos", "before")["status"] == "available"
    copy = _one(
        here, "share", "create", "copy", "--project", "acme", "--pool", "p1", "--size", "100M",
        "--from-snapshot", "before",
    )  # fmt: skip
    assert copy["source_snapshot"] == snapshot["id"]
    assert here.run("share", "delete", "photos").code == Exit.CONFLICT
    assert here.run("-q", "snapshot", "delete", "before").err == ""
    assert here.run("snapshot", "show", "before").code == Exit.NOT_FOUND


def test_a_snapshot_of_another_share_is_not_found_by_its_name(here: Site) -> None:
    _share(here, "photos")
    _share(here, "music")
    _one(here, "snapshot", "create", "music", "--name", "before")

    assert here.run("share", "revert", "photos", "before").code == Exit.NOT_FOUND


def test_attach_prints_what_to_type_in_the_guest(here: Site) -> None:
    _share(here)

    ended = here.run("attach", "photos", GUEST)

    assert ended.code == 0, ended.err
    assert "mount -t nfs -o vers=4.2 169.254.77.2:/photos /mnt" in ended.out
    assert "ip link set eth0 up; ip address add 169.254.77.3/31 dev eth0" in ended.out
    assert "mount -t nfs -o vers=4.2 '[fe80::1%eth0]:/photos' /mnt" in ended.out
    assert "02:11:11:11:11:11" in ended.out


def test_attach_at_a_place_with_a_space_quotes_it(here: Site) -> None:
    _share(here)

    ended = here.run("attach", "photos", GUEST, "--at", "/our data", "--ro")

    assert "mount -t nfs -o ro,vers=4.2 169.254.77.2:'/our data' /mnt" in ended.out


def test_detach_by_share_and_guest_or_by_the_attachment(here: Site) -> None:
    _share(here, "photos")
    _share(here, "music")
    _one(here, "attach", "photos", GUEST)
    music = _one(here, "attach", "music", GUEST)

    assert here.run("detach", "photos", GUEST[:8]).code == 0
    assert here.run("-f", "value", "attachment", "list").out == music["id"] + "\n"
    assert here.run("detach", music["id"][:8]).code == 0
    ended = here.run("detach", "music", GUEST)

    assert ended.code == Exit.NOT_FOUND
    assert "does not have share" in ended.err


def test_a_place_that_is_taken_is_a_conflict(here: Site) -> None:
    _share(here, "photos")
    _share(here, "music")
    _one(here, "attach", "photos", GUEST, "--at", "/data")

    ended = here.run("attach", "music", GUEST, "--at", "/data/music")

    assert ended.code == Exit.CONFLICT
    assert "/data" in ended.err


def test_hosts_pools_types_and_guests(here: Site) -> None:
    assert _one(here, "host", "add", "h2")["name"] == "h2"
    assert here.run("host", "remove", "h2").code == 0
    assert here.run("host", "remove", "h1").code == Exit.CONFLICT
    assert _one(here, "pool", "set", "p1", "--overcommit", "2", "--reserve", "1G")["reserve"] == 1024 * MIB
    assert here.run("pool", "set", "p1").code == Exit.USAGE
    assert _one(here, "type", "create", "checked", "--checksums")["checksums"] is True
    assert here.run("type", "delete", "checked").code == 0
    assert here.run("type", "delete", "default").code == Exit.CONFLICT
    assert _one(here, "guest", "set", GUEST, "--name", "web", "--static")["static"] is True
    assert _one(here, "guest", "show", "web")["id"] == GUEST
    assert here.run("guest", "remove", "web").code == 0


def test_a_pool_that_nobody_reports_is_registered_all_the_same(here: Site) -> None:
    here.idle = True

    ended = here.run("pool", "create", "p2", "--path", "/srv/p2", "--timeout", "0")

    assert ended.code == Exit.WAIT_EXPIRED
    assert "not reported by its host" in ended.err
    assert _one(here, "pool", "show", "p2")["host"] == "h1"


def test_what_a_pool_has_no_room_for_is_exhausted(here: Site) -> None:
    ended = here.run("share", "create", "x", "--project", "acme", "--pool", "p1", "--size", "1T")

    assert ended.code == Exit.EXHAUSTED
    assert ended.err.startswith("isthmus: cannot create share ")


def test_what_a_file_system_cannot_do_is_refused(here: Site) -> None:
    assert here.run("type", "create", "plain", "--filesystem", "xfs").code == 0
    _share(here, "photos", "--type", "plain")

    assert here.run("snapshot", "create", "photos").code == Exit.REFUSED


def test_events_are_listed_and_followed_by_their_ids(here: Site) -> None:
    share = _share(here)

    events = here.run("-f", "json", "event", "list", "--subject", share).json()

    assert isinstance(events, list)
    assert [event["after"] for event in events] == ["creating", "available"]
    last = events[-1]["id"]
    assert here.run("-f", "json", "event", "list", "--subject", share, "--after", str(last)).json() == []


def test_tables_have_titles_and_no_control_sequences(here: Site) -> None:
    _share(here)

    ended = here.run("share", "list")

    titles, row = ended.out.splitlines()
    assert titles.split() == ["ID", "NAME", "PROJECT", "POOL", "TYPE", "SIZE", "USED", "STATUS", "REASON"]
    assert row.split()[1:5] == ["photos", "acme", "p1", "default"]
    assert "100 MiB" in row
    assert "\x1b" not in ended.out


def test_ambiguous_names_and_prefixes_list_the_candidates(here: Site) -> None:
    one = _share(here, "photos", "--id", "abcd0000-0000-4000-8000-000000000001")
    other = _share(here, "photos", "--id", "abcd0000-0000-4000-8000-000000000002")

    for text in ("photos", "abcd", "ABCD0000-"):
        ended = here.run("share", "show", text)
        assert ended.code == Exit.CONFLICT
        assert one in ended.err
        assert other in ended.err
    assert here.run("-f", "value", "share", "show", other[:-1] + "2").out.strip() == other


def test_a_name_that_looks_like_the_beginning_of_another_id_is_ambiguous(here: Site) -> None:
    first = _share(here, "photos", "--id", "abcd0000-0000-4000-8000-000000000001")
    second = _share(here, "abcd")

    ended = here.run("share", "show", "abcd")

    assert ended.code == Exit.CONFLICT
    assert first in ended.err
    assert second in ended.err


def test_the_beginning_of_an_id_is_found_among_many(here: Site) -> None:
    ids = [_share(here, "s", "--id", f"0000000{n}-0000-4000-8000-000000000000", "--no-wait") for n in range(9)]

    for wanted in ids:
        assert here.run("-f", "value", "share", "show", wanted[:8]).out.strip() == wanted
    ended = here.run("share", "show", "0000")
    assert ended.code == Exit.CONFLICT
    assert "and others" in ended.err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("share show ", {"photos", "abcd0000-0000-4000-8000-000000000001"}),
        ("share create x --pool ", {"p1"}),
        ("share create x --type ", {"default"}),
        ("guest add x --host ", {"h1"}),
        ("share show ph", {"photos"}),
        ("pool show q", set()),
    ],
)
def test_the_shell_completes_what_the_service_knows(
    nobody_changes: Site, words: str, found: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"isthmus --api unix:{nobody_changes.socket} {words}"
    monkeypatch.setenv("_ISTHMUS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))

    assert set(run().out.split()) == found


def test_a_name_that_the_terminal_cannot_write_is_escaped(here: Site) -> None:
    _share(here, "写真")
    command = [sys.executable, "-m", "isthmus", "--api", f"unix:{here.socket}", "share", "list"]

    done = subprocess.run(
        command, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert r"\u5199\u771f" in done.stdout


@pytest.mark.parametrize("text", ["", "abc", "nope", "ffff", "../pools", "photos/..", "x" * 200, "%2e%2e"])
def test_what_names_nothing_is_not_found(nobody_changes: Site, text: str) -> None:
    ended = nobody_changes.run("share", "show", text)

    assert ended.code == Exit.NOT_FOUND
    assert ended.err.startswith("isthmus: cannot find share ")
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize(
    "argv",
    [
        ("share", "show", "a\nb"),
        ("share", "show", "a\x1b[31mred"),
        ("share", "show", "\ud800"),
        ("share", "show", "a\u202eb"),
        ("pool", "show", "../hosts"),
        ("pool", "show", "P1"),
        ("share", "create", "a\x1b]0;x\x07", "--project", "acme", "--pool", "p1", "--size", "64M"),
        ("share", "create", "x", "--project", "../acme", "--pool", "p1", "--size", "64M"),
        ("share", "create", "x", "--project", "acme", "--pool", "p1", "--size", "64X"),
        ("share", "create", "x", "--project", "acme", "--pool", "p1", "--size", "-1"),
        ("share", "create", "x", "--project", "acme", "--pool", "p1", "--size", "9" * 40),
        ("share", "create", "x", "--project", "acme", "--pool", "p1", "--size", "64M", "--id", "nope"),
        ("share", "create", "x", "--project", "acme", "--pool", "p1", "--size", "64M", "--timeout", "-1"),
        ("guest", "add", "not-a-uuid", "--project", "acme"),
        ("event", "list", "--subject", "../x"),
        ("share", "unheard-of"),
        ("-f", "yaml", "share", "list"),
        ("doctor", "--delete-data"),
    ],
)
def test_hostile_and_wrong_input_is_wrong_usage_in_a_few_harmless_lines(
    nobody_changes: Site, argv: tuple[str, ...]
) -> None:
    ended = nobody_changes.run(*argv)

    assert ended.code == Exit.USAGE
    assert ended.out == ""
    assert all(character.isprintable() or character == "\n" for character in ended.err)
    assert "Traceback" not in ended.err
    assert len(ended.err.splitlines()) <= 4


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # httpcore leaves its socket to the GC
def test_a_service_that_is_away_is_unavailable_with_the_mend(tmp_path: Path) -> None:
    ended = run("--api", f"unix:{tmp_path}/api.sock", "share", "list")

    assert ended.code == Exit.UNAVAILABLE
    assert f"unix:{tmp_path}/api.sock" in ended.err
    assert "start it with `isthmus up`" in ended.err


@pytest.mark.parametrize("address", ["", "api.sock", "unix:api.sock", "ftp://127.0.0.1:1", "http://[", "http://h"])
def test_an_address_that_is_none_is_wrong_usage(tmp_path: Path, address: str) -> None:
    config = tmp_path / "isthmus.toml"
    config.write_text(f'[agent]\nservice = "{address or "nowhere"}"\n')

    ended = run("--config", str(config), "share", "list")

    assert ended.code == Exit.USAGE
    assert "write unix:/PATH, http://127.0.0.1:PORT or https://HOST:PORT" in ended.err


def test_a_configuration_that_cannot_be_read_is_wrong_usage(tmp_path: Path) -> None:
    config = tmp_path / "isthmus.toml"
    config.write_text("[paths]\nrum = '/x'\n")

    ended = run("--config", str(config), "share", "list")

    assert ended.code == Exit.USAGE
    assert "no such key: paths.rum" in ended.err
