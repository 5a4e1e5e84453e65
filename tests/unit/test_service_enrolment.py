"""Enrolling hosts, renewing their certificates, revoking and removing them."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.model.errors import Conflict, HostRevoked, Invalid, NotFound, Unauthenticated
from isthmus.model.names import HostName
from isthmus.pki.facts import facts_of, host_of
from isthmus.pki.request import new_key
from isthmus.service.domain import enrolment
from isthmus.service.domain.hosts import register_host, remove_host
from isthmus.store import Store
from isthmus.store.rows import AttachmentRow, CertificateRow, TokenRow
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


def test_a_removed_host_leaves_nothing_to_a_later_one_of_its_name(tmp_path: Path, clock: Clock) -> None:
    store = kit.opened(tmp_path, now=clock)
    with store.write() as tx:
        register_host(tx, HOST)
    done, spare = enrol(store, token(store)), token(store, replace=True)
    for _ in range(2):
        with store.read() as tx:
            enrolment.check_certificate(tx, done.certificate, HOST)
        with store.write() as tx:
            remove_host(tx, HOST)
            register_host(tx, HOST)
        with store.read() as tx, pytest.raises(HostRevoked, match="its host was removed"):
            enrolment.check_certificate(tx, done.certificate, HOST)
        with pytest.raises(Unauthenticated, match="unknown"):
            enrol(store, spare)
        done, spare = enrol(store, token(store)), token(store, replace=True)
    store.close()
