"""No valid grant, no export: every reason to refuse, and nothing valid lost to a restart or an outage."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from isthmus.agent.admission import Admission, Verdict
from isthmus.agent.ledger import Ledger
from isthmus.model.attachment import Access, AttachmentSpec
from isthmus.model.desired import Desired
from isthmus.model.errors import HostFailure
from isthmus.model.guest import GuestSpec
from isthmus.model.names import GIB, AttachmentId, GuestId, HostName, PoolName, ProjectId, ShareId
from isthmus.model.share import Pool, ShareSpec
from isthmus.pki import keep
from isthmus.pki.facts import facts_of
from isthmus.pki.trust import Trust
from tests.fakes.authority import authority, signed, with_grants

H = HostName("h")
D = ProjectId("d")
P = PoolName("p")
S = ShareId("00000000-0000-4000-8000-000000000001")
S2 = ShareId("00000000-0000-4000-8000-000000000002")
G = GuestId("a0000001-0000-4000-8000-000000000000")
G2 = GuestId("a0000002-0000-4000-8000-000000000000")
A = AttachmentId("b0000000-0000-4000-8000-000000000001")
START = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
WEEK = datetime.timedelta(days=7)

WANT = Desired(
    H,
    1,
    (Pool(P, "local", H, "/p"),),
    shares=(ShareSpec(S, P, GIB, project=D), ShareSpec(S2, P, GIB, project=D)),
    guests=(GuestSpec(G, D, H), GuestSpec(G2, D, H)),
    attachments=(AttachmentSpec(A, S, G, 1, "/one"),),
)


@dataclass
class Site:
    """One host, with a clock of ours."""

    directory: Path
    now: datetime.datetime = START
    certificate: str = ""
    admission: Admission = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.admission = Admission(
            H, Trust(authority().roots), Ledger(self.directory), lambda: self.now, certificate=self.certificate
        )

    def judge(self, want: Desired) -> Verdict:
        return self.admission.judge(want)

    def granted(self, want: Desired = WANT, sequence: int = 5, **terms: object) -> Desired:
        """The document with a grant that this host has asked for."""
        requests = self.admission.requests([A])
        for_whom = replace(want, **terms) if terms else want  # type: ignore[arg-type]
        return with_grants(want, signed(for_whom, requests, sequence=sequence, now=self.now))

    def code(self, want: Desired) -> str:
        verdict = self.judge(want)
        return verdict.refused[A].code if verdict.refused else ""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "agent")


def test_one_that_has_none_is_asked_for_and_waits(site: Site) -> None:
    verdict = site.judge(with_grants(WANT, {}))
    assert verdict.asking == (A,)
    assert verdict.refused[A].waiting
    assert verdict.denied.exports == verdict.denied.waiting == {A}


def test_a_grant_admits(site: Site) -> None:
    verdict = site.judge(site.granted())
    assert verdict.refused == {}
    assert verdict.asking == ()
    assert verdict.denied.exports == frozenset()


def test_the_key_stays_here_and_root_alone_reads_it(site: Site) -> None:
    site.judge(site.granted())
    site.admission.save()
    (key,) = (site.directory / "keys").iterdir()
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.name.startswith(A)
    assert (site.directory / "ledger.json").stat().st_mode & 0o777 == 0o600


other_share = (AttachmentSpec(A, S2, G, 1, "/one"),)
other_guest = (AttachmentSpec(A, S, G2, 1, "/one"),)


@pytest.mark.parametrize(
    ("signed_for", "code"),
    [
        ({"host": HostName("other")}, "grant-other-host"),
        ({"attachments": other_guest}, "grant-other-guest"),
        ({"attachments": other_share}, "grant-other-share"),
        ({"attachments": (AttachmentSpec(A, S, G, 1, "/two"),)}, "grant-mismatch"),
        ({"attachments": (AttachmentSpec(A, S, G, 1, "/one", access=Access.RO),)}, "grant-mismatch"),
        ({"shares": (ShareSpec(S, PoolName("q"), GIB, project=D),)}, "grant-mismatch"),
        ({"guests": (GuestSpec(G, ProjectId("e"), H),)}, "grant-other-project"),
    ],
)
def test_one_for_something_else_is_refused(site: Site, signed_for: dict[str, object], code: str) -> None:
    assert site.code(site.granted(WANT, 5, **signed_for)) == code


@pytest.mark.parametrize(
    "changed",
    [
        {"shares": (ShareSpec(S, P, GIB, project=ProjectId("e")),)},
        {"guests": (GuestSpec(G, ProjectId("e"), H),)},
        {"shares": (ShareSpec(S, P, GIB, project=ProjectId("e")),), "guests": (GuestSpec(G, ProjectId("e"), H),)},
    ],
)
def test_a_service_that_was_deceived_gives_no_share_across_projects(site: Site, changed: dict[str, object]) -> None:
    """The document says that a share of another project belongs to the guest; the grant, signed before, does not."""
    want = site.granted()
    assert site.code(replace(want, **changed)) == "grant-other-project"  # type: ignore[arg-type]


def test_a_guest_on_another_host_is_not_served(site: Site) -> None:
    want = site.granted()
    assert site.code(replace(want, guests=(GuestSpec(G, D, HostName("other")),))) == "grant-other-host"


def test_one_on_another_s_key_is_refused_and_asked_for_anew(site: Site, tmp_path: Path) -> None:
    stolen = Site(tmp_path / "thief").granted()
    verdict = site.judge(stolen)
    assert verdict.refused[A].code == "grant-foreign-key"
    assert verdict.asking == (A,)


def test_an_older_one_is_refused(site: Site) -> None:
    old = site.granted(sequence=5)
    site.judge(old)
    new = site.granted(sequence=9)
    assert site.code(new) == ""
    revoked = replace(new, grants={}, revoked=(facts_of(new.grants[A]).serial,))
    assert site.code(revoked) == "grant-revoked"
    assert site.code(old) in ("grant-replayed", "grant-foreign-key")
    assert site.code(new) == "grant-replayed", "a document without the word of its end does not revive it"


def test_a_revoked_one_stays_so_over_a_restart(site: Site) -> None:
    want = site.granted()
    site.judge(want)
    site.judge(replace(want, grants={}, revoked=(facts_of(want.grants[A]).serial,)))
    site.admission.save()
    site.restart()
    assert site.code(want) == "grant-replayed"


def test_a_revoked_one_is_called_so_until_another_comes(site: Site) -> None:
    want = site.granted()
    site.judge(want)
    revoked = replace(want, grants={}, revision=2, revoked=(facts_of(want.grants[A]).serial,))
    assert site.code(revoked) == "grant-revoked"
    site.admission.asked([A], {}, reached=False)
    assert site.code(revoked) == "grant-revoked"
    site.admission.save()
    site.restart()
    assert site.code(revoked) == "grant-revoked", "also after a restart"
    site.admission.asked([A], {A: "cannot sign: the grant was revoked: because"})
    refusal = site.judge(revoked).refused[A]
    assert (refusal.code, refusal.message) == ("grant-revoked", "cannot sign: the grant was revoked: because")
    again = site.granted(replace(revoked, revision=3), sequence=9)
    assert site.code(again) == ""
    assert site.judge(replace(again, grants={}, revision=4)).refused == {}


def test_the_end_of_an_older_one_does_not_touch_a_later_one(site: Site) -> None:
    older = site.granted(sequence=5)
    site.judge(older)
    assert site.code(site.granted(sequence=9)) == ""
    for revision in (3, 4):
        backup = replace(older, revision=revision, revoked=(facts_of(older.grants[A]).serial,))
        assert site.judge(backup).refused == {}
    site.admission.save()
    site.restart()
    assert site.judge(replace(backup, revision=5)).refused == {}


def test_the_end_of_another_attachment_s_grant_raises_no_number_here(site: Site) -> None:
    other = replace(WANT, attachments=(replace(WANT.attachments[0], id=AttachmentId(A[:-1] + "2")),))
    foreign = signed(other, {other.attachments[0].id: site.admission.requests([A])[A]}, sequence=1000, now=START)
    (der,) = foreign.values()
    assert site.code(replace(with_grants(WANT, {A: der}), revoked=(facts_of(der).serial,))) == "grant-revoked"
    assert site.code(site.granted(sequence=6)) == ""


def test_neither_an_outage_nor_an_old_document_takes_a_valid_one(site: Site) -> None:
    want = site.granted()
    site.judge(want)
    site.admission.save()
    site.restart()
    for document in (want, replace(want, grants={}), replace(want, grants={}, revision=0)):
        assert site.judge(document).refused == {}


def test_one_that_the_service_has_forgotten_is_asked_for_while_it_serves(site: Site) -> None:
    want = site.granted()
    site.judge(want)
    verdict = site.judge(replace(want, grants={}, revision=2))
    assert verdict.refused == {}
    assert verdict.asking == (A,), "else the service could not revoke it"


def test_it_ends_at_its_time_without_any_word(site: Site) -> None:
    want = site.granted()
    verdict = site.judge(want)
    site.now = verdict.due
    assert site.now <= START + WEEK
    renewal = site.judge(want)
    assert renewal.asking == (A,)
    assert renewal.refused == {}
    site.admission.asked([A], {})
    site.now = START + WEEK + datetime.timedelta(seconds=2)
    assert site.code(want) == "grant-expired"


def test_a_renewal_takes_its_place_without_a_gap(site: Site) -> None:
    want = site.granted()
    site.judge(want)
    site.now = START + WEEK * 0.7
    assert site.judge(want).asking == (A,)
    renewed = site.granted(sequence=6)
    verdict = site.judge(renewed)
    assert verdict.refused == {}
    assert verdict.asking == ()
    site.now = START + WEEK * 1.2
    assert site.judge(renewed).refused == {}
    assert len(list((site.directory / "keys").iterdir())) == 1, "the old one's key is gone"


def test_a_clock_that_is_behind_waits_and_says_so(site: Site) -> None:
    want = site.granted()
    site.now = START - datetime.timedelta(hours=1)
    verdict = site.judge(want)
    assert verdict.refused[A].code == "grant-not-yet-valid"
    assert "NTP" in verdict.refused[A].message
    site.now = START
    assert site.judge(want).refused == {}


def test_a_clock_that_jumps_back_while_serving_is_noticed(site: Site) -> None:
    want = site.granted()
    assert site.judge(want).refused == {}
    site.now = START - datetime.timedelta(days=1)
    assert site.code(want) == "grant-not-yet-valid"
    site.now = START + datetime.timedelta(hours=1)
    assert site.code(want) == ""


@pytest.mark.parametrize("away", [WEEK * 1.1, -datetime.timedelta(hours=1)])
def test_a_refusal_that_lasts_is_the_same_refusal(site: Site, away: datetime.timedelta) -> None:
    """Each new one is a notice and a report: its sentence must not tell the time."""
    want = site.granted()
    site.judge(want)
    site.now = START + away
    said = set()
    for _ in range(5):
        said.add(site.judge(want).refused[A])
        site.admission.asked([A], {}, reached=False)
        site.now += datetime.timedelta(seconds=3)
    assert len(said) == 1


def test_an_answer_stands_until_there_is_another(site: Site) -> None:
    """Neither a document about something else nor a service that is away makes a barred attachment look as if its
    grant were on its way."""
    want = with_grants(WANT, {})
    site.judge(want)
    site.admission.asked([A], {A: "cannot sign: barred"})
    barred = site.judge(want).refused[A]
    assert not barred.waiting
    later = site.judge(replace(want, revision=2))
    assert later.asking == (A,)
    assert later.refused[A] == barred
    site.admission.asked([A], {}, reached=False)
    assert site.judge(replace(want, revision=3)).refused[A] == barred
    site.admission.asked([A], {})
    assert site.judge(replace(want, revision=4)).refused[A].waiting, "it is signed, and on its way"


def test_asking_again_takes_longer_each_time_and_a_new_document_asks_at_once(site: Site) -> None:
    want = with_grants(WANT, {})
    pauses = []
    for _ in range(12):
        verdict = site.judge(want)
        assert verdict.asking == (A,)
        site.admission.asked([A], {})
        again = site.judge(want)
        assert again.asking == ()
        pauses.append((again.due - site.now).total_seconds())
        site.now = again.due
    assert pauses[:4] == [2, 4, 8, 16]
    assert pauses[-1] == 300
    site.admission.asked([A], {A: "cannot sign: barred"})
    assert site.judge(want).refused[A].message == "cannot sign: barred"
    assert not site.judge(want).refused[A].waiting
    assert site.judge(replace(want, revision=2)).asking == (A,)


def test_a_revoked_host_presents_nothing_until_it_has_enrolled_again(site: Site) -> None:
    site.certificate = "01"
    site.restart()
    want = site.granted()
    assert site.code(want) == ""
    site.admission.revoke()
    assert site.code(want) == "host-revoked"
    assert site.judge(want).asking == ()
    site.restart()
    assert site.code(want) == "host-revoked", "also after a restart"
    site.certificate = "02"
    site.restart()
    assert site.code(want) in ("", "grant-missing")


def test_a_revoked_host_stays_so_though_its_certificate_was_renewed_since_it_started(site: Site) -> None:
    site.certificate = "01"
    site.restart()
    want = site.granted()
    assert site.code(want) == ""
    site.certificate = "02"
    site.admission.renewed("02")
    assert site.code(want) == "", "a renewal disturbs nothing"
    site.admission.revoke()
    site.restart()
    assert site.code(want) == "host-revoked"


def test_a_renewal_that_was_under_way_does_not_lift_a_revocation_and_an_enrolment_does(site: Site) -> None:
    want = site.granted()
    assert site.admission.revoke()
    assert not site.admission.revoke(), "no news"
    site.admission.renewed("02")
    assert site.code(want) == "host-revoked"
    site.certificate = "02"
    site.restart()
    assert site.code(want) == "host-revoked"
    site.admission.enrolled("03")
    assert site.code(want) == ""


@pytest.mark.parametrize("harm", ["ledger", "keys", "all"])
def test_a_lost_ledger_costs_a_new_grant_and_no_more(site: Site, harm: str) -> None:
    want = site.granted()
    site.judge(want)
    site.admission.save()
    if harm in ("ledger", "all"):
        (site.directory / "ledger.json").write_text("{no json")
    if harm in ("keys", "all"):
        for key in (site.directory / "keys").iterdir():
            key.write_text("no key")
    site.restart()
    verdict = site.judge(want)
    if harm == "ledger":
        assert verdict.refused == {}
    else:
        assert verdict.refused[A].code == "grant-foreign-key"
        assert verdict.asking == (A,)
        assert site.judge(site.granted(sequence=6)).refused == {}


def test_a_directory_that_cannot_be_written_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "agent").write_text("a file where the directory should be")
    with pytest.raises(NotADirectoryError):
        (tmp_path / "agent" / "x").read_text()
    site = Site(tmp_path / "agent")
    assert site.judge(site.granted()).refused == {}
    assert "cannot keep" in caplog.text


def test_new_roots_that_cannot_be_kept_are_believed_all_the_same(
    site: Site, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Else an agent on a full disk would not come up after the authority's root was rotated."""

    def full(_: tuple[bytes, ...]) -> None:
        raise HostFailure("cannot write roots.pem: No space left on device")

    old = keep.init(tmp_path / "ca", now=START, passphrase=b"x")
    new = keep.rotate_root(tmp_path / "ca", now=START, passphrase=b"x")
    site.admission = Admission(H, Trust(old.roots), Ledger(site.directory), lambda: site.now)
    site.admission.on_roots(full)
    requests = site.admission.requests([A])
    grants = signed(WANT, requests, sequence=5, now=START, by=new)
    assert site.judge(replace(WANT, grants=grants, authorities=new.authorities)).refused == {}
    assert "No space left" in caplog.text


