"""The ``local`` driver when the host is not as it should be: full, read-only, damaged, in use."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.host import mounts
from isthmus.model.errors import Exhausted, HostFailure, KernelRefused
from isthmus.model.layout import Layout
from isthmus.model.names import GIB, MIB, HostName, PoolName, ShareId
from isthmus.model.share import Filesystem, Origin, Pool, ShareSpec
from isthmus.storage.local import LocalDriver
from tests.local_pool import Drivers, local_pool
from tests.storage_contract import POOL, look, made, read, share_id, snapshot_id, spec, write

GOING_DOWN = 0x8004587D  # XFS_IOC_GOINGDOWN, EXT4_IOC_SHUTDOWN: the file system stops at once, as after an error
NO_LOG_FLUSH = b"\2\0\0\0"


@pytest.fixture
def drivers(tmp_path: Path, layout: Layout) -> Iterator[Drivers]:
    with local_pool(tmp_path / "pool", layout) as made:
        yield made


@pytest.fixture
def driver(drivers: Drivers) -> LocalDriver:
    return drivers()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The mount point of a host file system of 1 GiB."""
    disk, image = tmp_path / "disk", tmp_path / "disk.img"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(GIB)
    run("mkfs.ext4", "-q", "-F", "-m", "0", image)
    run("mount", "-o", "loop", image, disk)
    yield disk
    run("umount", disk)


def run(*argv: str | Path) -> None:
    """What a test does to the host."""
    subprocess.run(argv, check=True)


def fill(disk: Path) -> None:
    """No byte is free on a disk."""
    room = os.statvfs(disk)
    with (disk / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, (room.f_bavail - 64) * room.f_frsize)  # 64: its own extents need a few
        with contextlib.suppress(OSError):
            while os.write(file.fileno(), b"x" * 4096):
                os.lseek(file.fileno(), 0, os.SEEK_END)
    assert os.statvfs(disk).f_bavail == 0


def free(disk: Path) -> None:
    """What ``fill`` took is there again."""
    (disk / "filler").unlink()
    run("sync", "-f", disk)  # ext4 gives blocks back when its journal commits


