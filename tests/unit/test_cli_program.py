"""What the program promises whatever the service says: help, exit codes, output, waits."""

from __future__ import annotations

import datetime
import io
import subprocess
import sys
from typing import Any, cast

import pytest

from isthmus.cli import exits
from isthmus.cli.client import SHARES, Answered, Client, Noun
from isthmus.cli.exits import Exit, exit_of
from isthmus.cli.output import Format, Printer, harmless, size
from isthmus.cli.wait import EndedInError, Patience, WaitExpired
from isthmus.model.errors import IsthmusError, NotFound
from isthmus.model.names import GIB, MIB, new_id
from isthmus.model.share import Filesystem
from isthmus.model.status import ShareStatus
from isthmus.service.faults import STATUS, status_of
from isthmus.wire.api import Fault, FaultEnvelope, ShareView
from tests.cli_kit import run

NOUNS = {
    "pool": ("create", "list", "show", "set", "delete"),
    "type": ("create", "list", "delete"),
    "share": ("create", "list", "show", "resize", "rename", "revert", "delete"),
    "snapshot": ("create", "list", "show", "delete"),
    "host": ("add", "list", "show", "remove"),
    "guest": ("add", "list", "show", "set", "remove"),
    "attachment": ("list", "show"),
    "event": ("list",),
}
VERBS: list[tuple[str, ...]] = [(noun, verb) for noun, verbs in NOUNS.items() for verb in verbs]
VERBS += [(verb,) for verb in ("attach", "detach", "doctor", "up", "agent", "service")]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help_with_an_example_of_itself(verb: tuple[str, ...]) -> None:
    ended = run(*verb, "--help")

    assert ended.code == 0
    examples = ended.out.partition("Examples:")[2]
    assert any(set(verb) <= set(line.split()) for line in examples.splitlines())


@pytest.mark.parametrize("nouns", [(), ("share",)], ids=["the program", "a noun"])
def test_without_a_verb_there_is_help(nouns: tuple[str, ...]) -> None:
    ended = run(*nouns)

    assert ended.code == Exit.USAGE
    assert "Commands:" in ended.out + ended.err


def test_help_loads_nothing_heavy() -> None:
    heavy = ("httpx", "rich", "starlette", "sqlalchemy", "uvicorn", "pyroute2", "qemu")
    code = f"import sys, isthmus.cli.main; print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_version() -> None:
    ended = run("--version")

    assert ended.code == 0
    assert ended.out.startswith("isthmus ")


