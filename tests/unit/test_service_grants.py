"""Signing, ending and documenting grants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from isthmus.model.errors import Conflict, Invalid, Unavailable
from isthmus.model.names import MIB, AttachmentId, HostName, new_id
from isthmus.pki import keep, profile
from isthmus.pki.trust import Trust
from isthmus.service.domain import authorities, grants
from isthmus.service.domain.attachments import detach
from isthmus.service.service import A_WEEK, Service
from isthmus.store import Store
from isthmus.store.rows import AttachmentRow, GrantRow, HostRow, ShareRow
from tests import service_kit as kit
from tests.fakes.authority import authority
from tests.grants_kit import DAY, REQUEST, Clock, live, sign
from tests.service_kit import HOST


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    store = kit.opened(tmp_path, now=clock)
    kit.equip(store)
    yield store
    store.close()


@pytest.fixture
def attachment(store: Store) -> AttachmentRow:
    return kit.given(store, kit.made(store))


def test_a_grant_says_what_the_database_does_and_travels_with_the_document(
    store: Store, attachment: AttachmentRow, clock: Clock
) -> None:
    with store.write() as tx:
        authorities.publish(tx, authority())
    before = kit.desired(store).revision
    assert sign(store, attachment.id) == {}
    document = kit.desired(store)
    assert document.revision > before
    believed = Trust(authority().roots)
    believed.learn(document.authorities, clock())
    signed = believed.verify_grant(document.grants[attachment.id], clock())
    share = kit.row(store, attachment)
    assert (signed.grant.share, signed.grant.place, signed.grant.host) == (share.share, share.place, HOST)
    assert signed.grant.sequence == kit.row(store, attachment).sequence


def test_numbers_only_grow_even_when_clock_and_database_go_back(
    store: Store, attachment: AttachmentRow, clock: Clock, tmp_path: Path
) -> None:
    sign(store, attachment.id)
    backup = (tmp_path / "isthmus.db").read_bytes()
    with store.read() as tx:
        tx._connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))
    backup = (tmp_path / "isthmus.db").read_bytes()
    first = kit.row(store, attachment).sequence
    clock.now -= DAY
    for _ in range(3):
        sign(store, attachment.id)
    last = kit.row(store, attachment).sequence
    assert last == first + 3
    clock.now += 2 * DAY
    (tmp_path / "restored").mkdir()
    (tmp_path / "restored" / "isthmus.db").write_bytes(backup)
    restored = Store.open(f"sqlite:///{tmp_path}/restored/isthmus.db", now=clock)
    assert kit.row(restored, attachment).sequence == first
    sign(restored, attachment.id)
    assert kit.row(restored, attachment).sequence > last
    restored.close()


def test_one_is_in_force_at_a_time(store: Store, attachment: AttachmentRow) -> None:
    for _ in range(3):
        sign(store, attachment.id)
    (one,) = live(store)
    assert one.sequence == kit.row(store, attachment).sequence
    assert kit.desired(store).grants == {attachment.id: one.certificate}
    assert kit.desired(store).revoked == (), "one that another took the place of needs no word"


def test_projects_are_compared_again_when_signing(store: Store, attachment: AttachmentRow) -> None:
    """Whoever changed the database by hand, or found a way around the API, gets no grant."""
    with store._engine.begin() as connection:
        connection.execution_options(writer=True)
        connection.execute(sa.text("UPDATE shares SET project = 'other'"))
    refused = sign(store, attachment.id)
    assert "different projects (acme, other)" in refused[attachment.id]
    assert live(store) == []


def test_a_guest_that_moved_gets_none_on_its_old_host(store: Store, attachment: AttachmentRow) -> None:
    with store.write() as tx:
        tx.add(HostRow(HostName("h2")))
    assert "has no attachment" in sign(store, attachment.id, host=HostName("h2"))[attachment.id]


def test_what_is_wrong_with_one_request_is_no_matter_of_the_others(store: Store, attachment: AttachmentRow) -> None:
    with store.write() as tx:
        asked = {attachment.id: REQUEST, AttachmentId(new_id()): REQUEST, AttachmentId("odd \x1b[31m"): b""}
        refused = grants.issue(tx, authority(), HOST, asked, A_WEEK)
    assert attachment.id not in refused
    assert len(refused) == 2
    assert "\x1b" not in "".join(refused.values())
    assert len(live(store)) == 1


def test_a_bad_request_is_refused_by_its_name(store: Store, attachment: AttachmentRow) -> None:
    with store.write() as tx:
        refused = grants.issue(tx, authority(), HOST, {attachment.id: b"junk"}, A_WEEK)
    assert "PKCS #10" in refused[attachment.id]


def test_so_many_at_once_and_no_more(store: Store) -> None:
    with pytest.raises(Invalid, match="more than 100"), store.write() as tx:
        grants.issue(tx, authority(), HOST, {AttachmentId(new_id()): REQUEST for _ in range(101)}, A_WEEK)


def test_revoking_bars_until_it_is_allowed_again(store: Store, attachment: AttachmentRow) -> None:
    sign(store, attachment.id)
    (grant,) = live(store)
    with store.write() as tx:
        grants.revoke(tx, attachment.id, "key\nmay be known")
    document = kit.desired(store)
    assert document.grants == {}
    assert document.revoked == (grant.serial,)
    refused = sign(store, attachment.id)[attachment.id]
    assert "was revoked" in refused
    assert "\n" not in refused
    with store.write() as tx:
        grants.allow(tx, attachment.id)
    assert sign(store, attachment.id) == {}
    assert kit.desired(store).grants.keys() == {attachment.id}
    assert kit.desired(store).revoked == (grant.serial,)


def test_renewing_takes_nothing_away_before_the_new_one_is_there(store: Store, attachment: AttachmentRow) -> None:
    sign(store, attachment.id)
    with store.write() as tx:
        grants.allow(tx, attachment.id)
    document = kit.desired(store)
    assert document.grants == {}
    assert document.revoked == (), "the agent keeps what it has, and asks"


def test_revoking_ends_also_those_that_the_host_may_still_have_instead(store: Store, attachment: AttachmentRow) -> None:
    """A host that was away does not know what took the place of its grant, and would present it until it ends."""
    sign(store, attachment.id)
    sign(store, attachment.id)
    with store.write() as tx:
        grants.allow(tx, attachment.id)
        grants.revoke(tx, attachment.id, "stolen")
    with store.read() as tx:
        serials = sorted(grant.serial for grant in tx.all(GrantRow))
    assert len(serials) == 2
    assert kit.desired(store).revoked == tuple(serials)


def test_detaching_ends_it(store: Store, attachment: AttachmentRow) -> None:
    sign(store, attachment.id)
    with store.write() as tx:
        detach(tx, attachment.id)
    assert live(store) == []
    assert kit.desired(store).grants == {}
    with pytest.raises(Conflict, match="being detached"), store.write() as tx:
        grants.allow(tx, attachment.id)
    with store.read() as tx:
        assert [grant.reason for grant in tx.all(GrantRow)] == [grants.DETACHED]


def test_what_has_ended_is_forgotten_in_time(store: Store, attachment: AttachmentRow, clock: Clock) -> None:
    sign(store, attachment.id)
    clock.now += A_WEEK - DAY
    with store.write() as tx:
        assert grants.prune(tx) == 0
    clock.now += 2 * DAY
    assert kit.desired(store).grants == {}
    with store.write() as tx:
        assert grants.prune(tx) == 1
    assert live(store) == []


def test_renewing_forgets_what_has_ended(store: Store, attachment: AttachmentRow, clock: Clock) -> None:
    """A service that is never started anew keeps no more than a lifetime of grants."""
    for _ in range(20):
        sign(store, attachment.id)
        clock.now += 4 * DAY
    with store.read() as tx:
        assert len(tx.all(GrantRow)) == 2


def test_a_document_takes_as_many_questions_as_it_has_kinds(store: Store) -> None:
    def asked() -> int:
        said: list[object] = []

        def note(*what: object) -> None:
            said.append(what[2])

        sa.event.listen(store._engine, "before_cursor_execute", note)
        kit.desired(store)
        sa.event.remove(store._engine, "before_cursor_execute", note)
        return len(said)

    def grant_another() -> None:
        sign(store, kit.given(store, kit.made(store, size=64 * MIB)).id)

    grant_another()
    few = asked()
    for _ in range(4):
        grant_another()
    assert asked() == few
    assert len(kit.desired(store).grants) == 5


async def test_without_an_authority_nothing_is_signed_and_the_mend_is_told(store: Store, tmp_path: Path) -> None:
    from isthmus.service.keeper import Keeper

    service = Service(store, signer=Keeper(tmp_path / "none"))
    given = kit.given(store, kit.made(store))
    with pytest.raises(Unavailable, match="isthmus ca init"):
        await service.sign(HOST, {given.id: REQUEST})
    with pytest.raises(Unavailable, match="isthmus ca init"):
        await service.publish()
    await service.close()


async def test_a_rotated_authority_reaches_the_documents(store: Store, tmp_path: Path, clock: Clock) -> None:
    from isthmus.service.keeper import Keeper

    keep.init(tmp_path / "ca", now=clock(), passphrase=b"x")
    keeper = Keeper(tmp_path / "ca")
    service = Service(store, signer=keeper)
    await service.publish()
    before = kit.desired(store)
    assert len(before.authorities) == 2
    await service.publish()
    assert kit.desired(store).revision == before.revision, "nothing new wakes nobody"
    keep.rotate_root(tmp_path / "ca", now=clock(), passphrase=b"x")
    await service.publish()
    after = kit.desired(store)
    assert after.revision > before.revision
    assert set(after.authorities) == set(keeper.authorities)
    assert set(before.authorities) < set(after.authorities)
    await service.close()


def test_a_share_s_project_travels(store: Store, attachment: AttachmentRow) -> None:
    with store.read() as tx:
        assert {share.project for share in tx.all(ShareRow)} == {"acme"}
    assert {share.project for share in kit.desired(store).shares} == {"acme"}
    assert profile.VERSION == 1
