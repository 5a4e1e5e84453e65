"""What may be attached to whom, and where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.model.attachment import Access, AttachmentSpec, Mode
from isthmus.model.errors import Conflict, Exhausted, Invalid, NotFound, Refused
from isthmus.model.names import ShareId, new_id
from isthmus.model.status import AttachmentStatus
from isthmus.service.domain import attachments, guests, hosts, pools
from isthmus.store import Store
from isthmus.store.rows import AttachmentRow, GuestRow
from tests import service_kit as kit


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = kit.opened(tmp_path)
    kit.equip(store)
    yield store
    store.close()


def detach(store: Store, attachment: AttachmentRow) -> AttachmentRow:
    with store.write() as tx:
        return attachments.detach(tx, attachment.id)


def test_an_attachment_is_in_the_document_until_it_is_detached(store: Store) -> None:
    share = kit.made(store, name="home")
    attachment = kit.given(store, share, access=Access.RO)
    assert kit.desired(store).attachments == (
        AttachmentSpec(attachment.id, share.id, kit.GUEST, 1, "/home", Mode.NFS, Access.RO),
    )
    assert attachment.mode_reason.startswith("auto chose nfs")
    kit.all_well(store)
    assert kit.row(store, attachment).status == AttachmentStatus.ATTACHED
    leaving = detach(store, attachment)
    assert leaving.status == AttachmentStatus.DETACHING
    assert kit.desired(store).attachments == ()
    assert detach(store, leaving).revision == leaving.revision
    kit.all_well(store)
    assert not kit.there(store, attachment)


@pytest.mark.parametrize(
    ("name", "place"), [("home", "/home"), ("my data", "/my data"), ("a/b", ""), ("..", ""), ('x"y', ""), ("", "")]
)
def test_the_default_place_is_the_name_where_that_is_one(store: Store, name: str, place: str) -> None:
    share = kit.made(store, name=name)
    assert kit.given(store, share).place == (place or f"/{share.id}")


def test_a_share_of_another_project_does_not_exist(store: Store) -> None:
    theirs = kit.made(store, project="rival")
    with pytest.raises(NotFound) as hidden:
        kit.given(store, theirs)
    with pytest.raises(NotFound) as absent:
        kit.given(store, replace(theirs, id=ShareId(new_id())))
    assert hidden.value.code == absent.value.code == "share-not-found"


def test_the_same_share_twice_is_a_conflict_that_names_the_first(store: Store) -> None:
    share = kit.made(store)
    first = kit.given(store, share, at="/a")
    with pytest.raises(Conflict, match=first.id) as caught:
        kit.given(store, share, at="/b")
    assert caught.value.code == "attached-already"


@pytest.mark.parametrize("place", ["/data", "/data/models", "/", "/data/models/v1/x"])
def test_a_place_taken_or_nested_is_a_conflict_that_names_the_other(store: Store, place: str) -> None:
    first = kit.given(store, kit.made(store), at="/data/models/v1" if place.count("/") > 3 else "/data/models")
    with pytest.raises(Conflict, match=first.id) as caught:
        kit.given(store, kit.made(store), at=place)
    assert caught.value.code == "place-taken"


def test_places_side_by_side_are_fine(store: Store) -> None:
    kit.given(store, kit.made(store), at="/data/models")
    assert kit.given(store, kit.made(store), at="/data/models2").slot == 2


@pytest.mark.parametrize("place", ["data", "/../etc", "/a//b", "/a\nb", '/a"', "/a\0", "/" + "x" * 5000, "/\u202e"])
def test_a_wrong_place_is_invalid(store: Store, place: str) -> None:
    share = kit.made(store)
    with pytest.raises(Invalid) as caught:
        kit.given(store, share, at=place)
    assert caught.value.field == "at"


def test_a_sub_path_is_refused_with_the_mend(store: Store) -> None:
    share = kit.made(store)
    with pytest.raises(Refused, match="a share of its own"):
        kit.given(store, share, sub_path="projects/x")


def test_a_share_that_is_not_available_is_a_conflict(store: Store) -> None:
    with pytest.raises(Conflict, match="the share is creating"):
        kit.given(store, kit.ask(store))


def test_disks_of_another_host_are_out_of_reach(store: Store) -> None:
    elsewhere = new_id()
    with store.write() as tx:
        hosts.register_host(tx, "h2")
        guests.register_guest(tx, guest_id=elsewhere, project=kit.PROJECT, host="h2")
    with pytest.raises(Refused, match="the disks of pool p1 are on h1"):
        kit.given(store, kit.made(store), guest=elsewhere)


def test_an_unknown_mode_is_invalid(store: Store) -> None:
    with pytest.raises(Invalid, match="choose one of nfs, auto"):
        kit.given(store, kit.made(store), mode="smb")


def test_a_retry_finds_the_attachment(store: Store) -> None:
    share, wanted = kit.made(store), {"attachment_id": new_id(), "at": "/x"}
    first = kit.given(store, share, **wanted)
    assert kit.given(store, share, **wanted) == kit.row(store, first)
    with pytest.raises(Conflict, match="belongs to another"):
        kit.given(store, share, attachment_id=first.id, at="/y")


def test_a_slot_is_not_used_again_soon(store: Store) -> None:
    share = kit.made(store)
    for slot in (1, 2, 3):
        attachment = kit.given(store, share)
        assert attachment.slot == slot
        detach(store, attachment)
        kit.all_well(store)


@given(last=st.integers(0, 65535), taken=st.sets(st.integers(1, 65535), max_size=50))
def test_a_slot_is_free_and_the_next_one_round(last: int, taken: set[int]) -> None:
    slot = attachments.next_slot(last, taken)
    assert 1 <= slot <= 65535
    assert slot not in taken
    passed = {(last + step) % 65535 + 1 for step in range((slot - last - 1) % 65535)}
    assert passed <= taken


def test_no_slot_left_is_exhausted() -> None:
    with pytest.raises(Exhausted):
        attachments.next_slot(7, range(1, 65536))


class TestRegistering:
    """Hosts, pools, types and guests: idempotent, and not removed while in use."""

    def test_twice_is_once(self, store: Store) -> None:
        before = kit.desired(store)
        kit.equip(store)
        assert kit.desired(store) == before

    def test_what_is_in_use_stays(self, store: Store) -> None:
        kit.given(store, kit.made(store))
        with store.write() as tx:
            for remove, name in (
                (hosts.remove_host, kit.HOST),
                (pools.remove_pool, kit.POOL),
                (guests.remove_guest, kit.GUEST),
                (pools.remove_type, "default"),
            ):
                with pytest.raises(Conflict, match="cannot remove"):
                    remove(tx, name)

    @pytest.mark.parametrize(
        "other",
        [{"path": "/srv/p1"}, {"path": "/srv"}, {"path": "/srv/p1/x"}],
    )
    def test_pools_share_no_directory(self, store: Store, other: dict[str, Any]) -> None:
        with store.write() as tx, pytest.raises(Conflict, match="pool p1 is at /srv/p1"):
            pools.register_pool(tx, name="p2", host=kit.HOST, **other)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("path", "srv"),
            ("path", "/"),
            ("path", "/a/../b"),
            ("path", "/a\n"),
            ("path", "/ü"),
            ("path", "/a/"),
            ("path", "//a"),
            ("name", "P"),
            ("overcommit", 0.0),
            ("overcommit", float("nan")),
            ("overcommit", 1e300),
            ("reserve", -1),
            ("reserve", 1 << 70),
            ("driver", "nonesuch"),
        ],
    )
    def test_a_wrong_pool_is_invalid_by_its_field(self, store: Store, field: str, value: object) -> None:
        wanted: dict[str, Any] = {"name": "p2", "host": kit.HOST, "path": "/srv/p2", field: value}
        with store.write() as tx, pytest.raises(Invalid) as caught:
            pools.register_pool(tx, **wanted)
        assert caught.value.field == field

    def test_a_guest_that_is_known_otherwise_is_a_conflict(self, store: Store) -> None:
        with store.write() as tx, pytest.raises(Conflict, match="of project acme on host h1"):
            guests.register_guest(tx, guest_id=kit.GUEST, project="rival", host=kit.HOST)

    def test_a_static_guest_wakes_its_agent(self, store: Store) -> None:
        before = kit.desired(store).revision
        with store.write() as tx:
            guests.update_guest(tx, kit.GUEST, static=True)
        document = kit.desired(store)
        assert document.guests[0].static
        assert document.revision > before
        with store.write() as tx:
            guests.remove_guest(tx, kit.GUEST)
            assert tx.get(GuestRow, kit.GUEST) is None
