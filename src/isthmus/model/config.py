"""The configuration: one TOML file, every key optional, unknown keys refused.

host = "h1"                        # this host's name; default: the machine's
[paths]
prefix = "isthmus"                 # begins the name of everything made on the host
run = "/run/isthmus"
state = "/var/lib/isthmus"
[service]
database = "sqlite:////var/lib/isthmus/isthmus.db"
listen = "unix:/run/isthmus/api.sock"          # for this machine: or http://127.0.0.1:PORT
public = ""                                    # for users elsewhere: https://ADDRESS:PORT
agents = ""                                    # for agents elsewhere: https://ADDRESS:PORT, mutual TLS
names = []                                     # what the service is called in its certificate; default: the machine's
certificate = ""                               # PEM for `public`; default: one by Isthmus's own authority
key = ""
auth = "none"                                  # who vouches for users over TCP: none (this machine), local, keystone
users = "/etc/isthmus/users"                   # the local users
policy = "/etc/isthmus/policy.yaml"            # what differs from the default rules
[grants]
lifetime = 604800.0                            # seconds; longer than the longest outage one wants to survive
keystone = false                               # keep them in Keystone's credential store too
[keystone]
url = ""                                       # https://keystone.example.org/v3
user = "isthmus"                               # the service's own user, that may validate tokens
password_file = "/etc/isthmus/keystone-password"
project = "service"
domain = "Default"                             # of that user and project
cafile = ""
cache = 60.0                                   # seconds that a revoked token may go on
[agent]
service = "unix:/run/isthmus/api.sock"         # where the agent finds the service; default: service.listen
qmp = "/run/isthmus/qmp"                       # QMP sockets of guests: GUEST-UUID.qmp
audit = 60.0                                   # seconds between full looks at the host
[link]
network = "169.254.77.2/31"
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from isthmus.model.errors import Invalid
from isthmus.model.layout import Layout
from isthmus.model.names import HostName, parse_slug

DEFAULT_PATH = Path("/etc/isthmus/isthmus.toml")
MAX_PREFIX = 20
MIN_LIFETIME = 10.0
"""Seconds: a shorter-lived grant would end while it is being renewed."""

Word = TypeVar("Word", bound=StrEnum)


class Auth(StrEnum):
    """Who vouches for users that come over TCP."""

    NONE = "none"
    LOCAL = "local"
    KEYSTONE = "keystone"


@dataclass(frozen=True, slots=True)
class GrantConfig:
    """``lifetime`` in seconds. ``keystone``: grants are kept in Keystone's credential store too."""

    lifetime: float = 604800.0
    keystone: bool = False

    @property
    def span(self) -> datetime.timedelta:
        """The lifetime."""
        return datetime.timedelta(seconds=self.lifetime)


@dataclass(frozen=True, slots=True)
class KeystoneConfig:
    """How the service reaches Keystone. ``cache``: seconds for which what Keystone said of a token counts."""

    url: str = ""
    user: str = "isthmus"
    password_file: Path = Path("/etc/isthmus/keystone-password")
    project: str = "service"
    domain: str = "Default"
    cafile: str = ""
    cache: float = 60.0


@dataclass(frozen=True, slots=True)
class Config:
    """What the file says, with its defaults filled in."""

    host: HostName
    layout: Layout = field(default_factory=Layout)
    database: str = ""
    listen: str = ""
    service: str = ""
    qmp: Path = Path()
    audit: float = 60.0
    network: str = "169.254.77.2/31"
    public: str = ""
    agents: str = ""
    names: tuple[str, ...] = ()
    certificate: str = ""
    key: str = ""
    auth: Auth = Auth.NONE
    users: Path = Path("/etc/isthmus/users")
    policy: Path = Path("/etc/isthmus/policy.yaml")
    grants: GrantConfig = field(default_factory=GrantConfig)
    keystone: KeystoneConfig = field(default_factory=KeystoneConfig)


def load_config(path: Path | None = None) -> Config:
    """The configuration of ``path``; of the default path if that exists, else all defaults. Raises ``Invalid`` with the
    key at fault."""
    chosen = path or DEFAULT_PATH
    if path is None and not chosen.exists():
        return parse_config("")
    try:
        text = chosen.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"cannot read configuration {chosen}: {error}", field="config") from error
    return parse_config(text, str(chosen))


