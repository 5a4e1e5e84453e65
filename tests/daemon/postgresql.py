"""A PostgreSQL server of the tests' own: Debian's, as user postgres, on a unix socket, without TCP or syncs."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
OWNER = "postgres"


def _run(program: str, *arguments: str) -> None:
    path = PROGRAMS / program
    if not path.exists():
        pytest.fail(f"{path} is missing: apt-get install postgresql-15")
    as_owner = OWNER if os.geteuid() == 0 else None
    subprocess.run([path, *arguments], check=True, user=as_owner, cwd="/", capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Path]:
    """The directory of the server's socket."""
    home = Path(tempfile.mkdtemp(prefix="istest-pg-", dir="/tmp"))
    if os.geteuid() == 0:
        shutil.chown(home, OWNER, OWNER)
    data = str(home / "data")
    try:
        _run("initdb", "-D", data, "-A", "trust", "-U", "isthmus", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        settings = f"-k {home} -c listen_addresses='' -c fsync=off -c shared_buffers=16MB -c max_connections=50"
        # A log file of its own: the server must not hold the pipe that its starter reads.
        _run("pg_ctl", "-D", data, "-w", "-o", settings, "-l", str(home / "log"), "start")
        try:
            yield home
        finally:
            _run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(home)


@pytest.fixture
def url(postgresql: Path) -> str:
    """An empty database."""
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(host=str(postgresql), user="isthmus", dbname="postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0'.encode())
    return f"postgresql+psycopg://isthmus@/{name}?host={postgresql}"
