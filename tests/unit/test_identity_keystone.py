"""What a real Keystone cannot be made to do on demand: wrong answers, silence, floods."""

from __future__ import annotations

import asyncio
import datetime
import gc
import json
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isthmus.model.errors import Invalid, Unauthenticated, Unavailable
from isthmus.service.identity import keystone as identity
from isthmus.service.identity.base import Presented
from isthmus.service.identity.keystone import RETRY, KeystoneVoucher, connect
from tests.fakes.keystone import PASSWORD, FakeKeystone, keystone_at

CACHE = 60.0


class Clock:
    def __init__(self) -> None:
        self.now = datetime.datetime.now(datetime.UTC)

    def __call__(self) -> datetime.datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += datetime.timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keystone(tmp_path: Path) -> Iterator[FakeKeystone]:
    with keystone_at(tmp_path) as made:
        yield made


@pytest.fixture
async def voucher(keystone: FakeKeystone, clock: Clock) -> AsyncIterator[KeystoneVoucher]:
    made = KeystoneVoucher(replace(keystone.config, cache=CACHE), clock)
    yield made
    await made.close()


def bearing(token: str) -> Presented:
    return Presented({"x-auth-token": token}, "192.0.2.1")


async def test_what_it_says_is_believed_for_a_while(
    keystone: FakeKeystone, voucher: KeystoneVoucher, clock: Clock
) -> None:
    token = keystone.token("t1")
    for _ in range(3):
        assert (await voucher.caller(bearing(token))).name == "alice"
    assert keystone.asked == ["t1"]
    clock.pass_(CACHE)
    await voucher.caller(bearing(token))
    assert keystone.asked == ["t1", "t1"]
    del keystone.tokens[token]
    clock.pass_(CACHE)
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await voucher.caller(bearing(token))
    assert len(keystone.asked) == 3, "a refusal is remembered too"
    clock.pass_(CACHE)
    keystone.token("t1")
    assert (await voucher.caller(bearing(token))).name == "alice"


async def test_without_a_cache_it_is_asked_each_time(keystone: FakeKeystone, clock: Clock) -> None:
    voucher = KeystoneVoucher(replace(keystone.config, cache=0), clock)
    token = keystone.token("t1")
    await voucher.caller(bearing(token))
    del keystone.tokens[token]
    with pytest.raises(Unauthenticated):
        await voucher.caller(bearing(token))
    await voucher.close()


@pytest.mark.parametrize("suffix", ["", "/", "/v3", "/v3/"])
async def test_its_address_may_name_the_version(keystone: FakeKeystone, clock: Clock, suffix: str) -> None:
    url = keystone.config.url.removesuffix("/v3") + suffix
    voucher = KeystoneVoucher(replace(keystone.config, url=url), clock)
    assert (await voucher.caller(bearing(keystone.token("t1")))).name == "alice"
    assert voucher.challenge == f'Keystone uri="{keystone.config.url}"'
    await voucher.close()


@pytest.mark.parametrize(
    ("said", "project", "system"),
    [
        ({}, "ac" * 16, False),
        ({"project": None, "domain": {"id": "default"}}, None, False),
        ({"project": None, "system": {"all": True}}, None, True),
        ({"project": None, "system": {"all": "no"}}, None, False),
        ({"project": None, "system": None}, None, False),
    ],
)
async def test_scopes(
    keystone: FakeKeystone, voucher: KeystoneVoucher, said: dict[str, Any], project: str | None, *, system: bool
) -> None:
    caller = await voucher.caller(bearing(keystone.token("t1", **said)))
    assert (caller.project, caller.system) == (project, system)


@pytest.mark.parametrize(
    "answer",
    [
        (500, b"{}"),
        (200, b"not JSON"),
        (200, b"[]"),
        (200, b'{"token": []}'),
        (200, b'{"token": {}}'),
        (200, json.dumps({"token": {"expires_at": "2126-01-01T00:00:00", "user": {"id": "x"}}}).encode()),
        (200, json.dumps({"token": {"expires_at": "2126-01-01T00:00:00Z", "user": "x"}}).encode()),
        (200, json.dumps({"token": {"expires_at": 7, "user": {"id": "x"}}}).encode()),
        (
            200,
            json.dumps(
                {"token": {"expires_at": "2126-01-01T00:00:00Z", "user": {"id": "x"}, "project": {"id": "../x"}}}
            ).encode(),
        ),
    ],
)
async def test_an_answer_that_makes_no_sense_lets_nobody_in_and_hurts_no_other(
    keystone: FakeKeystone, voucher: KeystoneVoucher, answer: tuple[int, bytes]
) -> None:
    keystone.answers["odd"] = answer
    with pytest.raises(Unavailable) as away:
        await voucher.caller(bearing("odd"))
    assert away.value.code == "keystone-unavailable"
    assert (await voucher.caller(bearing(keystone.token("t1")))).name == "alice"


