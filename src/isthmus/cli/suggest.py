"""Completion of names and ids from the API. It never waits for a service that is away, and never complains."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from isthmus.cli.client import Client, Noun
from isthmus.model.config import load_config
from isthmus.model.errors import IsthmusError

Suggest = Callable[[typer.Context, str], list[tuple[str, str]]]


def suggest(noun: Noun[Any]) -> Suggest:
    """A completer for arguments that name an object of this kind: its names first, then its ids."""

    def complete(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
        try:
            with contextlib.closing(_client(context)) as client:
                views = client.all(noun)
        except IsthmusError:
            return []  # a shell that completes has no place for errors
        return [found for view in views for found in _words(noun, view) if found[0].startswith(incomplete)]

    return complete


def _client(context: typer.Context) -> Client:
    given = context.find_root().params
    config, api = given.get("config"), given.get("api")
    return Client(api or load_config(Path(config) if config else None).service)


def _words(noun: Noun[Any], view: Any) -> Iterator[tuple[str, str]]:
    name, key = getattr(view, "name", ""), noun.key_of(view)
    status = str(getattr(view, "status", "") or getattr(view, "state", "") or "")
    if name and name.isprintable():
        yield name, status
    if key != name:
        yield key, " ".join(part for part in (name if name.isprintable() else "", status) if part)
