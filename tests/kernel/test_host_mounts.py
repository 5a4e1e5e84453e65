"""Mounts on the real kernel: file systems, clones, other namespaces, paths that lie."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.host import kernel, mounts
from isthmus.host.mounts import IdRange
from isthmus.model.errors import KernelRefused, Refused

MIB = 1 << 20


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory to mount on."""
    target = tmp_path / "target with space"
    target.mkdir()
    yield target
    mounts.unmount(str(target), lazy=True)


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A mounted tmpfs with a file in it."""
    target = tmp_path / "source"
    target.mkdir()
    mounts.mount_filesystem("tmpfs", "istest", str(target), {"size": "4M", "mode": "755"})
    (target / "file").write_text("hello")
    yield target
    mounts.unmount(str(target))


def loop_device(image: Path, size: int, *mkfs: str) -> str:
    image.touch()
    os.truncate(image, size)
    subprocess.run([*mkfs, str(image)], check=True, capture_output=True)
    return subprocess.run(
        ["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True
    ).stdout.strip()


def mounted_at(target: Path) -> list[mounts.MountEntry]:
    return [entry for entry in mounts.mounts() if entry.target == str(target)]


@pytest.fixture
def btrfs(tmp_path: Path) -> Iterator[str]:
    """A loop device with a btrfs."""
    device = loop_device(tmp_path / "btrfs", 128 * MIB, "mkfs.btrfs", "-q", "-m", "single")
    yield device
    subprocess.run(["losetup", "-d", device], check=True)


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[str]:
    """A loop device with an ext4."""
    device = loop_device(tmp_path / "ext4", 8 * MIB, "mkfs.ext4", "-q", "-F")
    yield device
    subprocess.run(["losetup", "-d", device], check=True)


def test_btrfs_with_a_subvolume_option(btrfs: str, place: Path) -> None:
    mounts.mount_filesystem("btrfs", btrfs, str(place), {})
    subprocess.run(["btrfs", "subvolume", "create", str(place / "data")], check=True, capture_output=True)
    (place / "data" / "inside").write_text("x")
    mounts.unmount(str(place))

    mounts.mount_filesystem("btrfs", btrfs, str(place), {"subvol": "data", "nodatacow": None})

    (entry,) = mounted_at(place)
    assert (entry.fstype, entry.source, entry.root) == ("btrfs", btrfs, "/data")
    assert {"nosuid", "nodev", "rw"} <= entry.options
    assert {"nodatacow", "subvol=/data"} <= entry.super_options
    assert (place / "inside").read_text() == "x"
    mounts.unmount(str(place))
    assert mounted_at(place) == []


def test_ext4_read_only(ext4: str, place: Path) -> None:
    mounts.mount_filesystem("ext4", ext4, str(place), {}, read_only=True, noexec=True)
    (entry,) = mounted_at(place)
    assert {"ro", "noexec", "nosuid", "nodev"} <= entry.options
    assert "ro" in entry.super_options
    with pytest.raises(OSError, match="Read-only"):
        (place / "new").touch()
    mounts.unmount(str(place))


def test_a_refused_mount_says_what_the_file_system_said(place: Path) -> None:
    with pytest.raises(KernelRefused, match=r"cannot mount tmpfs none on .*: option size \(.*[Bb]ad value") as caught:
        mounts.mount_filesystem("tmpfs", "none", str(place), {"size": "much"})
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(KernelRefused) as caught:
        mounts.mount_filesystem("nosuchfs", "none", str(place), {})
    assert caught.value.errno == errno.ENODEV
    assert mounted_at(place) == []


def test_a_wrong_superblock_is_an_errno(ext4: str, place: Path) -> None:
    with pytest.raises(KernelRefused) as caught:
        mounts.mount_filesystem("btrfs", ext4, str(place), {})
    assert caught.value.errno == errno.EINVAL


def test_unmount_of_nothing_is_success(tmp_path: Path) -> None:
    mounts.unmount(str(tmp_path))
    mounts.unmount(str(tmp_path / "absent"))
    assert mounted_at(tmp_path) == []


def test_unmount_takes_all_layers_and_says_busy(tmpfs: Path, place: Path) -> None:
    for _ in range(2):
        fd = mounts.clone(str(tmpfs))
        mounts.attach(fd, str(place))
        os.close(fd)
    assert len(mounted_at(place)) == 2
    with (place / "file").open() as held:
        with pytest.raises(KernelRefused) as caught:
            mounts.unmount(str(place))
        assert caught.value.errno == errno.EBUSY
        mounts.unmount(str(place), lazy=True)
        assert mounted_at(place) == []
        assert held.read() == "hello"


def test_a_read_only_clone_of_a_writable_mount(tmpfs: Path, place: Path) -> None:
    fd = mounts.clone(str(tmpfs), read_only=True)
    mounts.attach(fd, str(place))
    os.close(fd)
    assert (place / "file").read_text() == "hello"
    with pytest.raises(OSError, match="Read-only"):
        (place / "file").write_text("no")
    (tmpfs / "file").write_text("the source stays writable")


def test_a_detached_clone_pins_nothing_once_it_is_closed(tmpfs: Path) -> None:
    fd = mounts.clone(str(tmpfs))
    os.close(fd)
    mounts.unmount(str(tmpfs))
    assert mounted_at(tmpfs) == []


def test_an_open_directory_can_be_cloned(tmpfs: Path, place: Path) -> None:
    (tmpfs / "sub").mkdir()
    (tmpfs / "sub" / "deep").write_text("deep")
    root = os.open(tmpfs, os.O_PATH | os.O_DIRECTORY)
    beneath = mounts.open_beneath(root, "sub")
    fd = mounts.clone(beneath)
    mounts.attach(fd, str(place))
    for each in (root, beneath, fd):
        os.close(each)
    assert [entry.name for entry in place.iterdir()] == ["deep"]
    (entry,) = mounted_at(place)
    assert entry.root == "/sub"


def test_an_id_mapped_clone_shows_and_stores_other_ids(tmpfs: Path, place: Path) -> None:
    os.chown(tmpfs, 1000, 1000)
    os.chown(tmpfs / "file", 1000, 1000)
    namespace = mounts.userns([IdRange(1000, 0, 1)], [IdRange(1000, 0, 1)])
    fd = mounts.clone(str(tmpfs), idmap_userns=namespace)
    mounts.attach(fd, str(place))
    os.close(fd)
    os.close(namespace)
    assert (place / "file").stat().st_uid == 0
    (place / "new").touch()
    assert (tmpfs / "new").stat().st_uid == 1000
    assert (place / "new").stat().st_uid == 0
    with pytest.raises(OSError, match="Value too large"):
        os.chown(place / "new", 4242, 4242)


def test_a_file_system_that_cannot_be_id_mapped_is_refused() -> None:
    namespace = mounts.userns([IdRange(0, 1000, 1)], [IdRange(0, 1000, 1)])
    with pytest.raises(Refused, match="does not support id-mapped mounts"):
        mounts.clone("/proc", idmap_userns=namespace)
    os.close(namespace)


def test_userns_refuses_bad_maps_and_leaves_no_process() -> None:
    with pytest.raises(KernelRefused, match="id maps"):
        mounts.userns([IdRange(0, 1000, 0)], [])
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize(
    ("relative", "number"),
    [
        ("out", errno.ELOOP),
        ("loop/etc", errno.ELOOP),
        ("inside-link", errno.ELOOP),
        ("../source", errno.EXDEV),
        ("sub/../../x", errno.EXDEV),
        ("/etc", errno.EXDEV),
        ("absent", errno.ENOENT),
        ("file", errno.ENOTDIR),
    ],
)
def test_open_beneath_refuses_what_leads_out(tmpfs: Path, relative: str, number: int) -> None:
    (tmpfs / "sub").mkdir()
    (tmpfs / "out").symlink_to("/etc")
    (tmpfs / "loop").symlink_to("../..")
    (tmpfs / "inside-link").symlink_to("sub")
    root = os.open(tmpfs, os.O_PATH | os.O_DIRECTORY)
    with pytest.raises(KernelRefused) as caught:
        mounts.open_beneath(root, relative)
    os.close(root)
    assert caught.value.errno == number


def test_open_beneath_can_create(tmpfs: Path) -> None:
    root = os.open(tmpfs, os.O_PATH | os.O_DIRECTORY)
    fd = mounts.open_beneath(root, "new", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o640)
    assert os.get_inheritable(fd) is False
    os.close(fd)
    os.close(root)
    assert (tmpfs / "new").stat().st_mode & 0o777 == 0o640


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a mount namespace of its own."""
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b".")
        process.stdin.flush()
        assert process.stdout.read(1) == b"."
        yield process


