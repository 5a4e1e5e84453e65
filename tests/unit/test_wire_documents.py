"""The agent's documents come back as they went out, and what cannot be read names its field."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.model.desired import Desired, Report
from isthmus.model.errors import Invalid
from isthmus.wire import agent, api
from isthmus.wire.decode import decode, explain

texts = st.text(st.characters(exclude_categories=["Cs"]))
st.register_type_strategy(str, texts)
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))  # JSON has neither
small = settings(max_examples=40, deadline=None)


@small
@given(st.from_type(Desired))
def test_a_document_comes_back(document: Desired) -> None:
    assert agent.decode_desired(agent.encode_desired(document)) == document


@small
@given(st.from_type(Report))
def test_a_report_comes_back(report: Report) -> None:
    assert agent.decode_report(agent.encode_report(report)) == report


def test_fields_of_a_newer_version_are_ignored() -> None:
    body = json.dumps({"host": "h1", "revision": 1, "weather": "fine", "notices": []}).encode()
    assert agent.decode_report(body) == Report("h1", 1)  # type: ignore[arg-type]


SHARE = {"project": "acme", "pool": "p1", "size": 1}


@pytest.mark.parametrize(
    ("body", "field", "cause"),
    [
        ({**SHARE, "bogus": 1}, "bogus", "unknown field `bogus`"),
        ({"project": "acme"}, "pool", "missing required field `pool`"),
        ({**SHARE, "size": "1G"}, "size", "expected `int`, got `str` in size"),
        ({**SHARE, "size": 1.5}, "size", "expected `int`, got `float` in size"),
        ({**SHARE, "name": None}, "name", "expected `str`, got `null` in name"),
        ([], "", "expected `object`, got `array`"),
    ],
)
def test_the_field_at_fault_is_named(body: Any, field: str, cause: str) -> None:
    with pytest.raises(Invalid) as caught:
        decode(json.dumps(body).encode(), api.ShareCreate)
    assert caught.value.field == field
    assert cause in caught.value.message


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nul", b"\xff", b'"\xff"', b'{"project":"\\ud800","pool":"p","size":1}', b"[" * 100_000, b"NaN"],
)
def test_what_is_no_json_is_invalid(body: bytes) -> None:
    with pytest.raises(Invalid, match="cannot read the request"):
        decode(body, api.ShareCreate)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("Expected `str`, got `int` - at `$.project`", "project"),
        ("Invalid enum value 'x' - at `$.shares[...].condition.phase`", "shares[...].condition.phase"),
        ("Object missing required field `phase` - at `$.shares[...].condition`", "shares[...].condition.phase"),
        ("Something new", ""),
    ],
)
def test_a_path_is_dotted(message: str, field: str) -> None:
    assert explain(message)[1] == field


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | texts, st.lists, max_leaves=5))
def test_any_json_is_read_or_invalid(value: object) -> None:
    body = msgspec.json.encode({**SHARE, "name": value})
    try:
        share = decode(body, api.ShareCreate)
    except Invalid as error:
        # PT017 asks for pytest.raises; here either outcome is right, and this one has a shape.
        named = error.field
        assert named == "name"
    else:
        assert share.name == value
