"""What Isthmus asks of Keystone (Identity API v3), on loopback, in threads. Answers are as Keystone 30's were, unless a
test says otherwise: ``tests/daemon/test_keystone.py`` asks the same of a real one."""

from __future__ import annotations

import contextlib
import datetime
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from isthmus.model.config import KeystoneConfig

PASSWORD = "istest-password-of-the-service"  # noqa: S105
Answer = tuple[int, bytes]


class FakeKeystone:
    """``tokens`` are those that are good; ``answers`` come instead, by token; ``refuses`` says which credentials it
    does not want. While ``open`` is not set, nobody is answered. ``asked``: the tokens
    that it was asked about; ``reached`` is set by each."""

    def __init__(self, directory: Path, port: int) -> None:
        self.tokens: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, Answer] = {}
        self.credentials: dict[str, dict[str, Any]] = {}
        self.refuses: Callable[[dict[str, Any]], int] = lambda _: 0
        self.most = 1000
        self.may = True
        self.open = threading.Event()
        self.open.set()
        self.asked: list[str] = []
        self.reached = threading.Event()
        password = directory / "keystone-password"
        password.write_text(PASSWORD + "\n")
        self.config = KeystoneConfig(url=f"http://127.0.0.1:{port}/v3", password_file=password)

    def token(self, name: str, **said: Any) -> str:
        """A good token of this name, for an hour."""
        ends_at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
        self.tokens[name] = {
            "methods": ["password"],
            "user": {"domain": {"id": "default", "name": "Default"}, "id": "0f" * 16, "name": "alice"},
            "expires_at": ends_at.strftime("%Y-%m-%dT%H:%M:%S.000000Z"),
            "project": {"domain": {"id": "default", "name": "Default"}, "id": "ac" * 16, "name": "acme"},
            "roles": [{"id": "1" * 32, "name": "member"}],
            **said,
        }
        return name

    def validate(self, token: str) -> Answer:
        """GET /v3/auth/tokens."""
        self.asked.append(token)
        self.reached.set()
        self.open.wait(20)
        if not self.may:
            return _fault(403)
        if token in self.answers:
            return self.answers[token]
        return _body(200, {"token": self.tokens[token]}) if token in self.tokens else _fault(404)

    def listed(self, query: dict[str, list[str]]) -> Answer:
        """GET /v3/credentials."""
        if not self.may:
            return _fault(403)
        found = [one for one in self.credentials.values() if one["user_id"] in query.get("user_id", [one["user_id"]])]
        body: dict[str, Any] = {"credentials": found[: self.most], "links": {}}
        return _body(200, body | ({"truncated": True} if len(found) > self.most else {}))

    def add(self, credential: dict[str, Any]) -> Answer:
        """POST /v3/credentials."""
        if status := self.refuses(credential):
            return _fault(status)
        made = {"id": uuid.uuid4().hex, **credential}
        self.credentials[made["id"]] = made
        return _body(201, {"credential": made})

    def remove(self, credential: str) -> Answer:
        """DELETE /v3/credentials/ID."""
        return (204, b"") if self.credentials.pop(credential, None) else _fault(404)


@contextlib.contextmanager
def keystone_at(directory: Path) -> Iterator[FakeKeystone]:
    """One that listens."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    keystone = FakeKeystone(directory, server.server_port)
    server.keystone = keystone  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield keystone
    finally:
        keystone.open.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    @property
    def _keystone(self) -> FakeKeystone:
        found: FakeKeystone = self.server.keystone  # type: ignore[attr-defined]
        return found

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/v3/auth/tokens":
            self._say(self._keystone.validate(self.headers["X-Subject-Token"]))
        else:
            self._say(self._keystone.listed(parse_qs(url.query)))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.startswith("/v3/credentials"):
            self._say(self._keystone.add(body["credential"]))
        elif body["auth"]["identity"]["password"]["user"]["password"] != PASSWORD:
            self._say(_fault(401))
        else:
            ends_at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
            own = {"token": {"methods": ["password"], "expires_at": ends_at.isoformat(), "user": {}, "roles": []}}
            self._say(_body(201, own), {"X-Subject-Token": "istest-own-token"})

    def do_DELETE(self) -> None:
        self._say(self._keystone.remove(self.path.rpartition("/")[2]))

    def _say(self, answer: Answer, headers: dict[str, str] | None = None) -> None:
        status, body = answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - as the base class has it
        """Tests have nothing to read in it."""


def _body(status: int, value: Any) -> Answer:
    return status, json.dumps(value).encode()


def _fault(status: int) -> Answer:
    return _body(status, {"error": {"code": status, "message": "as it says", "title": "No"}})
