"""Secrets of tenants in the database: sealed by a key that is not in it."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from isthmus.model.errors import Unavailable


class Seal:
    """Fernet (AES-128-CBC with HMAC-SHA-256) by one key. Services that share a database share it."""

    def __init__(self, key: bytes) -> None:
        """Raises ``Unavailable`` for what is no key."""
        try:
            self._fernet = Fernet(key)
        except ValueError as error:
            raise Unavailable("cannot use the seal: its key file holds no key", code="seal-unavailable") from error

    @classmethod
    def at(cls, path: Path) -> Seal:
        """By the key in this file, which is made if it is not there, readable by its owner alone."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return cls(path.read_bytes().strip())
        with os.fdopen(descriptor, "wb") as made:
            made.write(Fernet.generate_key())
            made.flush()
            os.fsync(made.fileno())
        return cls(path.read_bytes())

    def close(self, text: str) -> str:
        """The text, sealed; "" stays what it is."""
        return self._fernet.encrypt(text.encode()).decode() if text else ""

    def open(self, sealed: str) -> str:
        """The text. Raises ``Unavailable`` for one that another key sealed."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode() if sealed else ""
        except InvalidToken as error:
            raise Unavailable(
                "cannot read a sealed secret: the seal's key is another than that which sealed it",
                code="seal-unavailable",
            ) from error
