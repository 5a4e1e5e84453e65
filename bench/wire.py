"""The same small works by a raw NFSv4.1 client through a gateway, and by system calls on the host's own mount: one at a
time, both from Python, which takes about 0.1 ms of each request. Everything blocks."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Protocol

from isthmus.host.sockets import socket_in
from tests.daemon.nfs_wire import NfsClient

AREA = 64 << 20
LARGE, SMALL = 512 << 10, 4096  # the client's session takes requests below 1 MiB
PORT = 2049


class Worker(Protocol):
    """A directory with one large file open. What is written is on stable storage."""

    def write(self, offset: int, data: bytes) -> None:
        """Into the file."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """From the file."""
        ...

    def create(self, name: str) -> None:
        """A new, empty file, closed again."""
        ...

    def look_up(self, name: str) -> int:
        """The size of the file of this name."""
        ...


class Through:
    """By a gateway."""

    def __init__(self, client: NfsClient, place: str, tag: str) -> None:
        self._client = client
        self._directory = client.lookup(place)
        self._file = client.open(self._directory, tag, create=True)

    def write(self, offset: int, data: bytes) -> None:
        """See ``Worker``."""
        self._client.write(self._file.handle, data, offset=offset, stateid=self._file.stateid)

    def read(self, offset: int, size: int) -> bytes:
        """See ``Worker``."""
        return self._client.read(self._file.handle, offset=offset, count=size, stateid=self._file.stateid)

    def create(self, name: str) -> None:
        """See ``Worker``."""
        self._client.create_file(self._directory, name)

    def look_up(self, name: str) -> int:
        """See ``Worker``. Two requests."""
        return self._client.attributes(self._client.lookup_in(self._directory, name)).size

    def close(self) -> None:
        """The file is closed."""
        self._client.close(self._file)


class Own:
    """By the host."""

    def __init__(self, place: Path, tag: str) -> None:
        self._place = place
        self._fd = os.open(place / tag, os.O_RDWR | os.O_CREAT | os.O_DSYNC, 0o644)

    def write(self, offset: int, data: bytes) -> None:
        """See ``Worker``."""
        os.pwrite(self._fd, data, offset)

    def read(self, offset: int, size: int) -> bytes:
        """See ``Worker``."""
        return os.pread(self._fd, size, offset)

    def create(self, name: str) -> None:
        """See ``Worker``."""
        os.close(os.open(self._place / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644))

    def look_up(self, name: str) -> int:
        """See ``Worker``."""
        return (self._place / name).stat().st_size

    def close(self) -> None:
        """The file is closed."""
        os.close(self._fd)


@contextmanager
def through(namespace: str, place: str, tag: str) -> Iterator[Through]:
    """A worker by the gateway in a network namespace, at ``place`` in its guest's name space."""
    sock = socket_in(namespace)
    with NfsClient(sock, owner=tag) as client:
        sock.connect(("127.0.0.1", PORT))
        worker = Through(client, place, tag)
        try:
            yield worker
        finally:
            worker.close()


@contextmanager
def own(place: Path, tag: str) -> Iterator[Own]:
    """A worker by the host itself."""
    worker = Own(place, tag)
    try:
        yield worker
    finally:
        worker.close()


def speeds(worker: Worker, tag: str, seconds: float) -> Mapping[tuple[str, str], float]:
    """How fast each work is done, by its name and unit. ``seconds``: for each."""
    large, small = os.urandom(LARGE), os.urandom(SMALL)
    line = itertools.cycle(range(0, AREA, LARGE))
    spots = itertools.cycle([random.randrange(AREA // SMALL) * SMALL for _ in range(1 << 14)])  # noqa: S311
    for offset in range(0, AREA, LARGE):
        worker.write(offset, large)
    made, asked = itertools.count(), itertools.count()
    found = {
        ("write 512 KiB, each synced", "MB/s"): _rate(lambda: worker.write(next(line), large), seconds) * LARGE / 1e6,
        ("read 512 KiB", "MB/s"): _rate(lambda: worker.read(next(line), LARGE), seconds) * LARGE / 1e6,
        ("write 4 KiB at random, each synced", "per s"): _rate(lambda: worker.write(next(spots), small), seconds),
        ("read 4 KiB at random", "per s"): _rate(lambda: worker.read(next(spots), SMALL), seconds),
        ("create a file", "per s"): _rate(lambda: worker.create(f"{tag}-{next(made)}"), seconds),
    }
    count = next(made)
    look = _rate(lambda: worker.look_up(f"{tag}-{next(asked) % count}"), seconds)
    return found | {("look up and stat a file", "per s"): look}


def _rate(work: Callable[[], object], seconds: float) -> float:
    """How often a second it is done."""
    began, count = perf_counter(), 0
    while (took := perf_counter() - began) < seconds:
        work()
        count += 1
    return count / took
