"""The authority's directory: who writes it at the same time or is cut short, and when older ones may go."""

from __future__ import annotations

import datetime
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from isthmus.model.errors import Conflict, Exhausted, Unavailable
from isthmus.pki import keep, profile
from isthmus.pki.authority import Authority
from isthmus.pki.request import new_key
from isthmus.pki.trust import Trust
from tests.unit.test_pki import GRANT

NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
WEEK = datetime.timedelta(days=7)


def rotated(directory: Path, *, days: int = 1) -> Authority:
    return keep.rotate_issuer(directory, now=NOW + days * DAY, passphrase=b"x")


def rotate_root_cut(directory: Path, writes: int) -> None:
    """The program is killed after so many writes."""
    write, left = keep._write, writes

    def cut(path: Path, body: bytes) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        write(path, body)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keep, "_write", cut)
        with pytest.raises(KeyboardInterrupt):
            keep.rotate_root(directory, now=NOW + DAY, passphrase=b"x")


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("second", range(4))
def test_two_rotations_cut_short_lose_no_root_key(tmp_path: Path, first: int, second: int) -> None:
    believed = Trust(keep.init(tmp_path, now=NOW, passphrase=b"x").roots)
    for writes in (first, second):
        rotate_root_cut(tmp_path, writes)
    made = rotated(tmp_path, days=2)
    assert made.issuer.issuer == made.root_certificates[0].subject
    believed.learn(made.authorities, NOW + 2 * DAY)
    der = made.sign_grant(GRANT, new_key().public_key(), now=NOW + 2 * DAY, lifetime=WEEK)
    assert believed.verify_grant(der, NOW + 2 * DAY).grant == GRANT
    assert made.roots[0] in believed.roots
    assert keep.rotate_root(tmp_path, now=NOW + 3 * DAY, passphrase=b"x").root_certificates[1:]


def test_whoever_trusts_the_first_root_follows_rotations_that_were_cut_short(tmp_path: Path) -> None:
    believed = Trust(keep.init(tmp_path, now=NOW, passphrase=b"x").roots)
    for writes in range(4):
        rotate_root_cut(tmp_path, writes)
        believed.learn(Authority.load(tmp_path).authorities, NOW + DAY)
    last = keep.rotate_root(tmp_path, now=NOW + DAY, passphrase=b"x")
    believed.learn(last.authorities, NOW + DAY)
    assert last.roots[0] in believed.roots


def test_rotations_at_the_same_time_come_one_after_the_other(tmp_path: Path) -> None:
    many = 6
    keep.init(tmp_path, now=NOW, passphrase=b"x")
    together = threading.Barrier(many)

    def rotate(_: int) -> Authority:
        together.wait(10)
        return rotated(tmp_path)

    with ThreadPoolExecutor(many) as pool:
        made = list(pool.map(rotate, range(many)))
    last = Authority.load(tmp_path)
    assert {one.issuer for one in made} <= set(last.known)
    assert len(last.known) == 2 + many


def test_an_authority_is_made_by_one_of_many(tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def make(_: int) -> bytes | str:
        together.wait(10)
        try:
            return keep.init(tmp_path / "ca", now=NOW, discard=True).roots[0]
        except Conflict as error:
            return error.code

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(make, range(4)))
    assert made.count("authority-exists") == 3
    assert Authority.load(tmp_path / "ca").roots[0] in made


@pytest.mark.parametrize("act", [keep.rotate_issuer, keep.rotate_root, keep.retire])
def test_where_there_is_no_authority_none_is_begun(tmp_path: Path, act: object) -> None:
    assert callable(act)
    with pytest.raises(Unavailable, match="isthmus ca init"):
        act(tmp_path / "ca") if act is keep.retire else act(tmp_path / "ca", now=NOW)
    assert not (tmp_path / "ca").exists()


def test_there_are_never_more_than_agents_read(tmp_path: Path) -> None:
    keep.init(tmp_path, now=NOW, passphrase=b"x")
    for _ in range(profile.MOST_AUTHORITIES - 2):
        made = rotated(tmp_path)
    believed = Trust(made.roots)
    believed.learn(made.authorities, NOW + DAY)
    with pytest.raises(Exhausted, match="isthmus ca retire"):
        rotated(tmp_path)
    assert Authority.load(tmp_path).known == made.known
    keep.retire(tmp_path)
    assert len(rotated(tmp_path, days=2).known) == 3


def test_older_issuers_may_go_when_all_that_they_signed_has_ended(tmp_path: Path) -> None:
    first = keep.init(tmp_path, now=NOW, passphrase=b"x")
    assert keep.older_issuers(first) == ()
    assert keep.retirable(first, WEEK) == NOW
    second = rotated(tmp_path, days=10)
    assert keep.older_issuers(second) == (first.issuer,)
    assert keep.retirable(second, WEEK) == NOW + 10 * DAY + profile.HOST_LIFE
    assert keep.retirable(second, 200 * DAY) == NOW + 210 * DAY
    assert keep.retirable(second, 2000 * DAY) == first.issuer.not_valid_after_utc
    keep.retire(tmp_path)
    assert keep.older_issuers(Authority.load(tmp_path)) == ()


def test_a_retired_issuer_does_not_come_back(tmp_path: Path) -> None:
    first = keep.init(tmp_path, now=NOW, passphrase=b"x")
    second = rotated(tmp_path)
    keep.retire(tmp_path)
    last = Authority.load(tmp_path)
    believed = Trust(first.roots)
    for one in (first, second, last):
        believed.learn(one.authorities, NOW + DAY)
    before = set(believed._issuers)
    for again in (first, second):
        believed.learn(again.authorities, NOW + DAY)
        assert set(believed._issuers) == before
    assert len(before) == 1
