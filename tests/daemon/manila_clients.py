"""OpenStack's clients, unmodified, against ``isthmus up`` with a pool of its own and users of a real Keystone."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shlex
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isthmus.model.names import new_id
from lab.site import Site
from tests.daemon.keystone import PASSWORD, Keystone

VENV = Path(__file__).parents[2] / ".cache" / "clients" / "venv" / "bin"
DRIVER = Path(__file__).parent / "clients_driver.py"
SERVICE_TYPES = ("shared-file-system", "sharev2")
POOL = "p1"


@dataclass
class Answer:
    """Of one command."""

    rc: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """What ``-f json`` printed, or a snippet's ``result``."""
        return json.loads(self.out)


@dataclass
class Clients:
    """An interpreter of the clients for each user, since they read who they are once. ``ran``: the command lines that
    were run, in order, with their exit codes."""

    keystone: Keystone
    cafile: str
    processes: dict[tuple[str, str], subprocess.Popen[str]] = field(default_factory=dict)
    ran: list[tuple[str, int]] = field(default_factory=list)

    def env(self, user: str, project: str) -> dict[str, str]:
        """Whose the commands are: ``project`` "" for the whole system."""
        found = {
            "OS_AUTH_URL": self.keystone.url,
            "OS_IDENTITY_API_VERSION": "3",
            "OS_USERNAME": user,
            "OS_PASSWORD": PASSWORD,
            "OS_USER_DOMAIN_ID": "default",
            "OS_CACERT": self.cafile,
        }
        scope = {"OS_PROJECT_NAME": project, "OS_PROJECT_DOMAIN_ID": "default"} if project else {}
        return found | (scope or {"OS_SYSTEM_SCOPE": "all"})

    def _ask(self, user: str, project: str, document: dict[str, Any]) -> Answer:
        process = self.processes.get((user, project))
        if process is None:
            inherited = {name: text for name, text in os.environ.items() if not name.startswith("OS_")}
            process = subprocess.Popen(
                [str(VENV / "python"), "-W", "ignore", str(DRIVER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=inherited | self.env(user, project),
            )
            self.processes[user, project] = process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(document) + "\n")
        process.stdin.flush()
        return Answer(**json.loads(process.stdout.readline()))

    def close(self) -> None:
        """All have ended."""
        for process in self.processes.values():
            process.communicate(timeout=30)

    def run(self, line: str, *, user: str = "member-of-acme", project: str = "acme", rc: int = 0) -> Answer:
        """``openstack LINE``. Fails unless it ends with ``rc``."""
        answer = self._ask(user, project, {"argv": shlex.split(line)})
        self.ran.append((line, answer.rc))
        assert answer.rc == rc, (line, answer)
        return answer

    def json(self, line: str, **more: Any) -> Any:
        """What ``openstack LINE -f json`` says."""
        return self.run(f"{line} -f json", **more).data

    def admin(self, line: str, *, rc: int = 0) -> Answer:
        """The same as the operator."""
        return self.run(line, user="system-admin", project="", rc=rc)

    def code(self, text: str, *, user: str = "member-of-acme", project: str = "acme") -> Any:
        """What a snippet of Python leaves in ``result``. Fails if it raises."""
        answer = self._ask(user, project, {"code": text})
        assert answer.rc == 0, answer.err
        return answer.data


@asynccontextmanager
async def serving(work: Path, keystone: Keystone, database: str = "") -> AsyncIterator[tuple[Site, str, str]]:
    """A site with a pool and a guest of project acme, its public address in Keystone's catalogue; yields it, the file
    of its root certificate, and the guest's id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        public = f"https://127.0.0.1:{probe.getsockname()[1]}"
    site = Site(work, f"istest{secrets.token_hex(3)}")
    config = keystone.config
    site.config_file.write_text(
        site.config_file.read_text() + f'[service]\npublic = "{public}"\nauth = "keystone"\n'
        f'database = "{database or f"sqlite:///{work}/state/isthmus.db"}"\n'
        f'[keystone]\nurl = "{config.url}"\nuser = "{config.user}"\nproject = "{config.project}"\n'
        f'password_file = "{config.password_file}"\ncache = 5.0\n'
    )
    async with site:
        await site.pool(overcommit=1000.0)
        root = work / "root.pem"
        ders = [base64.b64decode(one) for one in (await site.call("GET", "ca"))["roots"]]
        root.write_text("".join(map(ssl.DER_cert_to_PEM_cert, ders)))
        guest = new_id()
        await site.guest(guest, project=keystone.ids["acme"], name="webserver", addresses=["192.0.2.10"])
        with catalogued(keystone, f"{public}/v2"):
            yield site, str(root), guest


@contextmanager
def catalogued(keystone: Keystone, url: str) -> Iterator[None]:
    """Keystone's catalogue says where the service is."""
    token = keystone.token("admin", system=True)
    made = []
    for kind in SERVICE_TYPES:
        service = keystone.ask("POST", "/services", {"service": {"type": kind, "name": kind}}, token)["service"]["id"]
        endpoint = {"service_id": service, "interface": "public", "url": url}
        keystone.ask("POST", "/endpoints", {"endpoint": endpoint}, token)
        made.append(service)
    try:
        yield
    finally:
        for service in made:  # its endpoints go with it
            keystone.ask("DELETE", f"/services/{service}", token=keystone.token("admin", system=True))


@contextmanager
def clients(keystone: Keystone, cafile: str) -> Iterator[Clients]:
    """Interpreters of the clients."""
    made = Clients(keystone, cafile)
    try:
        yield made
    finally:
        made.close()
