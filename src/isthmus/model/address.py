"""Where a service listens or is found: a unix socket, or a TCP address with or without TLS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from isthmus.model.errors import Invalid

MAX_UNIX_PATH = 107  # sun_path, less its final NUL


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A unix socket."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host name or IP address (without brackets) and a port; as a place to listen, port 0 lets the kernel choose."""

    host: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


Address = UnixAddress | TcpAddress


def parse_address(text: str, field: str) -> Address:
    """``unix:/PATH``, ``http://HOST:PORT`` or ``https://HOST:PORT``. Raises ``Invalid``."""
    if text.startswith("unix:/"):
        path = Path(text.removeprefix("unix:"))
        if len(bytes(path)) > MAX_UNIX_PATH:
            raise Invalid(
                f"cannot use {text!a} as {field}: a unix socket's path has at most {MAX_UNIX_PATH} bytes", field=field
            )
        return UnixAddress(path)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    plain = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme in ("http", "https") and parts.hostname and port is not None and plain:
        return TcpAddress(parts.hostname, port, parts.scheme == "https")
    raise Invalid(
        f"cannot use {text!a} as {field}: write unix:/PATH, http://127.0.0.1:PORT or https://HOST:PORT", field=field
    )
