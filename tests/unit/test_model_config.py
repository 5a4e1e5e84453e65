"""The configuration file: defaults that follow from one another, and what is refused by the key at fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.model.config import load_config, parse_config
from isthmus.model.errors import Invalid


def test_all_is_optional() -> None:
    config = parse_config("")
    assert config.layout.run == Path("/run/isthmus")
    assert config.database == "sqlite:////var/lib/isthmus/isthmus.db"
    assert config.listen == config.service == "unix:/run/isthmus/api.sock"
    assert config.qmp == Path("/run/isthmus/qmp")


def test_the_rest_follows_from_the_layout() -> None:
    config = parse_config('host = "h1"\n[paths]\nprefix = "p"\nrun = "/run/p"\nstate = "/srv/p"\n')
    assert (config.host, config.layout.prefix, config.qmp) == ("h1", "p", Path("/run/p/qmp"))
    assert config.database == "sqlite:////srv/p/isthmus.db"


def test_paths_are_those_that_the_kernel_tells(tmp_path: Path) -> None:
    """A mount below a symbolic link is listed by its true path, and must be known by it."""
    (tmp_path / "link").symlink_to(tmp_path / "true")
    config = parse_config(f'[paths]\nrun = "{tmp_path}/link/isthmus"\n')
    assert config.layout.run == (tmp_path / "true" / "isthmus").resolve()


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("host = 1", "host"),
        ('host = "../x"', "host"),
        ('[paths]\nrun = "run"', "paths.run"),
        ('[paths]\nrun = "/"', "paths.run"),
        ('[paths]\nstate = "/a/../b"', "paths.state"),
        ('[paths]\nprefix = "a-name-that-is-much-too-long"', "paths.prefix"),
        ("[agent]\naudit = 0", "agent.audit"),
        ("[agent]\naudit = nan", "agent.audit"),
        ("[agent]\naudit = true", "agent.audit"),
        ('[link]\nnetwork = "169.254.77.3/31"', "link.network"),
        ('[link]\nnetwork = "169.254.77.2/30"', "link.network"),
        ('[link]\nnetwork = "x"', "link.network"),
        ("[agent]\nadit = 1", "agent.adit"),
        ("host = ", "config"),
    ],
)
def test_a_wrong_key_is_named(text: str, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_config(text)
    assert caught.value.field == field


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot read configuration"):
        load_config(tmp_path / "absent.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff")
    with pytest.raises(Invalid, match="cannot read configuration"):
        load_config(tmp_path / "binary.toml")