def parse_config(text: str, name: str = "configuration") -> Config:
    """A configuration from TOML text."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"cannot read {name}: {error}", field="config") from error
    reader = _Reader(document, name)
    layout = Layout(
        prefix=_prefix(reader.text("paths.prefix", "isthmus")),
        run=_absolute(reader.text("paths.run", "/run/isthmus"), "paths.run"),
        state=_absolute(reader.text("paths.state", "/var/lib/isthmus"), "paths.state"),
    )
    listen = reader.text("service.listen", "")
    config = with_defaults(
        Config(
            host=HostName(parse_slug(reader.text("host", machine_name()), "host")),
            layout=layout,
            database=reader.text("service.database", ""),
            listen=listen,
            service=reader.text("agent.service", ""),
            qmp=Path(reader.text("agent.qmp", "")),
            audit=reader.number("agent.audit", 60.0, least=0.1),
            network=_network(reader.text("link.network", "169.254.77.2/31")),
            public=reader.text("service.public", ""),
            agents=reader.text("service.agents", ""),
            names=reader.texts("service.names"),
            certificate=reader.text("service.certificate", ""),
            key=reader.text("service.key", ""),
            auth=reader.word("service.auth", Auth.NONE),
            users=Path(reader.text("service.users", "/etc/isthmus/users")),
            policy=Path(reader.text("service.policy", "/etc/isthmus/policy.yaml")),
            grants=GrantConfig(
                lifetime=reader.number("grants.lifetime", GrantConfig().lifetime, least=MIN_LIFETIME),
                keystone=reader.flag("grants.keystone", default=False),
            ),
            keystone=_keystone(reader),
        )
    )
    reader.finish()
    return config


def _keystone(reader: _Reader) -> KeystoneConfig:
    default = KeystoneConfig()
    return KeystoneConfig(
        url=reader.text("keystone.url", default.url),
        user=reader.text("keystone.user", default.user),
        password_file=Path(reader.text("keystone.password_file", str(default.password_file))),
        project=reader.text("keystone.project", default.project),
        domain=reader.text("keystone.domain", default.domain),
        cafile=reader.text("keystone.cafile", default.cafile),
        cache=reader.number("keystone.cache", default.cache, least=0),
    )


def with_defaults(config: Config) -> Config:
    """What is empty follows from the layout."""
    layout = config.layout
    listen = config.listen or f"unix:{layout.api_socket}"
    return replace(
        config,
        database=config.database or f"sqlite:///{layout.database}",
        listen=listen,
        service=config.service or listen,
        qmp=layout.run / "qmp" if config.qmp == Path() else config.qmp,
    )


def machine_name() -> str:
    """The machine's host name without its domain, as far as it can name a host."""
    name = socket.gethostname().split(".")[0].lower()
    return name if name and name.replace("-", "").isalnum() and name.isascii() else "localhost"


class _Reader:
    """Takes known keys out of a TOML document; what is left at the end is unknown."""

    def __init__(self, document: Mapping[str, object], name: str) -> None:
        self._name = name
        self._left = dict(_flat(document))

    def text(self, key: str, default: str) -> str:
        value = self._left.pop(key, default)
        if not isinstance(value, str) or "\n" in value or "\0" in value:
            raise Invalid(f"cannot read {self._name}: {key} must be a line of text", field=key)
        return value

    def number(self, key: str, default: float, *, least: float) -> float:
        value = self._left.pop(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
            raise Invalid(f"cannot read {self._name}: {key} must be a number of at least {least:g}", field=key)
        return float(value)

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._left.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item.isprintable() for item in value):
            raise Invalid(f"cannot read {self._name}: {key} must be a list of texts", field=key)
        return tuple(value)

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._left.pop(key, default)
        if not isinstance(value, bool):
            raise Invalid(f"cannot read {self._name}: {key} must be true or false", field=key)
        return value

    def word(self, key: str, default: Word) -> Word:
        text = self.text(key, default)
        try:
            return type(default)(text)
        except ValueError as error:
            known = ", ".join(type(default))
            raise Invalid(f"cannot read {self._name}: {key} must be one of {known}", field=key) from error

    def finish(self) -> None:
        if self._left:
            key = sorted(self._left)[0]
            raise Invalid(f"cannot read {self._name}: no such key: {key}", field=key)


def _flat(document: Mapping[str, object], prefix: str = "") -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for key, value in document.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, value))
    return found


def _prefix(text: str) -> str:
    parse_slug(text, "paths.prefix")
    if len(text) > MAX_PREFIX:
        raise Invalid(f"cannot use {text!r} as paths.prefix: longer than {MAX_PREFIX} characters", field="paths.prefix")
    return text


def _absolute(text: str, key: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or ".." in path.parts or path == Path("/"):
        raise Invalid(f"cannot use {text!r} as {key}: give an absolute path without '..'", field=key)
    return path.resolve()  # as the kernel tells the places of mounts: /var/run is a link


def _network(text: str) -> str:
    try:
        interface = ipaddress.IPv4Interface(text)
    except ValueError as error:
        raise Invalid(f"cannot use {text!r} as link.network: {error}", field="link.network") from error
    if interface.network.prefixlen != 31 or interface.ip != interface.network.network_address:
        raise Invalid(
            f"cannot use {text!r} as link.network: give the lower address of a /31, such as 169.254.77.2/31",
            field="link.network",
        )
    return text