@pytest.mark.parametrize("verb", ["up", "agent", "doctor"])
def test_who_is_not_root_is_told_so(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    ended = run(verb)

    assert ended.code == Exit.REFUSED
    assert ended.err.endswith("run it as root\n")
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("kind", list(STATUS), ids=lambda kind: kind.__name__)
def test_an_error_ends_the_same_whether_it_arose_here_or_at_the_service(kind: type[IsthmusError]) -> None:
    envelope = FaultEnvelope(error=Fault(code="x", message="cannot x", detail={}, request_id="r"))
    answered = exit_of(Answered(status_of(kind), envelope))
    known = exits.BY_CLASS.get(kind) or next(
        (exits.BY_CLASS[base] for base in kind.__mro__ if base in exits.BY_CLASS), 1
    )

    assert answered == known


def test_an_error_that_no_table_names_is_a_failure() -> None:
    assert exit_of(IsthmusError("cannot x")) is Exit.FAILED
    assert exit_of(NotFound("share", "x")) is Exit.NOT_FOUND


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (MIB, "1 MiB"), (10 * GIB, "10 GiB"), (3 * GIB // 2, "1.5 GiB"), (None, "-")],
)
def test_sizes_are_for_people(number: int | None, shown: str) -> None:
    assert size(number) == shown


def test_nothing_reaches_a_terminal_that_it_would_act_upon() -> None:
    assert harmless("a\x1b[2Jb\u202e\n") == "a\\x1b[2Jb\\u202e\\n"
    assert harmless("Grüße 写真") == "Grüße 写真"


def test_columns_stand_below_their_titles_however_wide_the_letters() -> None:
    out = io.StringIO()

    Printer(Format.TABLE, quiet=False, out=out).table(
        ("name", "size", "end"), [("写真", "1 B", "x"), ("a", "10 B", "y")], {"size"}
    )

    assert out.getvalue() == "NAME  SIZE  END\n写真   1 B  x\na     10 B  y\n"


def test_long_cells_are_never_cut() -> None:
    out = io.StringIO()

    Printer(Format.TABLE, quiet=False, out=out).table(("name",), [("x" * 500,)])

    assert out.getvalue().splitlines()[1] == "x" * 500


def share_view(*, status: str = "available", **fields: Any) -> ShareView:
    """A share."""
    base: dict[str, Any] = {
        "id": "abcd0000-0000-4000-8000-000000000001",
        "volume": "abcd0000-0000-4000-8000-000000000001",
        "project": "acme",
        "name": "photos",
        "pool": "p1",
        "host": "h1",
        "type": "default",
        "filesystem": Filesystem.BTRFS,
        "checksums": False,
        "size": GIB,
        "used": 0,
        "reason": "",
        "code": "",
        "source_snapshot": None,
        "source_share": None,
        "public": False,
        "revision": 1,
        "created_at": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    }
    return ShareView(**{**base, **fields, "status": ShareStatus(status)})


class Script:
    """Stands for the service: a share in one state after the other, with a clock that each answer moves on."""

    def __init__(self, *states: ShareView | IsthmusError | None, pause: float = 1.0) -> None:
        self._states, self._pause = list(states), pause
        self.now = 0.0
        self.asked: list[tuple[int, float]] = []
        self.said: list[str] = []

    def next(self, _noun: Noun[Any], _key: str, after: int, seconds: float) -> ShareView | None:
        """The next state; None: nothing new for so long."""
        self.asked.append((after, seconds))
        self.now += self._pause
        state = self._states.pop(0)
        if isinstance(state, IsthmusError):
            raise state
        return state

    def update(self, text: str) -> None:
        """As a spinner."""
        self.said.append(text)

    def patience(self, seconds: float) -> Patience:
        """A wait for this."""
        return Patience(cast(Client, self), self, seconds, lambda: self.now)


def test_a_wait_follows_revisions_until_the_status_is_steady() -> None:
    first = share_view(status="creating", revision=3)
    script = Script(None, share_view(status="creating", reason="slow disk", revision=5), share_view(revision=9))

    done = script.patience(60).settled(SHARES, first, ("available",), "create share x")

    assert done.revision == 9
    assert script.asked == [(3, 20.0), (3, 20.0), (5, 20.0)]
    assert script.said[-1] == "create share x: creating: slow disk"


def test_a_wait_never_asks_for_longer_than_is_left() -> None:
    script = Script(None, None, None, pause=4.0)

    with pytest.raises(WaitExpired, match="cannot create share x within 10 s: it is still creating"):
        script.patience(10).settled(SHARES, share_view(status="creating"), ("available",), "create share x")

    assert [seconds for _, seconds in script.asked] == [10.0, 6.0, 2.0]


def test_a_wait_ends_at_an_error_with_its_reason_and_code() -> None:
    script = Script(share_view(status="error", reason="cannot run mkfs.btrfs: not installed", code="program-missing"))

    with pytest.raises(EndedInError, match=r"^cannot run mkfs\.btrfs: not installed\n") as raised:
        script.patience(60).settled(SHARES, share_view(status="creating"), ("available",), "create share x")

    assert raised.value.code == "program-missing"


def test_what_is_gone_is_gone_however_it_is_told() -> None:
    envelope = FaultEnvelope(error=Fault(code="share-not-found", message="", detail={}, request_id=""))
    script = Script(share_view(status="deleting", revision=4), Answered(404, envelope))

    script.patience(60).gone(SHARES, share_view(status="deleting", revision=2), "delete share x")
    script.patience(60).gone(SHARES, None, "delete share x")

    assert [after for after, _ in script.asked] == [2, 4]


def test_another_fault_while_waiting_is_not_taken_for_the_end() -> None:
    envelope = FaultEnvelope(error=Fault(code="internal", message="cannot answer", detail={}, request_id=""))

    with pytest.raises(Answered, match="cannot answer"):
        Script(Answered(500, envelope)).patience(60).gone(SHARES, share_view(), f"delete share {new_id()}")
