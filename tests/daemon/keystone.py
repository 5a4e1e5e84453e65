"""A real Keystone on loopback: SQLite, one worker, projects ``acme`` and ``other`` with a user for each role."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet

from isthmus.model.config import KeystoneConfig

VENV = Path(__file__).parents[2] / ".cache" / "keystone" / "venv" / "bin"
PASSWORD = "istest-password"  # noqa: S105 - of users that live as long as the tests
START_SECONDS = 60

CONFIG = """[DEFAULT]
use_stderr = false
log_file = {directory}/keystone.log
[database]
connection = sqlite:///{directory}/keystone.db
[fernet_tokens]
key_repository = {directory}/fernet
[credential]
key_repository = {directory}/credential
[identity]
password_hash_rounds = 4
[cache]
enabled = true
backend = dogpile.cache.memory
[oslo_policy]
enforce_new_defaults = true
"""
# OpenStack's applications read sys.argv as their own, and would take gunicorn's for it.
WSGI = """import sys
sys.argv = ["keystone"]
from keystone.server.wsgi import initialize_public_application
application = initialize_public_application()
"""


@dataclass
class Keystone:
    """One that runs, until ``stop``."""

    directory: Path
    port: int
    ids: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of API version 3."""
        return f"http://127.0.0.1:{self.port}/v3"

    @property
    def config(self) -> KeystoneConfig:
        """As the service has it."""
        password = self.directory / "password"
        password.write_text(PASSWORD + "\n")
        return KeystoneConfig(url=self.url, user="isthmus", password_file=password, project="service")

    def start(self) -> None:
        """It answers."""
        environment = {**os.environ, "OS_KEYSTONE_CONFIG_FILES": str(self.directory / "keystone.conf")}
        argv = [str(VENV / "gunicorn"), "-w", "1", "--threads", "1", "-b", f"127.0.0.1:{self.port}", "wsgi:application"]
        with (self.directory / "gunicorn.log").open("ab") as log:
            self.process = subprocess.Popen(argv, cwd=self.directory, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(self.url, trust_env=False, timeout=30).status_code == 200:
                    return
            assert self.process.poll() is None, (self.directory / "gunicorn.log").read_text()[-3000:]
            time.sleep(0.2)
        pytest.fail("Keystone does not answer")

    def stop(self) -> None:
        """It is gone."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)
            self.process = None

    def ask(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        """The answer of its API, as the admin unless another token is given."""
        headers = {"X-Auth-Token": token or self.token("admin", system=True)}
        answer = httpx.request(method, f"{self.url}{path}", json=body, headers=headers, trust_env=False, timeout=30)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def token(self, user: str, project: str = "", *, system: bool = False) -> str:
        """A new token of the user."""
        scope: dict[str, Any] | None = {"system": {"all": True}} if system else None
        if project:
            scope = {"project": {"name": project, "domain": {"id": "default"}}}
        identity = {
            "methods": ["password"],
            "password": {"user": {"name": user, "domain": {"id": "default"}, "password": PASSWORD}},
        }
        auth: dict[str, Any] = {"identity": identity, "scope": scope or "unscoped"}
        answer = httpx.post(f"{self.url}/auth/tokens", json={"auth": auth}, trust_env=False, timeout=30)
        assert answer.status_code == 201, answer.text
        return answer.headers["x-subject-token"]

    def application_token(self, user: str, project: str, rules: list[dict[str, str]] | None = None) -> str:
        """A token of a new application credential of the user's, with access rules if there are any."""
        wanted: dict[str, Any] = {
            "name": f"istest-{secrets.token_hex(4)}",
            **({"access_rules": rules} if rules else {}),
        }
        place = f"/users/{self.ids[user]}/application_credentials"
        made = self.ask("POST", place, {"application_credential": wanted}, self.token(user, project))
        credential = {name: made["application_credential"][name] for name in ("id", "secret")}
        auth = {"identity": {"methods": ["application_credential"], "application_credential": credential}}
        answer = httpx.post(f"{self.url}/auth/tokens", json={"auth": auth}, trust_env=False, timeout=30)
        assert answer.status_code == 201, answer.text
        return answer.headers["x-subject-token"]

    def revoke(self, token: str) -> None:
        """The token is good no more."""
        headers = {"X-Auth-Token": self.token("admin", system=True), "X-Subject-Token": token}
        answer = httpx.delete(f"{self.url}/auth/tokens", headers=headers, trust_env=False, timeout=30)
        assert answer.status_code == 204


@pytest.fixture(scope="session")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    """Shared by all tests of the session: whoever stops it starts it again."""
    with running(tmp_path_factory.mktemp("keystone")) as made:
        yield made


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Keystone]:
    """One in ``directory``, with projects and people."""
    (directory / "keystone.conf").write_text(CONFIG.format(directory=directory))
    (directory / "wsgi.py").write_text(WSGI)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = Keystone(directory, port)
    for repository in ("fernet", "credential"):
        _make_keys(directory / repository)
    _manage(made, "db_sync")
    _manage(made, "bootstrap", "--bootstrap-password", PASSWORD, "--bootstrap-public-url", made.url)
    try:
        made.start()
        _people(made)
        yield made
    finally:
        made.stop()


def _make_keys(repository: Path) -> None:
    """As ``keystone-manage fernet_setup`` makes them, which takes seconds: the next key, and the one in use."""
    repository.mkdir(mode=0o700)
    for number in range(2):
        (repository / str(number)).touch(mode=0o600)
        (repository / str(number)).write_bytes(Fernet.generate_key())


def _manage(made: Keystone, *arguments: str) -> None:
    config = str(made.directory / "keystone.conf")
    subprocess.run(
        [str(VENV / "keystone-manage"), "--config-file", config, *arguments],
        check=True,
        capture_output=True,
        timeout=120,
    )


def _people(made: Keystone) -> None:
    """Projects, and users whose names say what they may: ``member-of-acme``, ``system-reader``; the service's own."""
    token = made.token("admin", system=True)
    roles = {role["name"]: role["id"] for role in made.ask("GET", "/roles", token=token)["roles"]}
    for name in ("acme", "other", "service"):
        body = {"project": {"name": name, "domain_id": "default"}}
        made.ids[name] = made.ask("POST", "/projects", body, token)["project"]["id"]
    wanted = [
        (f"{role}-of-{project}", project, role)
        for project in ("acme", "other")
        for role in ("reader", "member", "manager", "admin")
    ]
    wanted += [("isthmus", "service", "admin"), ("validator", "service", "service")]
    wanted += [("system-admin", "", "admin"), ("system-reader", "", "reader")]
    for name, project, role in wanted:
        body = {"user": {"name": name, "domain_id": "default", "password": PASSWORD}}
        user = made.ids[name] = made.ask("POST", "/users", body, token)["user"]["id"]
        place = f"/projects/{made.ids[project]}" if project else "/system"
        made.ask("PUT", f"{place}/users/{user}/roles/{roles[role]}", token=token)
