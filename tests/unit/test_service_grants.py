"""Signing, ending and documenting grants; enrolling and revoking hosts."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from isthmus.model.errors import Conflict, HostRevoked, Invalid, NotFound, Unauthenticated, Unavailable
from isthmus.model.names import AttachmentId, HostName, new_id
from isthmus.pki import keep, profile
from isthmus.pki.facts import facts_of, host_of
from isthmus.pki.request import make_request, new_key
from isthmus.pki.trust import Trust
from isthmus.service.domain import authorities, enrolment, grants
from isthmus.service.domain.attachments import detach
from isthmus.service.service import A_WEEK, Service
from isthmus.store import Store
from isthmus.store.rows import AttachmentRow, CertificateRow, GrantRow, HostRow, ShareRow, TokenRow
from tests import service_kit as kit
from tests.fakes.authority import authority
from tests.service_kit import HOST

REQUEST = make_request(new_key())
DAY = datetime.timedelta(days=1)


@dataclass
class Clock:
    now: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).replace(microsecond=0))

    def __call__(self) -> datetime.datetime:
        return self.now


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


def sign(store: Store, *ids: str, host: HostName = HOST) -> dict[AttachmentId, str]:
    with store.write() as tx:
        return grants.issue(tx, authority(), host, {AttachmentId(name): REQUEST for name in ids}, A_WEEK)


def live(store: Store) -> list[GrantRow]:
    with store.read() as tx:
        return tx.all(GrantRow, ended_at=None)


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


# --- hosts ------------------------------------------------------------------------------------------------------------


def token(store: Store, *, replace: bool = False, lifetime: float = 3600) -> str:
    with store.write() as tx:
        return enrolment.make_token(tx, HOST, "f" * 64, replace=replace, lifetime=lifetime)[0]


def enrol(store: Store, given: str) -> enrolment.Enrolled:
    with store.write() as tx:
        return enrolment.enrol(tx, authority(), given, REQUEST)


def test_a_token_makes_a_host_once(store: Store, clock: Clock) -> None:
    given = token(store)
    with store.read() as tx:
        assert given not in repr(tx.all(TokenRow)), "the database does not keep it"
    done = enrol(store, given)
    assert host_of(done.certificate) == HOST
    assert done.roots == authority().roots
    with store.read() as tx:
        enrolment.check_certificate(tx, done.certificate, HOST)
    with pytest.raises(Unauthenticated, match="used before"):
        enrol(store, given)


@pytest.mark.parametrize("wrong", ["", "h1.x.y", "h1." + "A" * 32 + "." + "f" * 64, "x" * 5000, "\x00"])
def test_a_token_that_nobody_made_is_refused(store: Store, wrong: str) -> None:
    with pytest.raises(Unauthenticated, match="unknown"):
        enrol(store, wrong)


def test_a_token_has_its_time(store: Store, clock: Clock) -> None:
    given = token(store, lifetime=60)
    clock.now += datetime.timedelta(seconds=60)
    with pytest.raises(Unauthenticated, match="its time is over"):
        enrol(store, given)
    for lifetime in (1, 8 * 86400):
        with pytest.raises(Invalid, match="between"):
            token(store, lifetime=lifetime)
    with pytest.raises(NotFound), store.write() as tx:
        enrolment.make_token(tx, "nobody", "")


def test_two_agents_of_one_name(store: Store, attachment: AttachmentRow) -> None:
    first = enrol(store, token(store))
    sign(store, attachment.id)
    with pytest.raises(Conflict, match="--replace"):
        enrol(store, token(store))
    with store.read() as tx:
        enrolment.check_certificate(tx, first.certificate, HOST)
    second = enrol(store, token(store, replace=True))
    with store.read() as tx:
        enrolment.check_certificate(tx, second.certificate, HOST)
        with pytest.raises(HostRevoked, match="another agent took its place"):
            enrolment.check_certificate(tx, first.certificate, HOST)
    assert live(store) == [], "the first one's keys are gone with it"


def test_a_refused_enrolment_leaves_the_token_good(store: Store) -> None:
    given = token(store)
    with pytest.raises(Invalid), store.write() as tx:
        enrolment.enrol(tx, authority(), given, b"junk")
    assert enrol(store, given).host == HOST


def test_revoking_a_host_ends_all_of_it(store: Store, attachment: AttachmentRow) -> None:
    done, spare = enrol(store, token(store)), token(store, replace=True)
    sign(store, attachment.id)
    (grant,) = live(store)
    with store.write() as tx:
        enrolment.revoke_host(tx, HOST, "stolen")
    assert live(store) == []
    assert kit.desired(store).revoked == (grant.serial,)
    with store.read() as tx, pytest.raises(HostRevoked, match="stolen"):
        enrolment.check_certificate(tx, done.certificate, HOST)
    with pytest.raises(Unauthenticated, match="unknown"):
        enrol(store, spare)
    assert enrol(store, token(store)).host == HOST, "it may come back"


def test_a_host_that_has_not_enrolled_cannot_be_revoked(store: Store) -> None:
    with pytest.raises(Conflict, match="no agent has enrolled"), store.write() as tx:
        enrolment.revoke_host(tx, HOST)


def test_renewal_leaves_the_one_before_good_until_its_end(store: Store, clock: Clock) -> None:
    first = enrol(store, token(store))
    clock.now += 80 * DAY
    with store.write() as tx:
        second = enrolment.renew(tx, authority(), HOST, REQUEST)
    for certificate in (first.certificate, second.certificate):
        with store.read() as tx:
            enrolment.check_certificate(tx, certificate, HOST)
    clock.now = facts_of(first.certificate).not_after + DAY
    with store.write() as tx:
        enrolment.prune(tx)
        assert [row.serial for row in tx.all(CertificateRow)] == [facts_of(second.certificate).serial]


def test_a_certificate_of_another_name_is_not_taken(store: Store) -> None:
    done = enrol(store, token(store))
    with store.read() as tx, pytest.raises(HostRevoked):
        enrolment.check_certificate(tx, done.certificate, HostName("h2"))
    unknown = authority().sign_host(HOST, new_key().public_key(), now=datetime.datetime.now(datetime.UTC))
    with store.read() as tx, pytest.raises(HostRevoked, match="not known"):
        enrolment.check_certificate(tx, unknown, HOST)


def test_a_share_s_project_travels(store: Store, attachment: AttachmentRow) -> None:
    with store.read() as tx:
        assert {share.project for share in tx.all(ShareRow)} == {"acme"}
    assert {share.project for share in kit.desired(store).shares} == {"acme"}
    assert profile.VERSION == 1
