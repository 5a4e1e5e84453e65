"""NFS gateways: real servers in real namespaces, used over the wire as a guest would."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.gateway.ganesha import GaneshaGateway
from isthmus.gateway.ganesha_conf import filesystem_id
from isthmus.host import mounts
from isthmus.host.child import ChildSupervisor
from isthmus.model.attachment import Access
from isthmus.model.errors import HostFailure
from isthmus.model.layout import Layout
from isthmus.model.names import GuestId
from tests.daemon.gateway_lab import IPV6, Lab, make_export, make_lab
from tests.daemon.nfs_wire import (
    NFS4ERR_ACCESS,
    NFS4ERR_NOENT,
    NFS4ERR_PERM,
    NFS4ERR_ROFS,
    NFS4ERR_STALE,
    NfsError,
)
from tests.gateway_contract import GatewayContract

# ruff: noqa: ASYNC240 - a test has its event loop to itself, and may wait for a file


@pytest.fixture
async def lab(layout: Layout) -> AsyncIterator[Lab]:
    async with make_lab(layout) as made:
        yield made


class TestGanesha(GatewayContract):
    """See the contract."""

    @pytest.fixture
    def gateway(self, lab: Lab) -> GaneshaGateway:
        return lab.gateway

    @pytest.fixture
    def guest(self, lab: Lab) -> GuestId:
        return lab.guest

    @pytest.fixture
    def make_source(self, lab: Lab) -> Callable[[], str]:
        return lab.shares.quick


@pytest.mark.parametrize("filesystem", ["btrfs", "xfs", "ext4"])
async def test_a_guest_reads_and_writes(lab: Lab, filesystem: str) -> None:
    source = lab.shares.image(filesystem)
    Path(source, "from-host").write_bytes(b"made on the host")
    await lab.gateway.start(lab.guest, [make_export(source, "/data/models")])

    four, six = lab.client(), lab.client(at=IPV6)
    root = four.lookup("/data/models")
    assert four.read(four.lookup("/data/models/from-host")) == b"made on the host"
    four.create_file(root, "from-guest", b"made in the guest")
    assert six.read(six.lookup("/data/models/from-guest")) == b"made in the guest"
    assert Path(source, "from-guest").read_bytes() == b"made in the guest"
    assert four.names(root) >= {"from-host", "from-guest"}
    assert four.names(four.lookup("/")) == {"data"}


async def test_a_guests_users_are_users_and_its_root_is_root(lab: Lab) -> None:
    source = lab.shares.quick()
    await lab.gateway.start(lab.guest, [make_export(source)])
    root, user = lab.client(), lab.client(uid=1000)
    top = root.lookup("/share")
    root.make_directory(top, "home")
    root.change_attributes(root.lookup("/share/home"), owner="1000")
    root.create_file(top, "roots", b"secret")

    user.create_file(user.lookup("/share/home"), "users", b"mine")
    held = Path(source, "home", "users").stat()
    assert (held.st_uid, held.st_gid) == (1000, 1000)
    with pytest.raises(NfsError) as refused:
        user.create_file(user.lookup("/share"), "users", b"not here")
    assert refused.value.status == NFS4ERR_ACCESS
    with pytest.raises(NfsError) as refused:
        user.change_attributes(user.lookup("/share/roots"), mode=0o666)
    assert refused.value.status == NFS4ERR_PERM

    theirs = root.lookup("/share/home/users")
    root.change_attributes(theirs, mode=0o2600)
    root.write(theirs, b"ours")
    assert Path(source, "home", "users").read_bytes() == b"ours"
    assert Path(source, "home", "users").stat().st_mode & 0o7777 == 0o2600
    root.remove(root.lookup("/share/home"), "users")
    assert not Path(source, "home", "users").exists()


async def test_changes_disturb_no_other_export(lab: Lab) -> None:
    kept, others = (
        make_export(lab.shares.quick(), "/kept"),
        [make_export(lab.shares.quick(), f"/other/{n}", slot=n) for n in (2, 3)],
    )
    await lab.gateway.start(lab.guest, [kept])
    wire = lab.client()
    opened = wire.open(wire.lookup("/kept"), "log", create=True)
    for number, exports in enumerate(([kept, *others], [kept, others[1]], [kept], [kept, *others])):
        assert await lab.gateway.present(lab.guest, exports) == {}
        wire.write(opened.handle, b"%d" % number, offset=number, stateid=opened.stateid)
    wire.close(opened)
    assert Path(kept.source, "log").read_bytes() == b"0123"


async def test_what_is_withdrawn_is_stale_and_what_returns_is_alive(lab: Lab) -> None:
    presented = make_export(lab.shares.image("btrfs"))
    await lab.gateway.start(lab.guest, [presented])
    wire = lab.client()
    opened = wire.open(wire.lookup("/share"), "file", create=True)
    wire.write(opened.handle, b"kept", stateid=opened.stateid)

    await lab.gateway.present(lab.guest, [])
    for attempt in (lambda: wire.read(opened.handle), lambda: wire.write(opened.handle, b"lost")):
        with pytest.raises(NfsError) as refused:
            attempt()
        assert refused.value.status == NFS4ERR_STALE
    with pytest.raises(NfsError) as refused:
        wire.lookup("/share")
    assert refused.value.status == NFS4ERR_NOENT
    assert wire.names(wire.lookup("/")) == set()

    assert await lab.gateway.present(lab.guest, [presented]) == {}
    assert wire.read(opened.handle) == b"kept"


async def test_the_host_may_unmount_what_was_withdrawn(lab: Lab) -> None:
    presented = make_export(lab.shares.image("btrfs"))
    await lab.gateway.start(lab.guest, [presented])
    wire = lab.client()
    opened = wire.open(wire.lookup("/share"), "file", create=True)
    wire.write(opened.handle, b"open", stateid=opened.stateid)
    await lab.gateway.present(lab.guest, [])
    lab.shares.unmount(presented.source)
    assert not lab.shares.in_use(presented.source), "the file system is still in use somewhere"


async def test_read_only_is_kept_by_the_kernel_too(lab: Lab) -> None:
    presented = make_export(lab.shares.quick(), access=Access.RO)
    Path(presented.source, "file").write_bytes(b"as it is")
    await lab.gateway.start(lab.guest, [presented])
    wire = lab.client()
    file = wire.lookup("/share/file")
    for attempt in (
        lambda: wire.write(file, b"changed"),
        lambda: wire.create_file(wire.lookup("/share"), "new"),
        lambda: wire.remove(wire.lookup("/share"), "file"),
        lambda: wire.change_attributes(file, mode=0o777),
    ):
        with pytest.raises(NfsError) as refused:
            attempt()
        assert refused.value.status == NFS4ERR_ROFS
    assert wire.read(file) == b"as it is"
    inside = mounts.mounts_of((await lab.unit()).pid)
    target = lab.layout.export_mount(presented.attachment)
    assert [{"ro", "nosuid", "nodev"} <= entry.options for entry in inside if entry.target == target] == [True]


async def test_handles_outlive_a_killed_server(lab: Lab) -> None:
    exports = [
        make_export(lab.shares.image("btrfs"), "/one"),
        make_export(lab.shares.image("ext4"), "/two", slot=2, access=Access.RO),
    ]
    await lab.gateway.start(lab.guest, exports[:1])
    await lab.gateway.present(lab.guest, exports)
    wire = lab.client()
    handle = wire.create_file(wire.lookup("/one"), "file", b"synced")
    other = wire.lookup("/two")

    unit = await lab.unit()
    os.kill(unit.pid, signal.SIGKILL)
    await lab.gateway.start(lab.guest, exports)

    assert (await lab.unit()).started != unit.started
    assert await lab.served() == set(exports)
    again = lab.client()
    assert again.read(handle) == b"synced"
    again.write(handle, b"SYNCED")
    assert again.names(other) == {"lost+found"}


@pytest.mark.parametrize("filesystem", ["btrfs", "ext4"])
async def test_handles_outlive_a_remount_of_the_share(lab: Lab, filesystem: str) -> None:
    presented = make_export(lab.shares.image(filesystem))
    await lab.gateway.start(lab.guest, [presented])
    wire = lab.client()
    handle = wire.create_file(wire.lookup("/share"), "file", b"kept")
    await lab.gateway.present(lab.guest, [])
    lab.shares.unmount(presented.source)
    other = lab.shares.image(filesystem)  # takes the loop device that has become free
    lab.shares.mount(presented.source, filesystem)
    assert await lab.gateway.present(lab.guest, [presented, make_export(other, "/other", slot=2)]) == {}
    assert wire.read(handle) == b"kept"


async def test_a_foreign_exports_file_is_replaced(lab: Lab) -> None:
    presented = make_export(lab.shares.quick())
    await lab.gateway.start(lab.guest, [presented])
    (lab.layout.gateway_dir(lab.gateway.mode, lab.guest) / "exports.conf").write_text("# presents \x00nonsense\n")
    assert await lab.served() == set()
    assert await lab.gateway.present(lab.guest, [presented]) == {}
    assert await lab.served() == {presented}


async def test_another_agent_finds_what_runs(lab: Lab) -> None:
    presented = make_export(lab.shares.quick())
    await lab.gateway.start(lab.guest, [presented])
    before = await lab.unit()
    later = GaneshaGateway(lab.layout, ChildSupervisor(lab.layout))
    assert set((await later.observe())[lab.guest].exports.values()) == {presented}
    await later.start(lab.guest, [presented])
    assert await lab.unit() == before


async def test_two_guests_and_the_host_see_one_truth(lab: Lab) -> None:
    source = lab.shares.image("btrfs")
    second = await lab.another_guest()
    await lab.gateway.start(lab.guest, [make_export(source)])
    await lab.gateway.start(second, [make_export(source)])
    one, two = lab.client(), lab.client(of=second)
    ours, theirs = one.lookup("/share"), two.lookup("/share")
    for number in range(20):
        name = f"file{number}"
        with pytest.raises(NfsError):
            two.lookup_in(theirs, name)
        mine = one.create_file(ours, name, b"first")
        assert two.names(theirs) == {path.name for path in Path(source).iterdir()}
        seen = two.lookup_in(theirs, name)
        before = two.attributes(seen)
        one.write(mine, b"longer than first")
        after = two.attributes(seen)
        assert (before.size, after.size) == (5, 17)
        assert before.change != after.change
        two.write(seen, b"LONGER THAN FIRST")
        assert one.read(mine) == b"LONGER THAN FIRST"
        Path(source, name).rename(Path(source, "renamed"))
        assert (two.names(theirs), one.names(ours)) == ({"renamed"}, {"renamed"})
        Path(source, "renamed").unlink()
        assert one.names(ours) == set()


async def test_what_the_server_refuses_is_told(lab: Lab) -> None:
    good, bad = make_export(lab.shares.quick(), "/good"), make_export("/proc", "/bad", slot=2)
    await lab.gateway.start(lab.guest, [good])
    errors = await lab.gateway.present(lab.guest, [good, bad])
    assert errors.keys() == {bad.attachment}
    error = errors[bad.attachment]
    assert isinstance(error, HostFailure)
    assert error.code == "export-refused"
    assert "/bad" in str(error.detail["log"])
    assert await lab.served() == {good}


async def test_a_mount_point_without_its_share_is_not_exported(lab: Lab, tmp_path: Path) -> None:
    good, bare = make_export(lab.shares.quick(), "/good"), make_export(str(tmp_path), "/bare", slot=2)
    await lab.gateway.start(lab.guest, [good, bare])
    assert await lab.served() == {good}
    errors = await lab.gateway.present(lab.guest, [good, bare])
    assert {attachment: error.code for attachment, error in errors.items()} == {bare.attachment: "share-not-mounted"}
    assert await lab.served() == {good}


async def test_a_server_that_hangs_is_seen_and_replaced(lab: Lab) -> None:
    presented = make_export(lab.shares.quick())
    await lab.gateway.start(lab.guest, [presented])
    hung = await lab.unit()
    os.kill(hung.pid, signal.SIGSTOP)
    quick = GaneshaGateway(lab.layout, lab.supervisor, deadline=5, patience=0.2)
    seen = (await quick.observe())[lab.guest]
    assert (seen.running, dict(seen.exports)) == (True, {})
    assert seen.holds == {presented.attachment: presented.source}, "it may answer again, and has let go of nothing"
    await quick.start(lab.guest, [presented])
    assert await lab.unit() != hung
    assert await lab.served() == {presented}


async def test_a_server_that_hangs_keeps_nothing_that_was_taken(lab: Lab) -> None:
    kept, taken = make_export(lab.shares.quick(), "/kept"), make_export(lab.shares.image("ext4"), "/taken", slot=2)
    await lab.gateway.start(lab.guest, [kept, taken])
    hung = await lab.unit()
    os.kill(hung.pid, signal.SIGSTOP)
    quick = GaneshaGateway(lab.layout, lab.supervisor, deadline=0.5, patience=0.2)
    assert await quick.present(lab.guest, [kept]) == {}
    assert await lab.unit() != hung
    assert await lab.served() == {kept}
    lab.shares.unmount(taken.source)
    assert not lab.shares.in_use(taken.source)


async def test_many_may_look_at_a_server_at_once(lab: Lab) -> None:
    exports = {make_export(lab.shares.quick(), f"/{slot}", slot=slot) for slot in range(1, 6)}
    await lab.gateway.start(lab.guest, exports)
    before = await lab.unit()
    for _ in range(5):
        looks = asyncio.gather(*(lab.served() for _ in range(3)))
        assert await lab.gateway.present(lab.guest, exports) == {}
        assert await looks == [exports] * 3
    assert await lab.unit() == before


async def test_a_share_whose_file_system_fails_hinders_no_other(lab: Lab) -> None:
    good, bad = make_export(lab.shares.quick(), "/good"), make_export(lab.shares.image("xfs"), "/bad", slot=2)
    await lab.gateway.start(lab.guest, [good, bad])
    before = await lab.unit()
    lab.shares.fail(bad.source)
    assert await lab.served() == {good}
    late = make_export(lab.shares.quick(), "/late", slot=3)
    assert (await lab.gateway.present(lab.guest, [good, bad, late])).keys() == {bad.attachment}
    assert await lab.gateway.present(lab.guest, [good, late]) == {}
    assert await lab.served() == {good, late}
    assert await lab.unit() == before
    lab.shares.unmount(bad.source)


async def test_a_guest_sees_a_file_system_id_of_its_own_for_each(lab: Lab) -> None:
    source = lab.shares.quick()
    one, two = make_export(source, "/one"), make_export(lab.shares.quick(), "/two", slot=2)
    await lab.gateway.start(lab.guest, [one, two])
    wire = lab.client()
    for presented in (one, two):
        assert wire.attributes(wire.lookup(presented.at)).fsid == filesystem_id(presented.attachment)


async def test_an_agent_that_died_between_writing_and_telling(lab: Lab) -> None:
    """What the exports file says is not believed: the server itself is asked."""
    one, two = make_export(lab.shares.quick(), "/one"), make_export(lab.shares.quick(), "/two", slot=2)
    await lab.gateway.start(lab.guest, [one, two])
    file = lab.layout.gateway_dir(lab.gateway.mode, lab.guest) / "exports.conf"
    whole = file.read_text()
    await lab.gateway.present(lab.guest, [one])
    file.write_text(whole)
    assert await lab.served() == {one}
    moved = replace(two, at="/elsewhere")
    assert await lab.gateway.present(lab.guest, [one, moved]) == {}
    assert await lab.served() == {one, moved}


async def test_stop_leaves_nothing(lab: Lab) -> None:
    presented = make_export(lab.shares.image("btrfs"))
    await lab.gateway.start(lab.guest, [presented])
    assert list(await lab.supervisor.observe()) == [lab.layout.unit("nfs", lab.guest)]
    await lab.gateway.stop(lab.guest)
    assert await lab.supervisor.observe() == {}
    assert list(lab.layout.gateways.iterdir()) == []
    lab.shares.unmount(presented.source)
