"""NFS gateways and a guest that means harm."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from isthmus.host import mounts
from isthmus.model.layout import Layout
from tests.daemon.gateway_lab import Lab, make_export, make_lab
from tests.daemon.nfs_wire import NfsClient, NfsError, opaque, u32

# ruff: noqa: ASYNC240 - a test has its event loop to itself, and may wait for a file


@pytest.fixture
async def lab(layout: Layout) -> AsyncIterator[Lab]:
    async with make_lab(layout) as made:
        yield made


@pytest.mark.parametrize("filesystem", ["btrfs", "ext4"])
async def test_edited_handles_reach_nothing_of_others(lab: Lab, filesystem: str) -> None:
    """Two shares of two tenants with files of the same numbers: no edit of one's handles may show the other's bytes,
    nor those of the host."""
    ours, theirs = lab.shares.image(filesystem), lab.shares.image(filesystem)
    Path(ours, "file").write_bytes(b"ours")
    Path(theirs, "file").write_bytes(b"theirs")
    await lab.gateway.start(lab.guest, [make_export(ours)])
    wire = lab.client()
    handle = wire.lookup("/share/file")
    assert wire.read(handle) == b"ours"

    answers = 0
    for edited in _edits(handle) + _edits(wire.lookup("/share")) + _edits(wire.lookup("/")):
        for attempt in (_read, _list):
            try:
                shown = attempt(wire, edited)
            except NfsError:
                continue
            answers += 1
            assert b"theirs" not in shown
            assert not {b"usr", b"proc", b"ganesha.conf", b"passwd"} & set(shown.split(b"\n"))
    assert answers, "no edited handle was taken at all: the edits miss their point"
    assert wire.read(handle) == b"ours"


def _read(wire: NfsClient, handle: bytes) -> bytes:
    return wire.read(handle)


def _list(wire: NfsClient, handle: bytes) -> bytes:
    return "\n".join(wire.names(handle)).encode()


def _edits(handle: bytes) -> list[bytes]:
    """Each byte replaced by others; each aligned and unaligned number near its value; the export's number."""
    values = (0, 1, 2, 5, 0xFF)
    edits = [handle[:at] + bytes((value,)) + handle[at + 1 :] for at in range(4, len(handle)) for value in values]
    for at in range(4, len(handle) - 8):
        number = int.from_bytes(handle[at : at + 8], "little")
        near = (number + step for step in (-2, -1, 1, 2))
        edits += [handle[:at] + (n % (1 << 64)).to_bytes(8, "little") + handle[at + 8 :] for n in near]
    edits += [handle[:2] + number.to_bytes(2, "big") + handle[4:] for number in range(4)]
    return edits


async def test_a_guest_that_takes_all_clients_cannot_keep_a_share(lab: Lab) -> None:
    """A server has room for so many clients, and cannot be asked when that is taken. What is withdrawn goes."""
    kept, taken = make_export(lab.shares.quick(), "/kept"), make_export(lab.shares.quick(), "/taken", slot=2)
    await lab.gateway.start(lab.guest, [kept, taken])
    wire = lab.client()
    with pytest.raises(NfsError):
        _take_all_clients(wire)
    assert await lab.gateway.present(lab.guest, [kept]) == {}
    assert await lab.served() == {kept}
    lab.shares.unmount(taken.source)


def _take_all_clients(wire: NfsClient) -> None:
    for number in range(1000):
        wire.owner = b"greedy %d" % number
        wire.open_session()
        wire.session = b""


async def test_garbage_does_not_kill_it(lab: Lab) -> None:
    await lab.gateway.start(lab.guest, [make_export(lab.shares.quick())])
    before = await lab.unit()
    log = lab.layout.gateway_dir(lab.gateway.mode, lab.guest) / "state" / "log"
    said = log.read_text()
    random = Random(2049).randbytes(4096)  # noqa: S311 - the same each time
    compound = u32(0x80000028, 7, 0, 2, 100003, 4, 1, 0, 0, 0, 0)
    for junk in (
        random,
        u32(0x7FFFFFFF) + random,
        u32(0x80000000) * 100,
        u32(0x80000004, 1),
        b"GET / HTTP/1.1\r\n\r\n",
        compound,
        compound + opaque(b"") + u32(1, 0xFFFFFFFF),
        u32(0x80000000 | 44 + 4096) + compound[4:] + random,
    ):
        sock = lab.client().sock
        sock.settimeout(0.2)
        try:
            sock.sendall(junk)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(4096)
        except OSError:  # it hung up, or waits for more: both are its right
            continue
    lab.client().lookup("/share")
    assert await lab.unit() == before
    assert log.read_text() == said, "a guest can fill the host's /run with lines"


async def test_a_server_sees_only_its_exports(lab: Lab) -> None:
    presented, foreign = make_export(lab.shares.image("ext4")), lab.shares.image("ext4")
    await lab.gateway.start(lab.guest, [presented])
    await lab.gateway.present(lab.guest, [presented, late := make_export(lab.shares.quick(), "/late", slot=2)])
    unit = await lab.unit()
    inside = mounts.mounts_of(unit.pid)
    where = {entry.target: entry.device for entry in mounts.mounts()}
    targets = {lab.layout.export_mount(one.attachment) for one in (presented, late)}
    assert {entry.target for entry in inside if entry.target.startswith("/exports/")} == targets
    assert where[foreign] not in {entry.device for entry in inside}
    root = Path(f"/proc/{unit.pid}/root")
    assert {path.name for path in (root / "gateway").iterdir()} == {"ganesha.conf", "exports.conf", "state"}
    assert not [
        path for path in ("home", "boot", "mnt", "sys", "run/netns", str(lab.layout.run)[1:]) if (root / path).exists()
    ]
    own = {"/", "/proc"}
    writable = {e.target for e in inside if "ro" not in e.options and not e.target.startswith("/dev")} - own
    assert writable == {"/gateway/state"} | targets
