"""Names, places and sizes: what is taken, and what is refused with the mend."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.model.errors import Invalid
from isthmus.model.names import (
    GIB,
    MAX_COMPONENT,
    MAX_PLACE,
    MIB,
    parse_place,
    parse_size,
    parse_slug,
    parse_title,
    parse_uuid,
    places_overlap,
)

UUID = "0b7c3f2e-5c0d-4f1a-9d3e-2a6b8c9d0e1f"
FORBIDDEN = set("\"'\\`;$*?[]{}()<>|&!#%^~\0\n\r\t\x7f\u202e\u200b\u2028")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "a",
            "/a/",
            "//",
            "/a//b",
            "/.",
            "/a/..",
            "/a/./b",
            "/ a",
            "/a ",
            "/a\nb",
            "/a\0",
            '/a"b',
            "/a\\b",
            "/a`b",
        ),
        *("/a\u037eb", "/a\u1fefb", "/\u202ea", "/\u200b", "/\ud800", "/" + "a" * 256, "/" + "é" * 128, "/a" * 33),
    ],
)
def test_a_wrong_place_names_the_field(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_place(text, "attachment.at")
    assert caught.value.field == "attachment.at"
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("text", ["/", "/home", "/data/models v2", "/Ünïcode/日本", "/a.b,c:d=e@f+g_h-i"])
def test_a_good_place_stays_as_it_is(text: str) -> None:
    assert parse_place(text) == text


@given(st.text(max_size=40).map(lambda text: "/" + text))
def test_whatever_is_taken_as_a_place_is_harmless(text: str) -> None:
    try:
        place = parse_place(text)
    except Invalid:
        return
    assert not FORBIDDEN & set(place)
    assert unicodedata.is_normalized("NFC", place)
    assert parse_place(place) == place
    assert len(place.encode()) <= MAX_PLACE
    assert all(len(part.encode()) <= MAX_COMPONENT and part not in (".", "..") for part in place.split("/"))


@given(st.text(max_size=300))
def test_whatever_is_taken_as_a_title_is_one_line_and_stays(text: str) -> None:
    try:
        title = parse_title(text)
    except Invalid:
        return
    assert len(title) <= 255
    assert len(title.splitlines()) <= 1
    assert parse_title(title) == title


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [("/", "/a", True), ("/a", "/a", True), ("/a", "/a/b", True), ("/a", "/ab", False), ("/a/b", "/a/c", False)],
)
def test_places_that_overlap(one: str, other: str, overlap: bool) -> None:
    assert places_overlap(one, other) is overlap
    assert places_overlap(other, one) is overlap


@pytest.mark.parametrize(
    ("text", "size"), [("1M", MIB), ("10G", 10 * GIB), ("10GiB", 10 * GIB), (" 2 tb ", 2048 * GIB), (MIB, MIB)]
)
def test_a_size(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1G", "1.5G", "1X", "0", "1K", "1000000000000000000P", "2P", MIB + 1, 0, -MIB])
def test_a_wrong_size(text: str | int) -> None:
    with pytest.raises(Invalid) as caught:
        parse_size(text, "size")
    assert caught.value.field == "size"


@pytest.mark.parametrize(
    "text", ["", UUID.upper() + "0", f"{{{UUID}}}", f"urn:uuid:{UUID}", UUID.replace("-", ""), "../x"]
)
def test_what_is_no_uuid(text: str) -> None:
    with pytest.raises(Invalid):
        parse_uuid(text, "id")
    assert parse_uuid(UUID.upper(), "id") == UUID


@pytest.mark.parametrize("text", ["", "-a", "a-", "A", "a/b", "..", "a" * 64, "a\n", "é"])
def test_what_is_no_slug(text: str) -> None:
    with pytest.raises(Invalid):
        parse_slug(text, "pool")
