"""Copying a directory whose content somebody else makes up."""

from __future__ import annotations

import os
import stat
import struct
import threading
from pathlib import Path

import pytest

from isthmus.host.command import Command
from isthmus.host.mirror import mirror
from isthmus.model.errors import Exhausted, HostFailure
from isthmus.model.names import MIB

ACL = "system.posix_acl_access"


def acl(*entries: tuple[int, ...]) -> bytes:
    """Tag, permissions, id: as the kernel takes them (linux/posix_acl_xattr.h)."""
    nobody = 0xFFFFFFFF
    return struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", *entry[:2], *(entry[2:] or (nobody,))) for entry in entries
    )


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    return source, target


async def test_all_that_a_file_is_arrives(pair: tuple[Path, Path]) -> None:
    source, target = pair
    (source / "plain").write_text("one")
    os.link(source / "plain", source / "other name")
    os.chown(source / "plain", 12345, 54321)
    (source / "plain").chmod(0o6750)
    os.setxattr(source / "plain", "user.colour", b"green")
    os.setxattr(source / "plain", ACL, acl((1, 7), (2, 4, 1001), (4, 5), (16, 5), (32, 0)))
    os.utime(source / "plain", ns=(1_000_000_000, 2_000_000_123))
    with (source / "hollow").open("wb") as file:
        file.seek(64 * MIB)
        file.write(b"end")
    os.mknod(source / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mkfifo(source / "pipe")
    (source / "out").symlink_to("/etc/passwd")
    (source / b"na\xffme".decode(errors="surrogateescape")).write_text("odd")
    (target / "old").mkdir()
    (target / "old" / "file").write_text("gone")

    await mirror(str(source), str(target), deadline=30)

    assert sorted(path.name for path in target.iterdir()) == sorted(path.name for path in source.iterdir())
    copied = (target / "plain").stat()
    assert (copied.st_uid, copied.st_gid, copied.st_mtime_ns) == (12345, 54321, 2_000_000_123)
    assert stat.S_IMODE(copied.st_mode) == stat.S_IMODE((source / "plain").stat().st_mode)
    assert (target / "other name").stat().st_ino == copied.st_ino
    assert os.getxattr(target / "plain", "user.colour") == b"green"
    assert os.getxattr(target / "plain", ACL) == os.getxattr(source / "plain", ACL)
    hollow = (target / "hollow").stat()
    assert (hollow.st_size, hollow.st_blocks * 512 < MIB) == (64 * MIB + 3, True)
    assert stat.S_ISCHR((target / "device").stat().st_mode)
    assert stat.S_ISFIFO((target / "pipe").stat().st_mode)
    assert (target / "out").readlink() == Path("/etc/passwd")


async def test_the_second_time_brings_it_up_to_date(pair: tuple[Path, Path]) -> None:
    source, target = pair
    (source / "a").write_text("one")
    await mirror(str(source), str(target), deadline=30)
    (source / "a").unlink()
    (source / "b").write_text("two")
    await mirror(str(source), str(target), deadline=30)
    assert [path.name for path in target.iterdir()] == ["b"]


async def test_nothing_leads_out_of_the_source(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """A guest swaps a directory for a link to one of the host's while root copies it."""
    source, target = pair
    secret = tmp_path / "secret"
    secret.mkdir()
    for number in range(50):
        (secret / f"{number}").write_text("the host's")
    (source / "d").mkdir()
    for number in range(50):
        (source / "d" / f"{number}").write_text("mine")
    (source / "l").symlink_to(secret)
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            for one, other in (("d", "t"), ("l", "d"), ("d", "l"), ("t", "d")):
                (source / one).rename(source / other)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(25):
            try:
                await mirror(str(source), str(target), deadline=30)
            except HostFailure as error:  # some files could not be read: they were elsewhere
                assert error.detail["returncode"] == 23  # noqa: PT017
            told = {
                path.read_text()
                for path in target.rglob("*")
                if path.is_file() and not path.is_symlink() and not any(parent.is_symlink() for parent in path.parents)
            }
            assert told <= {"mine"}
    finally:
        ended.set()
        thread.join()


async def test_what_does_not_fit_says_so(pair: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = pair
    (source / "big").write_bytes(os.urandom(8 * MIB))
    await Command.of("mount", "-t", "tmpfs", "-o", "size=2m", "none", str(target)).run()
    try:
        with pytest.raises(Exhausted, match="does not fit"):
            await mirror(str(source), str(target), deadline=30)
    finally:
        await Command.of("umount", str(target)).run()
    assert not list((tmp_path / "target").iterdir())
