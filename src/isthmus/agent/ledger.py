"""What an agent keeps about its grants: the best of each attachment, how far its numbers have come, and its keys.

The directory is for root alone. Losing it costs new grants, never data: documents still carry the certificates, but
without their keys they are asked for anew. Nothing here is fatal: what cannot be written is kept in memory and logged.
"""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from isthmus.model.errors import Invalid
from isthmus.model.names import AttachmentId
from isthmus.pki.request import key_pem, key_print, load_key, new_key

log = logging.getLogger(__name__)

FLOOR_DAYS = 30
"""How long the number of an attachment that left is remembered: longer than any grant of it could last by default."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One attachment. ``floor``: grants below this sequence number are refused. ``certificate``: the best grant that
    was verified (DER), b"" if none. ``left_at``: when it was gone from the document, in seconds since 1970, 0 while it
    is there. ``revoked``: the last grant was, and none has come since."""

    floor: int = 0
    certificate: bytes = b""
    left_at: float = 0
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class _Kept:
    """The file."""

    entries: dict[AttachmentId, Entry] = field(default_factory=dict)
    revoked: str | None = None


class Ledger:
    """One agent's. ``revoked``: the serial number of the host's certificate that the service revoked, None if it
    did not. ``reading``: nothing on the disk is changed: for whoever looks on."""

    def __init__(self, directory: Path, *, reading: bool = False) -> None:
        self._directory, self._reading = directory, reading
        self._path = directory / "ledger.json"
        self._keys = directory / "keys"
        self._prints: dict[AttachmentId, dict[bytes, EllipticCurvePrivateKey]] = {}
        self._dirty = False
        self.entries: dict[AttachmentId, Entry] = {}
        self.revoked: str | None = None
        self._load()

    def entry(self, attachment: AttachmentId) -> Entry:
        """What is known of an attachment."""
        return self.entries.get(attachment, Entry())

    def change(self, attachment: AttachmentId, entry: Entry) -> None:
        """This is known of it from now on; saved by ``save``."""
        if self.entries.get(attachment) != entry:
            self.entries[attachment] = entry
            self._dirty = True

    def key(self, attachment: AttachmentId) -> EllipticCurvePrivateKey:
        """A key to ask by: the one that waits for its grant, else a new one, kept in a file that root alone reads."""
        keys = self._prints.setdefault(attachment, {})
        for key in list(keys.values())[1:] if self.entry(attachment).certificate else keys.values():
            return key
        key = new_key()
        digest = key_print(key.public_key())
        keys[digest] = key
        self._write(self._key_path(attachment, digest), key_pem(key))
        return key

    def holds(self, attachment: AttachmentId, digest: bytes) -> bool:
        """The private key to this public one (its ``key_print``) is here."""
        return digest in self._prints.get(attachment, ())

    def settle(self, attachment: AttachmentId, digest: bytes) -> None:
        """The attachment's grant is on this key: its other keys are forgotten."""
        for other in [name for name in self._prints.get(attachment, {}) if name != digest]:
            self._drop_key(attachment, other)

    def keep_only(self, attachments: Collection[AttachmentId], now: float) -> None:
        """Attachments that are not among these have left: their grants and keys go, their numbers stay for a while."""
        for name in [name for name in self.entries if name not in attachments]:
            entry = self.entries[name]
            if not entry.left_at:
                self.change(name, replace(entry, certificate=b"", left_at=now))
            elif now - entry.left_at > FLOOR_DAYS * 86400:
                del self.entries[name]
                self._dirty = True
        for name in [name for name in self._prints if name not in attachments]:
            for digest in list(self._prints[name]):
                self._drop_key(name, digest)
            del self._prints[name]

    def revoke(self, serial: str | None) -> None:
        """Whether the service has revoked this host is kept at once."""
        if self.revoked != serial:
            self.revoked = serial
            self._dirty = True
            self.save()

    def save(self) -> None:
        """The file says what is known. Blocks."""
        if not self._dirty:
            return
        self._dirty = False
        self._write(self._path, msgspec.json.encode(_Kept(dict(self.entries), self.revoked)))

    def _load(self) -> None:
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
            self.entries, self.revoked = kept.entries, kept.revoked
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            log.warning("cannot read the ledger of grants %s: %s: grants are asked for anew", self._path, error)
        try:
            found = sorted(self._keys.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("cannot read the keys of grants in %s: %s", self._keys, error)
            return
        for path in found:
            if path.suffix == ".part":
                self._remove(path)
            else:
                self._load_key(path)

    def _load_key(self, path: Path) -> None:
        try:
            key = load_key(path.read_bytes())
        except OSError as error:
            log.warning("cannot read the key %s: %s", path, error)
            return
        except Invalid as error:
            log.warning("cannot use the key %s, it is removed: %s", path, error)
            self._remove(path)
            return
        attachment = AttachmentId(path.name[:36])
        self._prints.setdefault(attachment, {})[key_print(key.public_key())] = key

    def _key_path(self, attachment: AttachmentId, digest: bytes) -> Path:
        short = base64.b16encode(digest[:8]).decode().lower()
        return self._keys / f"{attachment}-{short}.pem"

    def _drop_key(self, attachment: AttachmentId, digest: bytes) -> None:
        self._prints[attachment].pop(digest, None)
        self._remove(self._key_path(attachment, digest))

    def _remove(self, path: Path) -> None:
        if self._reading:
            return
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot remove %s: %s", path, error)

    def _write(self, path: Path, content: bytes) -> None:
        """Whole or not at all, but not waiting for the disk: what a power cut takes is asked for anew."""
        if self._reading:
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # the mode is for the last of a path alone
            path.parent.mkdir(mode=0o700, exist_ok=True)
            part = path.with_name(path.name + ".part")
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(part, flags, 0o600), "wb") as file:
                file.write(content)
            part.rename(path)
        except OSError as error:
            log.warning("cannot keep %s: %s", path, error)