def test_the_directory_is_for_root_alone_and_keeps_nothing_half_written(site: Site) -> None:
    want = site.granted()
    site.judge(want)
    site.admission.save()
    assert site.directory.stat().st_mode & 0o777 == 0o700
    assert (site.directory / "keys").stat().st_mode & 0o777 == 0o700
    for name in (f"{A}-0123.pem.part", f"{A}-4567.pem"):
        (site.directory / "keys" / name).write_bytes(b"half a key")
    Ledger(site.directory, reading=True)
    assert len(list((site.directory / "keys").iterdir())) == 3, "who looks on changes nothing"
    site.restart()
    assert len(list((site.directory / "keys").iterdir())) == 1
    assert site.judge(want).refused == {}


def test_what_left_leaves_no_key_and_its_number_stays(site: Site) -> None:
    want = site.granted()
    site.judge(want)
    site.judge(replace(want, attachments=(), grants={}))
    assert list((site.directory / "keys").iterdir()) == []
    assert site.code(want) == "grant-foreign-key"
    entry = Ledger(site.directory)
    assert entry.entries == {}, "not saved yet"
    site.admission.save()
    assert Ledger(site.directory).entry(A).floor == 5


def test_an_older_document_is_no_reason_to_forget_a_key(site: Site) -> None:
    """A cycle that began by the document before, or an agent that starts by the one that it remembers."""
    before = replace(WANT, attachments=(), grants={})
    site.judge(with_grants(WANT, {}))
    new = site.granted()
    site.admission.judge(before, current=False)
    assert site.judge(new).refused == {}
    site.admission.save()
    site.restart()
    site.admission.judge(before, current=False)
    assert site.judge(new).refused == {}


