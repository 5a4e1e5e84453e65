"""Who asks: local users, and callers that the machine vouches for."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isthmus.model.caller import Way
from isthmus.model.errors import Forbidden, Invalid, Unauthenticated, Unavailable
from isthmus.service.identity.base import Presented
from isthmus.service.identity.kernel import OpenVoucher, SocketVoucher
from isthmus.service.identity.local import LocalVoucher, UsersFile, make_user, read_users

ALICE = make_user("alice", "correct horse", "acme", ["member"], rounds=4)
OPS = make_user("ops", "battery staple", "@system", ["admin"], rounds=4)


def basic(name: str, password: str) -> Presented:
    text = base64.b64encode(f"{name}:{password}".encode()).decode()
    return Presented({"authorization": f"Basic {text}"}, "192.0.2.1")


@pytest.fixture
def users(tmp_path: Path) -> Path:
    UsersFile(tmp_path / "users").write({"alice": ALICE, "ops": OPS})
    return tmp_path / "users"


def test_the_file_is_for_its_owner_alone(users: Path) -> None:
    assert users.stat().st_mode & 0o777 == 0o600


@pytest.fixture
async def voucher(users: Path) -> AsyncIterator[LocalVoucher]:
    made = LocalVoucher(users)
    yield made
    await made.close()


async def test_a_user_is_who_the_file_says(voucher: LocalVoucher, users: Path) -> None:
    alice = await voucher.caller(basic("alice", "correct horse"))
    assert (alice.way, alice.user, alice.project, alice.system, alice.address) == (
        Way.LOCAL,
        "alice",
        "acme",
        False,
        "192.0.2.1",
    )
    assert alice.roles == {"reader", "member"}
    ops = await voucher.caller(basic("ops", "battery staple"))
    assert (ops.project, ops.system) == (None, True)
    assert ops.roles == {"reader", "member", "manager", "admin"}


@pytest.mark.parametrize(
    "presented",
    [
        basic("alice", "correct horsf"),
        basic("alice", ""),
        basic("nobody", "correct horse"),
        basic("alice", "correct horse" + "x" * 100),
        basic("alice", "correct horse\0"),
        Presented({"authorization": "Basic !!!"}),
        Presented({"authorization": "Bearer abc"}),
        Presented({"authorization": "Basic"}),
    ],
)
async def test_others_are_refused(voucher: LocalVoucher, presented: Presented) -> None:
    with pytest.raises(Unauthenticated):
        await voucher.caller(presented)


async def test_nobody_is_nobody(voucher: LocalVoucher) -> None:
    assert (await voucher.caller(Presented())).way is Way.NOBODY


async def test_a_changed_password_counts_at_once_and_the_old_one_no_more(voucher: LocalVoucher, users: Path) -> None:
    await voucher.caller(basic("alice", "correct horse"))
    UsersFile(users).write({"alice": make_user("alice", "another horse", "acme", ["reader"], rounds=4)})
    with pytest.raises(Unauthenticated):
        await voucher.caller(basic("alice", "correct horse"))
    assert (await voucher.caller(basic("alice", "another horse"))).roles == {"reader"}
    with pytest.raises(Unauthenticated):
        await voucher.caller(basic("ops", "battery staple"))


async def test_half_a_file_lets_nobody_in(voucher: LocalVoucher, users: Path) -> None:
    users.write_text(ALICE.line() + "\nbroken line\n")  # noqa: ASYNC240
    with pytest.raises(Unavailable, match="line 2"):
        await voucher.caller(basic("alice", "correct horse"))
    users.unlink()  # noqa: ASYNC240
    with pytest.raises(Unavailable, match="isthmus user add"):
        await voucher.caller(basic("alice", "correct horse"))


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("alice:x:acme", "NAME:HASH:PROJECT:ROLES"),
        ("alice:plain:acme:member", "bcrypt"),
        (ALICE.line().replace(":member", ":king"), "king"),
        (ALICE.line().replace(":member", ":"), "role"),
        (ALICE.line().replace("alice", "Al ice"), "name"),
        (ALICE.line().replace("acme", "a/b"), "project"),
        (f"{ALICE.line()}\n{ALICE.line()}", "twice"),
    ],
)
def test_a_line_that_is_wrong_is_named(line: str, cause: str) -> None:
    with pytest.raises(Invalid, match=cause):
        read_users(f"# users\n\n{line}\n")


def test_a_hash_is_not_shown() -> None:
    assert "$2b$" not in repr(ALICE)
    with pytest.raises(Invalid, match="8 to 72"):
        make_user("bob", "short", "acme", ["member"])


async def test_keystone_s_clients_can_use_it(voucher: LocalVoucher) -> None:
    """keystoneauth1's ``http_basic``, as OpenStack's tools have it."""
    from isthmus.cli.credentials import headers

    found = headers({"OS_AUTH_TYPE": "http_basic", "OS_USERNAME": "alice", "OS_PASSWORD": "correct horse"})
    lower = {name.lower(): value for name, value in found.items()}
    assert (await voucher.caller(Presented(lower))).user == "alice"


async def test_the_socket_is_root_s() -> None:
    caller = await SocketVoucher().caller(Presented({"authorization": "Basic x"}))
    assert (caller.way, caller.user, caller.system) == (Way.SOCKET, "root", True)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:8080"])
async def test_this_machine_is_the_operator(host: str) -> None:
    assert (await OpenVoucher().caller(Presented({"host": host}))).system


@pytest.mark.parametrize("host", ["", "evil.example.org", "127.0.0.1.evil.example.org", "[::1", "localhost@evil"])
async def test_a_name_that_was_bent_to_us_is_not(host: str) -> None:
    if host == "localhost@evil":
        host = "evil@evil.example.org"
    with pytest.raises(Forbidden, match="localhost"):
        await OpenVoucher().caller(Presented({"host": host}))
