"""The table of legal moves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from isthmus.model.errors import Conflict
from isthmus.model.status import AttachmentStatus, ShareStatus, SnapshotStatus, Status, check_move, moves_from

KINDS: list[tuple[Sequence[Status], Status, Status]] = [
    (tuple(ShareStatus), ShareStatus.CREATING, ShareStatus.GONE),
    (tuple(SnapshotStatus), SnapshotStatus.CREATING, SnapshotStatus.GONE),
    (tuple(AttachmentStatus), AttachmentStatus.ATTACHING, AttachmentStatus.GONE),
]


def reachable(start: Status) -> set[Status]:
    found, new = {start}, [start]
    while new:
        for then in moves_from(new.pop()) - found:
            found.add(then)
            new.append(then)
    return found


@pytest.mark.parametrize(("kind", "first", "gone"), KINDS)
def test_every_status_is_reached_and_only_gone_is_the_end(kind: Sequence[Status], first: Status, gone: Status) -> None:
    assert reachable(first) == set(kind)
    for status in kind:
        assert gone in reachable(status)
        assert bool(moves_from(status)) == (status != gone)


@pytest.mark.parametrize(("kind", "_first", "gone"), KINDS)
def test_deletion_is_never_taken_back(kind: Sequence[Status], _first: Status, gone: Status) -> None:
    leaving = [status for status in kind if gone in moves_from(status)]
    assert [str(status) for status in leaving] in (["deleting"], ["detaching"])
    assert moves_from(leaving[0]) == {gone}


@pytest.mark.parametrize(("kind", "_first", "_gone"), KINDS)
def test_a_move_is_checked_by_the_table(kind: Sequence[Status], _first: Status, _gone: Status) -> None:
    for now, then in itertools.product(kind, kind):
        if now == then or then in moves_from(now):
            check_move("thing", "x", now, then)
        else:
            with pytest.raises(Conflict) as caught:
                check_move("thing", "x", now, then)
            assert caught.value.detail["status"] == str(now)
