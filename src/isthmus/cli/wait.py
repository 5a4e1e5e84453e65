"""Waiting for an object to become what was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Protocol

from isthmus.cli.client import NOT_FOUND, Answered, Client, Noun, View
from isthmus.model.errors import IsthmusError

if TYPE_CHECKING:
    from isthmus.wire.api import AttachmentView, ShareView, SnapshotView

    Staged = ShareView | SnapshotView | AttachmentView

POLL_SECONDS = 20.0


class WaitExpired(IsthmusError):
    """It was not done in the time that the user gave it. It may still come to be."""

    code = "wait-expired"


class EndedInError(IsthmusError):
    """What was asked for is in ``error``; the agent goes on trying."""

    code = "ended-in-error"


class Spinner(Protocol):
    """Says on a terminal what is waited for."""

    def update(self, text: str) -> None:
        """This is going on now."""
        ...


class Patience:
    """One wait: for whom, how long, and by what clock."""

    def __init__(
        self, api: Client, spinner: Spinner, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api, self._spinner, self._seconds, self._clock = api, spinner, seconds, clock
        self._until = clock() + seconds

    def settled(self, noun: Noun[View], view: View, steady: Collection[str], doing: str) -> View:
        """The object, once its status is one of ``steady``. Raises ``EndedInError``, ``WaitExpired``, and ``Answered``
        with 404 if somebody deleted it meanwhile."""
        while status_of(view) not in steady:
            if status_of(view) == "error":
                raise EndedInError(_failure(noun, view, doing), code=getattr(view, "code", "") or None)
            view = self._next(noun, view, doing)
        return view

    def gone(self, noun: Noun[View], view: View | None, doing: str) -> None:
        """Returns once there is no such object any more. Raises ``WaitExpired``."""
        while view is not None:
            try:
                view = self._next(noun, view, doing)
            except Answered as error:
                if error.status != NOT_FOUND:
                    raise
                return

    def _next(self, noun: Noun[View], view: View, doing: str) -> View:
        state = status_of(view) + (f": {reason}" if (reason := getattr(view, "reason", "")) else "")
        self._spinner.update(f"{doing}: {state}")
        remaining = self._until - self._clock()
        if remaining <= 0:
            raise WaitExpired(
                f"cannot {doing} within {self._seconds:g} s: it is still {state}\n"
                f"it goes on: see `isthmus {noun.word} show {noun.key_of(view)}`"
            )
        after: int = getattr(view, "revision", 0)
        return self._api.next(noun, noun.key_of(view), after, min(remaining, POLL_SECONDS)) or view


def status_of(view: object) -> str:
    """The status of a share, snapshot or attachment; whether a pool can be used."""
    if hasattr(view, "status"):
        return str(view.status)
    if getattr(view, "error", ""):
        return "error"
    return "not reported by its host" if getattr(view, "total", 0) is None else "available"


def _failure(noun: Noun[View], view: View, doing: str) -> str:
    reason = getattr(view, "reason", "") or getattr(view, "error", "") or "no reason is known"
    told = reason if reason.startswith("cannot ") else f"cannot {doing}: {reason}"
    return f"{told}\nits host goes on trying: see `isthmus {noun.word} show {noun.key_of(view)}`"