def write_until_it_fails(place: Path) -> list[OSError]:
    """What a guest is told that writes and syncs 64 MiB in files of 1 MiB."""
    errors = []
    for number in range(64):
        try:
            fd = os.open(place / f"new{number}", os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.write(fd, os.urandom(MIB))
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            errors.append(error)
    return errors


@pytest.mark.parametrize("filesystem", Filesystem)
async def test_a_full_host_disk_gives_errors_and_no_broken_share(
    filesystem: Filesystem, small_disk: Path, layout: Layout
) -> None:
    path = small_disk / "pool"
    path.mkdir(mode=0o700)
    driver = LocalDriver(Pool(POOL, "local", HostName("here"), str(path)), layout)
    share = await made(driver, filesystem, GIB)
    kept = os.urandom(20 * MIB).hex()
    await write(driver, share, kept=kept)
    fill(small_disk)
    errors = await asyncio.to_thread(write_until_it_fails, Path((await driver.source(share)).path))
    assert errors
    assert {error.errno for error in errors} <= {errno.ENOSPC, errno.EIO, errno.EROFS}
    seen = await look(driver, share)
    if errno.EROFS in {error.errno for error in errors}:
        assert seen.wounded
    free(small_disk)
    await driver.release(share)
    assert not (await look(driver, share)).wounded
    assert (await read(driver, share))["kept"] == kept
    await write(driver, share, again="x" * MIB)
    assert not (await look(driver, share)).wounded
    await driver.release(share)
    check(filesystem, path / "shares" / share / "image")
    await driver.delete(share)


def check(filesystem: Filesystem, image: Path) -> None:
    """The file system's own checker finds nothing wrong."""
    checkers = {
        Filesystem.BTRFS: ("btrfs", "check", "-q", str(image)),
        Filesystem.XFS: ("xfs_repair", "-n", str(image)),
        Filesystem.EXT4: ("e2fsck", "-fn", str(image)),
    }
    found = subprocess.run(checkers[filesystem], capture_output=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


async def test_a_pool_without_room_takes_no_new_promise(small_disk: Path, layout: Layout) -> None:
    path = small_disk / "pool"
    path.mkdir(mode=0o700)
    pool = Pool(POOL, "local", HostName("here"), str(path), reserve=100 * MIB)
    driver = LocalDriver(pool, layout)
    share = await made(driver, Filesystem.BTRFS)
    await write(driver, share, a="kept")
    fill(small_disk)
    os.truncate(small_disk / "filler", (small_disk / "filler").stat().st_size - 200 * MIB)
    run("sync", "-f", small_disk)
    for attempt in (
        driver.create(spec(Filesystem.BTRFS)),
        driver.clone(spec(Filesystem.BTRFS, origin=Origin(share))),
        driver.resize(share, GIB),
    ):
        with pytest.raises(Exhausted, match="MiB free"):
            await attempt
    seen = await look(driver, share)
    assert seen.size == 512 * MIB
    assert await read(driver, share) == {"a": "kept"}
    free(small_disk)
    await driver.resize(share, GIB)
    await driver.delete(share)


@pytest.mark.parametrize("filesystem", [Filesystem.XFS, Filesystem.EXT4])
async def test_a_stopped_file_system_is_seen_and_mended(driver: LocalDriver, filesystem: Filesystem) -> None:
    share = await made(driver, filesystem)
    await write(driver, share, a="kept")
    fd = os.open((await driver.source(share)).path, os.O_RDONLY)
    fcntl.ioctl(fd, GOING_DOWN, NO_LOG_FLUSH)
    assert (await look(driver, share)).wounded
    with pytest.raises(KernelRefused) as caught:
        await driver.source(share)
    assert caught.value.errno == errno.EBUSY
    os.close(fd)
    assert await read(driver, share) == {"a": "kept"}
    assert not (await look(driver, share)).wounded


async def test_a_share_in_use_is_not_unmounted(driver: LocalDriver) -> None:
    share, snapshot = await made(driver, Filesystem.BTRFS), snapshot_id()
    await write(driver, share, a="kept")
    await driver.snapshot(share, snapshot)
    place = Path((await driver.source(share)).path)
    with (place / "a").open() as file:
        for attempt in (driver.release(share), driver.delete(share), driver.revert(share, snapshot, 1)):
            with pytest.raises(KernelRefused) as caught:
                await attempt
            assert caught.value.errno == errno.EBUSY
        assert file.read() == "kept"
    assert (await look(driver, share)).generation == 0
    await driver.release(share)


async def test_a_share_that_another_namespace_holds_is_in_use(driver: LocalDriver, tmp_path: Path) -> None:
    share = await made(driver, Filesystem.BTRFS)
    await write(driver, share, a="kept")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    fd = mounts.clone((await driver.source(share)).path)
    try:
        with pytest.raises(KernelRefused) as caught:
            await driver.delete(share)
    finally:
        os.close(fd)
    assert caught.value.errno == errno.EBUSY
    assert await read(driver, share) == {"a": "kept"}


async def test_a_pool_that_cannot_be_used_says_how_to_mend_it(tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name, cause in (("absent", "mount its disk"), ("file", "no directory"), ("link", "no link")):
        pool = Pool(PoolName(name), "local", HostName("here"), str(tmp_path / name))
        with pytest.raises(HostFailure, match=cause) as caught:
            await LocalDriver(pool, layout).observe()
        assert name in caught.value.message
        driver = LocalDriver(pool, layout)
        for attempt in (
            driver.create(spec(Filesystem.EXT4)),
            driver.source(share_id()),
            driver.delete(share_id()),  # nobody knows that it is gone
        ):
            with pytest.raises(HostFailure, match=cause):
                await attempt


async def test_a_read_only_pool_is_told_and_its_shares_are_left(small_disk: Path, layout: Layout) -> None:
    path = small_disk / "pool"
    path.mkdir(mode=0o700)
    driver = LocalDriver(Pool(POOL, "local", HostName("here"), str(path)), layout)
    share = await made(driver, Filesystem.EXT4)
    run("mount", "-o", "remount,ro", small_disk)
    with pytest.raises(HostFailure, match="read-only"):
        await driver.observe()
    run("mount", "-o", "remount,rw", small_disk)
    assert (await look(driver, share)).size == 512 * MIB
    await driver.delete(share)


async def test_a_damaged_record_hides_no_other_share_and_is_not_made_anew(driver: LocalDriver, tmp_path: Path) -> None:
    damaged, whole = spec(Filesystem.EXT4), spec(Filesystem.EXT4)
    await driver.create(damaged)
    await driver.create(whole)
    record = tmp_path / "pool/shares" / damaged.id / "share.json"
    for content in (b"{", b"[]", b'{"filesystem": "minix", "checksums": false, "size": 1}', None):
        if content is None:
            record.unlink()
        else:
            record.write_bytes(content)
        assert set((await driver.observe()).shares) == {whole.id}
        for attempt in (driver.create(damaged), driver.source(damaged.id), driver.resize(damaged.id, GIB)):
            with pytest.raises(HostFailure, match=damaged.id):
                await attempt
        assert record.with_name("image").exists()
    await driver.delete(damaged.id)


async def test_links_planted_in_the_pool_are_not_followed(driver: LocalDriver, tmp_path: Path) -> None:
    share = await made(driver, Filesystem.EXT4)
    shares = tmp_path / "pool/shares"
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (shares / share_id()).symlink_to(tmp_path)
    (shares / "stranger").mkdir()
    image = shares / share / "image"
    image.rename(tmp_path / "aside")
    image.symlink_to(precious)
    with pytest.raises(KernelRefused) as caught:
        await driver.source(share)
    assert caught.value.errno == errno.ELOOP
    assert set((await driver.observe()).shares) == {share}
    await driver.delete(share)
    assert precious.read_bytes() == b"precious"
    for path in shares.iterdir():
        path.unlink() if path.is_symlink() else path.rmdir()


async def test_checksums_find_what_the_disk_changed(driver: LocalDriver, tmp_path: Path) -> None:
    pattern = b"the quick brown fox jumps over the lazy dog." * 1000
    reads = {}
    for checksums in (True, False):
        wanted = ShareSpec(share_id(), POOL, 256 * MIB, Filesystem.BTRFS, checksums=checksums)
        await driver.create(wanted)
        assert (await look(driver, wanted.id)).checksums is checksums
        await write(driver, wanted.id, a=pattern.decode())
        await driver.release(wanted.id)
        image = tmp_path / "pool/shares" / wanted.id / "image"
        with image.open("r+b") as file:
            file.seek(image.read_bytes().index(pattern[:4096]))
            file.write(b"T")
        try:
            reads[checksums] = (await read(driver, wanted.id))["a"][:3]
        except OSError as error:
            reads[checksums] = errno.errorcode[error.errno or 0]
    assert reads == {True: "EIO", False: "The"}


async def test_a_snapshot_holds_what_was_written_and_not_yet_synced(driver: LocalDriver) -> None:
    share, snapshot = await made(driver, Filesystem.BTRFS), snapshot_id()
    file = Path((await driver.source(share)).path) / "a"
    file.write_text("unsynced")
    await driver.snapshot(share, snapshot)
    file.write_text("later")
    await driver.release(share)
    await driver.revert(share, snapshot, 1)
    assert await read(driver, share) == {"a": "unsynced"}


@pytest.mark.parametrize("filesystem", [Filesystem.XFS, Filesystem.EXT4])  # btrfs does so some minutes later
async def test_deleted_files_give_their_room_back_to_the_pool(driver: LocalDriver, filesystem: Filesystem) -> None:
    share = await made(driver, filesystem)
    await write(driver, share, a="x" * 100 * MIB)
    full = (await look(driver, share)).used
    (Path((await driver.source(share)).path) / "a").unlink()
    await driver.release(share)  # which ends discards that are under way
    assert (await look(driver, share)).used < full - 90 * MIB


async def test_many_shares_side_by_side(driver: LocalDriver) -> None:
    wanted = [spec(filesystem, 320 * MIB) for filesystem in Filesystem for _ in range(4)]

    async def live(share: ShareSpec) -> str:
        await driver.create(share)
        await write(driver, share.id, a=share.id)
        text = (await read(driver, share.id))["a"]
        await driver.release(share.id)
        await driver.delete(share.id)
        return text

    assert await asyncio.gather(*(live(share) for share in wanted)) == [share.id for share in wanted]
    seen = await driver.observe()
    assert (dict(seen.shares), seen.debris) == ({}, ())


async def test_what_was_begun_ends_even_if_its_caller_is_gone(driver: LocalDriver) -> None:
    wanted = spec(Filesystem.BTRFS)
    task = asyncio.create_task(driver.create(wanted))
    await asyncio.sleep(0.005)
    assert (await driver.observe()).debris == ()  # in the making is not left behind
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await driver.source(wanted.id)  # waits for the other
    assert (await look(driver, wanted.id)).size == wanted.size


async def test_an_old_mount_point_is_tidied_up(driver: LocalDriver, layout: Layout) -> None:
    share: ShareId = await made(driver, Filesystem.EXT4)
    (layout.share_dir(share) / "data").mkdir(parents=True)
    assert (await driver.observe()).debris == (f"{share}.mounts",)
    await driver.sweep()
    assert not layout.share_dir(share).exists()
    assert (await look(driver, share)).size == 512 * MIB


async def test_a_mount_point_without_its_disk_is_no_empty_pool(tmp_path: Path, layout: Layout) -> None:
    """Nothing is made on what lies below, and a share that is to be deleted does not count as gone."""
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    pool = Pool(POOL, "local", HostName("here"), str(disk))
    driver = LocalDriver(pool, layout)
    share = spec(Filesystem.EXT4, 64 * MIB)
    await driver.create(share)
    driver.redefine(replace(pool, made=True))
    assert share.id in (await driver.observe()).shares
    (disk / "shares").rename(tmp_path / "elsewhere")
    for call in (driver.observe(), driver.delete(share.id), driver.create(spec(Filesystem.EXT4, 64 * MIB))):
        with pytest.raises(HostFailure, match="mount its disk"):
            await call
    assert list(disk.iterdir()) == []
    (tmp_path / "elsewhere").rename(disk / "shares")
    await driver.delete(share.id)
    assert (await driver.observe()).shares == {}
