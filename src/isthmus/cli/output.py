"""Results on standard output, talk on standard error.

Tables are for people and may change; ``json`` is the API's objects, ``value`` their ids (or names), one a line. Nothing
that a tenant or a program wrote reaches the terminal with control characters in it.
"""

from __future__ import annotations

import contextlib
import datetime
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TextIO

import msgspec

from isthmus.cli.client import Noun, View
from isthmus.cli.wait import Spinner

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

SHORT_ID = 8


class Format(StrEnum):
    """How results are written."""

    TABLE = "table"
    JSON = "json"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Column(Generic[View]):
    """One column of a list, one line of a single object. ``right``: numbers."""

    title: str
    cell: Callable[[View], str]
    right: bool = False


Columns = tuple[Column[View], ...]

_STYLES = {
    "available": "green",
    "attached": "green",
    "running": "green",
    "error": "bold red",
    "lost": "bold red",
    "orphan": "yellow",
    "missing": "yellow",
    "unknown": "yellow",
    "waiting": "cyan",
    "creating": "yellow",
    "extending": "yellow",
    "shrinking": "yellow",
    "reverting": "yellow",
    "deleting": "yellow",
    "attaching": "yellow",
    "detaching": "yellow",
}


class Printer:
    """Writes results and talk. ``quiet`` keeps all talk but errors back."""

    def __init__(self, form: Format, *, quiet: bool, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.form, self.quiet = form, quiet
        self._out, self._err = out or sys.stdout, err or sys.stderr

    def many(self, noun: Noun[View], views: Sequence[View], columns: Columns[View]) -> None:
        """All objects of a list."""
        match self.form:
            case Format.JSON:
                self._json(views)
            case Format.VALUE:
                self.lines(noun.key_of(view) for view in views)
            case Format.TABLE:
                rows = [[column.cell(view) for column in columns] for view in views]
                right = {column.title for column in columns if column.right}
                self.table([column.title for column in columns], rows, right)

    def one(self, noun: Noun[View], view: View, fields: Columns[View]) -> None:
        """One object."""
        match self.form:
            case Format.JSON:
                self._json(view)
            case Format.VALUE:
                self.lines([noun.key_of(view)])
            case Format.TABLE:
                width = max(len(field.title) for field in fields)
                console = self._console()
                for field in fields:
                    value = field.cell(view)
                    if value:
                        line = self._styled("", "")
                        line.append(f"{field.title:<{width}}  ", "dim")
                        line.append(harmless(value), _STYLES.get(value, ""))
                        console.print(line, soft_wrap=True)

    def document(self, document: object, values: Sequence[str]) -> None:
        """What is no object of the API: as JSON, or its values one a line."""
        if self.form is Format.JSON:
            self._json(document)
        else:
            self.lines(values)

    def table(self, titles: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = frozenset()) -> None:
        """Rows below their titles, those in ``right`` aligned to the right; titles alone if there are no rows. Long
        lines are left to the terminal to wrap, so that what is copied from one is whole."""
        from rich.cells import cell_len  # noqa: PLC0415 - --help and json do not need it

        cells = [[title.upper() for title in titles], *([harmless(cell) for cell in row] for row in rows)]
        widths = [max(cell_len(row[index]) for row in cells) for index in range(len(titles))]
        console = self._console()
        for number, row in enumerate(cells):
            line = self._styled("", "")
            for index, cell in enumerate(row):
                gap = " " * (widths[index] - cell_len(cell))
                line.append(gap if titles[index] in right else "")
                line.append(cell, _STYLES.get(cell, "") if number else "bold")
                line.append("  " if titles[index] in right else gap + "  ")
            line.rstrip()
            console.print(line, soft_wrap=True)

    def line(self, view: msgspec.Struct, key: str, text: str) -> None:
        """One object of a stream, at once."""
        match self.form:
            case Format.JSON:
                self.lines([msgspec.json.encode(view).decode()])
            case Format.VALUE:
                self.lines([key])
            case Format.TABLE:
                self.lines([text])
        self._out.flush()

    def say(self, text: str) -> None:
        """Talk: what a person wants to know and a program does not."""
        if not self.quiet:
            print(harmless(text, keep="\n"), file=self._err)

    def complain(self, text: str) -> None:
        """An error."""
        print("isthmus: " + harmless(text, keep="\n"), file=self._err)

    @contextlib.contextmanager
    def waiting(self, doing: str) -> Iterator[Spinner]:
        """Shows what is waited for; nothing but on a terminal."""
        if self.quiet or not self._err.isatty():
            yield _Still()
            return
        from rich.console import Console  # noqa: PLC0415 - for terminals only

        with Console(file=self._err).status(self._styled(doing, "")) as status:
            yield _Turning(lambda text: status.update(self._styled(harmless(text), "")))

    def _json(self, value: object) -> None:
        self.lines([msgspec.json.format(msgspec.json.encode(value), indent=2).decode()])

    def lines(self, lines: Iterable[str]) -> None:
        """Results as they are."""
        for line in lines:
            print(line if self.form is Format.JSON else harmless(line), file=self._out)

    def _console(self) -> Console:
        from rich.console import Console  # noqa: PLC0415 - see above

        return Console(file=self._out, highlight=False)

    @staticmethod
    def _styled(text: str, style: str) -> Text:
        from rich.text import Text  # noqa: PLC0415 - see above

        return Text(text, style)


class _Still:
    def update(self, text: str) -> None:
        """Nobody looks."""


class _Turning:
    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    def update(self, text: str) -> None:
        """Show it."""
        self._show(text)


def harmless(text: str, keep: str = "") -> str:
    """The text with all that a terminal would act upon written as escapes."""
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def size(number: int | None) -> str:
    """Bytes for a person, in powers of 1024: ``10 GiB``, ``1.5 TiB``; ``-`` if unknown."""
    if number is None:
        return "-"
    amount, unit = float(number), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.1f}".removesuffix(".0") + f" {unit}"


def when(moment: datetime.datetime | None) -> str:
    """A time in UTC, to the second; ``never`` if there is none."""
    return "never" if moment is None else moment.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def short(key: str) -> str:
    """The beginning of an id: enough to name it where there are few."""
    return key[:SHORT_ID]
