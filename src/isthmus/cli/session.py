"""What every verb works with, and how a function becomes a verb."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec, get_type_hints

import typer

from isthmus.cli.client import Client, Noun, View
from isthmus.cli.exits import Exit, exit_of
from isthmus.cli.find import find
from isthmus.cli.output import Format, Printer
from isthmus.cli.wait import Patience
from isthmus.model.config import Config, load_config
from isthmus.model.errors import IsthmusError

P = ParamSpec("P")

FormatOption = Annotated[
    Format | None, typer.Option("--format", "-f", metavar="FORMAT", help="table, json or value (ids, one a line)")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="say nothing but results and errors")]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="wait until it is done")]
TimeoutOption = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0, help="wait no longer than this")]
DEFAULT_TIMEOUT = 600.0
"""How long a verb waits unless it is told otherwise, in seconds."""


@dataclass(frozen=True, slots=True)
class Options:
    """What stands before the noun."""

    config: Path | None = None
    api: str | None = None
    form: Format = Format.TABLE
    quiet: bool = False


class Session:
    """One run of the program: its configuration, its connection, its output. Both are made when first used."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.out = Printer(options.form, quiet=options.quiet)

    @functools.cached_property
    def config(self) -> Config:
        """Raises ``Invalid`` for a file that cannot be read."""
        return load_config(self._options.config)

    @property
    def address(self) -> str:
        """Where the service is."""
        return self._options.api or self.config.service

    @functools.cached_property
    def api(self) -> Client:
        """Raises ``Invalid`` for an address that is none."""
        return Client(self.address)

    def find(self, noun: Noun[View], text: str, **within: str) -> View:
        """The object that the user means by ``text``. See ``find.find``."""
        return find(self.api, noun, text, within)

    def key(self, noun: Noun[View], text: str) -> str:
        """The id or name of the object that the user means by ``text``."""
        return noun.key_of(self.find(noun, text))

    def close(self) -> None:
        """The connection is closed, if there is one."""
        if "api" in self.__dict__:
            self.api.close()

    def settled(self, noun: Noun[View], view: View, steady: Sequence[str], doing: str, seconds: float) -> View:
        """Wait, with a spinner on a terminal. See ``Patience.settled``."""
        with self.out.waiting(doing) as spinner:
            return Patience(self.api, spinner, seconds).settled(noun, view, steady, doing)

    def gone(self, noun: Noun[View], view: View | None, doing: str, seconds: float) -> None:
        """Wait, with a spinner on a terminal. See ``Patience.gone``."""
        with self.out.waiting(doing) as spinner:
            Patience(self.api, spinner, seconds).gone(noun, view, doing)


def verb(
    app: typer.Typer, name: str, *examples: str
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[P, None]]:
    """Make a function the verb ``name`` of ``app``. Its docstring is its help, followed by the examples. It is given
    the session, and takes --format and --quiet besides its own options. An error of Isthmus ends it with a line or two
    and an exit code."""

    def decorate(function: Callable[Concatenate[Session, P], None]) -> Callable[P, None]:
        def command(**values: Any) -> None:
            context: typer.Context = values.pop("context")
            form, quiet = values.pop("form"), values.pop("quiet")
            before: Options = context.obj
            options = replace(before, form=form or before.form, quiet=quiet or before.quiet)
            session = Session(options)
            try:
                function(session, **values)  # type: ignore[call-arg]
            except IsthmusError as error:
                session.out.complain(error.message)
                raise typer.Exit(exit_of(error)) from error
            except KeyboardInterrupt as error:
                session.out.say("interrupted: what was asked for goes on")
                raise typer.Exit(Exit.INTERRUPTED) from error
            finally:
                session.close()

        hints = get_type_hints(function, include_extras=True)
        own = list(inspect.signature(function).parameters.values())[1:]
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [
            inspect.Parameter("context", keyword, annotation=typer.Context),
            *(parameter.replace(kind=keyword, annotation=hints[parameter.name]) for parameter in own),
            inspect.Parameter("form", keyword, annotation=FormatOption, default=None),
            inspect.Parameter("quiet", keyword, annotation=QuietOption, default=False),
        ]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        epilog = "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)
        app.command(name, help=inspect.getdoc(function), epilog=epilog)(command)
        return command  # type: ignore[return-value]

    return decorate


def noun_app(text: str) -> typer.Typer:
    """The verbs of one noun."""
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"max_content_width": 100},
    )
