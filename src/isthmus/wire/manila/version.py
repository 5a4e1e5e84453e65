"""Microversions: ``2.Y`` in the header ``X-OpenStack-Manila-API-Version``."""

from __future__ import annotations

import re

from isthmus.model.errors import Invalid, IsthmusError

HEADER = "x-openstack-manila-api-version"
EXPERIMENTAL = "x-openstack-manila-api-experimental"
MIN, MAX = 0, 98
"""The minor numbers that are spoken. 98 is the newest that python-manilaclient 6.3 asks for."""
_VERSION = re.compile(r"([1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})")


class NotAcceptable(IsthmusError):
    """A version that is not spoken."""

    code = "version-unsupported"


def shown(minor: int) -> str:
    """``2.Y``."""
    return f"2.{minor}"


def read(text: str | None) -> int:
    """The minor number that a request asks for: the oldest if it names none, the newest for ``latest``. Raises
    ``Invalid`` for what is no version, ``NotAcceptable`` for one that is not spoken."""
    if text is None or text == "":
        return MIN
    if text == "latest":
        return MAX
    match = _VERSION.fullmatch(text)
    if match is None:
        raise Invalid(
            f"cannot use the API version {ascii(text)[:40]}: give one like {shown(MAX)}, or latest",
            field="X-OpenStack-Manila-API-Version",
        )
    major, minor = int(match[1]), int(match[2])
    if major != 2 or not MIN <= minor <= MAX:
        raise NotAcceptable(
            f"Version {text} is not supported by the API. Minimum is {shown(MIN)} and maximum is {shown(MAX)}."
        )
    return minor


def documents(base: str) -> dict[str, object]:
    """What ``/`` and ``/v2/`` answer; ``base`` is the URL of ``/``, without a slash at its end."""
    return {
        "versions": [
            {
                "id": "v2.0",
                "status": "CURRENT",
                "version": shown(MAX),
                "min_version": shown(MIN),
                "updated": "2026-11-24T00:00:00Z",
                "links": [
                    {"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"},
                    {"rel": "self", "href": f"{base}/v2/"},
                ],
                "media-types": [{"base": "application/json", "type": "application/vnd.openstack.share+json;version=1"}],
            }
        ]
    }