def test_a_mount_comes_and_goes_in_another_namespace(
    tmpfs: Path, tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    target = str(tmp_path / "made" / "there")
    before = kernel.start_time(stranger.pid)
    fd = mounts.clone(str(tmpfs))
    mounts.attach_in(stranger.pid, fd, target, started=before)
    os.close(fd)
    assert [e.fstype for e in mounts.mounts_of(stranger.pid) if e.target == target] == ["tmpfs"]
    assert mounted_at(Path(target)) == []
    mounts.detach_in(stranger.pid, target)
    mounts.detach_in(stranger.pid, target)
    assert [e for e in mounts.mounts_of(stranger.pid) if e.target == target] == []
    assert not Path(target).exists()


def test_a_file_is_bound_over_a_file_in_another_namespace(
    tmpfs: Path, tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    target = tmp_path / "made"
    fd = mounts.clone(str(tmpfs / "file"))
    mounts.attach_in(stranger.pid, fd, str(target))
    os.close(fd)
    assert Path(f"/proc/{stranger.pid}/root{target}").read_text() == "hello"
    mounts.detach_in(stranger.pid, str(target))
    assert not target.exists()


def test_another_process_of_the_same_number_is_not_touched(tmpfs: Path, stranger: subprocess.Popen[bytes]) -> None:
    fd = mounts.clone(str(tmpfs))
    with pytest.raises(KernelRefused) as caught:
        mounts.attach_in(stranger.pid, fd, "/tmp", started=1)
    os.close(fd)
    assert caught.value.errno == errno.ESRCH
    assert [e for e in mounts.mounts_of(stranger.pid) if e.target == "/tmp"] == []


def test_a_process_that_is_gone(tmpfs: Path) -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    fd = mounts.clone(str(tmpfs))
    with pytest.raises(KernelRefused) as caught:
        mounts.attach_in(process.pid, fd, "/mnt")
    os.close(fd)
    assert caught.value.errno == errno.ESRCH
    mounts.detach_in(process.pid, "/mnt")
    with pytest.raises(KernelRefused) as caught:
        mounts.mounts_of(process.pid)
    assert caught.value.errno == errno.ESRCH