def test_numbers_are_not_kept_for_ever(site: Site) -> None:
    want = site.granted()
    site.judge(want)
    empty = replace(want, attachments=(), grants={})
    site.judge(empty)
    site.now += datetime.timedelta(days=31)
    site.judge(replace(empty, revision=2))
    site.admission.save()
    assert Ledger(site.directory).entries == {}


def test_what_nothing_is_due_for_costs_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    want = site.granted()
    first = site.judge(want)

    def never(*_: object) -> None:
        raise AssertionError("verified again")

    monkeypatch.setattr(Trust, "verify_grant", never)
    assert site.judge(want) == first


def test_terms_that_cannot_be_kept_are_refused(site: Site) -> None:
    from tests.fakes.authority import grant_for

    requests = site.admission.requests([A])
    from isthmus.pki.request import read_request

    terms: list[Callable[[], dict[str, object]]] = [
        lambda: {"qos": {"write": 1}},
        lambda: {"id_map": ("squash",)},
        lambda: {"sub_path": "x"},
    ]
    for term in terms:
        grant = replace(grant_for(WANT, WANT.attachments[0], 5), **term())  # type: ignore[arg-type]
        der = authority().sign_grant(grant, read_request(requests[A]), now=START, lifetime=WEEK)
        assert site.code(with_grants(WANT, {A: der})) == "grant-mismatch"
