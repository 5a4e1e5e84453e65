"""The parser of mountinfo against lines as kernels write them."""

from __future__ import annotations

from isthmus.host.mounts import MountEntry, parse_mountinfo

SAMPLE = (
    b"36 35 98:0 /mnt1 /mnt/with\\040space\\134 rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=stop\n"
    b"24 27 0:5 / /dev rw,relatime shared:2 - devtmpfs devtmpfs rw,size=1k\n"
    b"41 31 0:38 / /odd\\011tab\\012line rw - cgroup2  rw\n"
)


def test_fields_and_escapes() -> None:
    first, second, third = parse_mountinfo(SAMPLE)
    assert first == MountEntry(
        id=36,
        parent=35,
        device="98:0",
        root="/mnt1",
        target="/mnt/with space\\",
        options=frozenset({"rw", "noatime"}),
        fstype="ext3",
        source="/dev/root",
        super_options=frozenset({"rw", "errors=stop"}),
    )
    assert second.source == "devtmpfs"
    assert (third.target, third.source) == ("/odd\ttab\nline", "")


def test_bytes_that_are_not_utf_8_survive() -> None:
    (entry,) = parse_mountinfo(b"1 2 0:1 / /caf\xe9 rw - tmpfs none rw\n")
    assert entry.target == "/caf\udce9"


def test_a_carriage_return_ends_no_line() -> None:
    (entry,) = parse_mountinfo(b"1 2 0:1 / /a\rb rw - tmpfs none rw\n")
    assert entry.target == "/a\rb"


def test_nothing_is_mounted() -> None:
    assert parse_mountinfo(b"") == ()
