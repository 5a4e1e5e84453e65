"""What is changed so that a gateway presents what it should."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from isthmus.gateway.difference import compatible, difference
from isthmus.model.attachment import Access, Export
from isthmus.model.errors import Conflict
from isthmus.model.names import AttachmentId

ids = st.sampled_from([AttachmentId(f"a{number}") for number in range(4)])
exports = st.builds(
    Export,
    attachment=ids,
    slot=st.integers(1, 4),
    source=st.sampled_from(["/s1", "/s2"]),
    at=st.sampled_from(["/", "/a", "/a/b", "/c"]),
    access=st.sampled_from(Access),
)
sets = st.lists(exports, unique_by=lambda export: export.attachment)


def by_id(some: list[Export]) -> dict[AttachmentId, Export]:
    return {export.attachment: export for export in some}


@given(st.sets(ids), sets, sets)
def test_it_leads_from_anything_to_what_is_wanted(
    known: set[AttachmentId], served: list[Export], want: list[Export]
) -> None:
    todo = difference(known, by_id(served), want)
    left = {a: export for a, export in by_id(served).items() if a not in todo.withdraw}
    assert not left.keys() & {export.attachment for export in todo.add}, "added beside itself"
    assert left | by_id(list(todo.add)) == by_id(want)
    assert known - left.keys() <= todo.withdraw, "known and unserved, but not cleaned up"


@given(sets)
def test_what_is_right_is_not_touched(want: list[Export]) -> None:
    assert not difference(set(by_id(want)), by_id(want), want)


def test_a_changed_export_is_replaced() -> None:
    export = Export(AttachmentId("a"), 1, "/s", "/at")
    todo = difference({export.attachment}, {export.attachment: export}, [replace(export, access=Access.RO)])
    assert todo.withdraw == {export.attachment}
    assert [added.access for added in todo.add] == [Access.RO]


@given(sets)
def test_the_compatible_and_the_refused_are_all(some: list[Export]) -> None:
    kept, errors = compatible(some)
    assert {export.attachment for export in kept} | errors.keys() == by_id(some).keys()
    assert len({export.slot for export in kept}) == len(kept)
    assert all(isinstance(error, Conflict) for error in errors.values())
    assert compatible(kept) == (kept, {})
