"""The documents name what the code has: error codes, configuration keys, verbs and options; and their links lead on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from isthmus.cli.main import app

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def codes() -> Iterator[str]:
    """All slugs that the code gives to an error: ``code="..."`` in a call or a class."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.keyword(arg="code", value=ast.Constant(value=str(code))):
                    yield code
                case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(code))):
                    yield code


def options(command: typer.core.TyperCommand | typer.core.TyperGroup, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every verb with its noun, and every option of its own."""
    if isinstance(command, typer.core.TyperGroup):
        for name, inner in command.commands.items():
            yield from options(inner, (*path, name))  # type: ignore[arg-type]
    else:
        yield path[-1]
    yield from (name for parameter in command.params for name in parameter.opts if name.startswith("--"))


def test_every_error_code_is_in_the_reference() -> None:
    text = (REFERENCE / "errors.md").read_text()

    assert {code for code in codes() if f"`{code}`" not in text} == set()


def test_every_verb_and_option_is_in_the_reference() -> None:
    text = (REFERENCE / "cli.md").read_text()

    assert {word for word in options(typer.main.get_command(app)) if word not in text} == set()  # type: ignore[arg-type]


def test_every_configuration_key_is_in_the_reference() -> None:
    text = (REFERENCE / "configuration.md").read_text()
    source = (ROOT / "src/isthmus/model/config.py").read_text()
    keys = set(re.findall(r'reader\.\w+\("([\w.]+)"', source))

    assert len(keys) >= 9
    assert {key for key in keys if f"| `{key}` |" not in text} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_that_exist(document: Path) -> None:
    links = LINK.findall(document.read_text())

    assert [link for link in links if not (document.parent / link).exists()] == []