async def test_a_service_user_that_may_not_ask_is_no_fault_of_the_token(
    keystone: FakeKeystone, voucher: KeystoneVoucher, clock: Clock
) -> None:
    known, other = keystone.token("t1"), keystone.token("t2")
    await voucher.caller(bearing(known))
    keystone.may = False
    clock.pass_(CACHE)
    assert (await voucher.caller(bearing(known))).name == "alice"
    with pytest.raises(Unavailable, match="give it the role service or admin on project service"):
        await voucher.caller(bearing(other))


async def test_a_wrong_password_of_the_service_is_no_fault_of_the_token(keystone: FakeKeystone, clock: Clock) -> None:
    keystone.config.password_file.write_text("wrong\n")
    voucher = KeystoneVoucher(keystone.config, clock)
    with pytest.raises(Unavailable, match="Unauthorized"):
        await voucher.caller(bearing(keystone.token("t1")))
    await voucher.close()


async def test_while_it_is_silent_nobody_waits_but_the_first(
    keystone: FakeKeystone, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "SECONDS", 0.3)
    voucher = KeystoneVoucher(replace(keystone.config, cache=CACHE), clock)
    known = keystone.token("known")
    await voucher.caller(bearing(known))
    clock.pass_(CACHE)
    keystone.open.clear()
    keystone.asked.clear()
    assert (await voucher.caller(bearing(known))).name == "alice"
    assert keystone.asked == [known]
    for token in (keystone.token("t1"), keystone.token("t2")):
        with pytest.raises(Unavailable, match="Keystone does not answer"):
            await voucher.caller(bearing(token))
    assert (await voucher.caller(bearing(known))).name == "alice"
    assert keystone.asked == [known], "the others were told at once"

    clock.pass_(RETRY.total_seconds())
    keystone.open.set()
    assert (await voucher.caller(bearing("t1"))).name == "alice"
    keystone.open.clear()
    clock.pass_(3600)
    with pytest.raises(Unauthenticated):
        await voucher.caller(bearing(known))
    keystone.open.set()
    clock.pass_(-3600)
    assert (await voucher.caller(bearing("t2"))).name == "alice", "a clock that was put back shuts nobody out"
    await voucher.close()


async def test_those_who_ask_at_once_share_one_answer(keystone: FakeKeystone, voucher: KeystoneVoucher) -> None:
    token = keystone.token("t1")
    keystone.open.clear()
    waiting = [asyncio.create_task(voucher.caller(bearing(token))) for _ in range(20)]
    assert await asyncio.to_thread(keystone.reached.wait, 20)
    waiting[0].cancel()
    keystone.open.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert len(set(done[1:])) == 1
    assert keystone.asked == ["t1"]


async def test_a_failure_that_nobody_waits_for_any_more_is_no_defect(
    keystone: FakeKeystone, voucher: KeystoneVoucher
) -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    keystone.answers["t1"] = (500, b"")
    keystone.open.clear()
    waiting = asyncio.create_task(voucher.caller(bearing("t1")))
    assert await asyncio.to_thread(keystone.reached.wait, 20)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    (asking,) = voucher._asking.values()
    keystone.open.set()
    await asyncio.wait([asking])
    del asking, waiting
    gc.collect()
    await asyncio.sleep(0)
    assert told == []


async def test_a_flood_of_wrong_tokens_drives_no_good_one_out(
    keystone: FakeKeystone, voucher: KeystoneVoucher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "REMEMBERED", 3)
    await voucher.caller(bearing(keystone.token("good")))
    for number in range(10):
        with pytest.raises(Unauthenticated):
            await voucher.caller(bearing(f"wrong-{number}"))
    keystone.asked.clear()
    await voucher.caller(bearing("good"))
    assert keystone.asked == []
    for number in range(3):
        await voucher.caller(bearing(keystone.token(f"t{number}")))
    await voucher.caller(bearing("good"))
    assert keystone.asked == ["t0", "t1", "t2", "good"], "no more than three are remembered"


@pytest.mark.parametrize("token", ["", " ", "a b", "a\tb", "x" * 8193, "\u00e9", "a\n"])
async def test_what_cannot_be_a_token_is_not_asked_about(
    keystone: FakeKeystone, voucher: KeystoneVoucher, token: str
) -> None:
    with pytest.raises(Unauthenticated):
        await voucher.caller(bearing(token))
    assert keystone.asked == []


async def test_no_password_and_no_token_is_told(
    keystone: FakeKeystone, voucher: KeystoneVoucher, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = keystone.token("istest-token-of-alice")
    caller = await voucher.caller(bearing(token))
    with pytest.raises(Unauthenticated) as refused:
        await voucher.caller(bearing("istest-token-of-nobody"))
    keystone.answers["istest-token-odd"] = (200, b"[]")
    with pytest.raises(Unavailable) as away:
        await voucher.caller(bearing("istest-token-odd"))
    told = f"{caplog.text} {voucher!r} {vars(voucher)} {caller} {refused.value!r} {away.value!r}"
    for secret in (PASSWORD, "istest-token", "istest-own-token"):
        assert secret not in told


def test_what_it_needs_is_asked_for_at_once(keystone: FakeKeystone, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"keystone\.url is not set"):
        connect(replace(keystone.config, url=""))
    with pytest.raises(Invalid, match="cannot read the password of the service's user"):
        connect(replace(keystone.config, password_file=tmp_path / "none"))
