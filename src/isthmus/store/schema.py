"""The tables. The migrations make them; a test holds both to each other."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from isthmus.model.attachment import Access, Mode
from isthmus.model.guest import GuestState
from isthmus.model.share import Filesystem, Power
from isthmus.model.status import AttachmentStatus, ShareStatus, SnapshotStatus
from isthmus.store import rows

# Names of constraints that both databases share, so that a migration can speak of them.
METADATA = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Word(sa.TypeDecorator[StrEnum]):
    """A StrEnum, kept as its text."""

    impl = sa.String
    cache_ok = True

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__()
        self.words = words

    def process_bind_param(self, value: StrEnum | None, _dialect: sa.Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, _dialect: sa.Dialect) -> StrEnum | None:
        return None if value is None else self.words(value)


class Instant(sa.TypeDecorator[datetime.datetime]):
    """A point in time, kept as microseconds since 1970 in UTC: sorts alike on every database."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime.datetime | None, _dialect: sa.Dialect) -> int | None:
        return None if value is None else (value - rows.EPOCH) // datetime.timedelta(microseconds=1)

    def process_result_value(self, value: int | None, _dialect: sa.Dialect) -> datetime.datetime | None:
        return None if value is None else rows.EPOCH + datetime.timedelta(microseconds=value)


class Powers(sa.TypeDecorator[Mapping[Filesystem, frozenset[Power]]]):
    """What a pool's file systems are able to do, as JSON."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: Mapping[Filesystem, frozenset[Power]] | None, _dialect: sa.Dialect) -> Any:
        return {str(name): sorted(powers) for name, powers in (value or {}).items()}

    def process_result_value(self, value: Any, _dialect: sa.Dialect) -> Mapping[Filesystem, frozenset[Power]]:
        return {Filesystem(name): frozenset(map(Power, powers)) for name, powers in value.items()}


class Sizes(sa.TypeDecorator[Mapping[Filesystem, int]]):
    """Bytes by file system, as JSON."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: Mapping[Filesystem, int] | None, _dialect: sa.Dialect) -> Any:
        return {str(name): size for name, size in (value or {}).items()}

    def process_result_value(self, value: Any, _dialect: sa.Dialect) -> Mapping[Filesystem, int]:
        return {Filesystem(name): size for name, size in value.items()}


class Words(sa.TypeDecorator[frozenset[str]]):
    """A set of short texts, as JSON."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: frozenset[str] | None, _dialect: sa.Dialect) -> Any:
        return sorted(value or ())

    def process_result_value(self, value: Any, _dialect: sa.Dialect) -> frozenset[str]:
        return frozenset(value)


class Lines(sa.TypeDecorator[tuple[str, ...]]):
    """Short texts in their order, as JSON."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, _dialect: sa.Dialect) -> Any:
        return list(value or ())

    def process_result_value(self, value: Any, _dialect: sa.Dialect) -> tuple[str, ...]:
        return tuple(value)


def _text(name: str, *arguments: Any, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.String, *arguments, nullable=False, **options)


def _number(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean, nullable=False)


def _word(name: str, words: type[StrEnum]) -> sa.Column[Any]:
    return sa.Column(name, Word(words), nullable=False)


def _key(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.String, primary_key=True)


def _life() -> tuple[sa.Column[Any], ...]:
    return (_number("revision"), sa.Column("created_at", Instant, nullable=False))


COUNTER = sa.Table(
    "counter",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    _number("revision"),
)
HOSTS = sa.Table(
    "hosts",
    METADATA,
    _key("name"),
    _number("desired"),
    _number("applied"),
    sa.Column("seen_at", Instant),
    *_life(),
)
POOLS = sa.Table(
    "pools",
    METADATA,
    _key("name"),
    _text("host", sa.ForeignKey("hosts.name"), index=True),
    _text("driver"),
    _text("path"),
    sa.Column("overcommit", sa.Float, nullable=False),
    _number("reserve"),
    sa.Column("total", sa.BigInteger),
    sa.Column("free", sa.BigInteger),
    sa.Column("powers", Powers, nullable=False),
    sa.Column("minimum", Sizes, nullable=False),
    _text("error"),
    *_life(),
)
TYPES = sa.Table(
    "share_types",
    METADATA,
    _key("name"),
    _word("filesystem", Filesystem),
    _flag("checksums"),
    *_life(),
)
SHARES = sa.Table(
    "shares",
    METADATA,
    _key("id"),
    _text("project", index=True),
    _text("pool", sa.ForeignKey("pools.name"), index=True),
    _text("type", sa.ForeignKey("share_types.name"), index=True),
    _word("filesystem", Filesystem),
    _flag("checksums"),
    _number("size"),
    _word("status", ShareStatus),
    _text("name"),
    _text("reason"),
    _text("code"),
    _number("actual"),
    _number("used"),
    _flag("made"),
    # No foreign keys: what a share once was a copy of, or was reverted to, may be deleted.
    sa.Column("origin_share", sa.String, index=True),
    sa.Column("origin_snapshot", sa.String),
    sa.Column("revert_to", sa.String),
    _number("reverts"),
    _number("reverted"),
    sa.Column("public", sa.Boolean, nullable=False, index=True),
    _number("wanted"),
    *_life(),
)
SNAPSHOTS = sa.Table(
    "snapshots",
    METADATA,
    _key("id"),
    _text("share", sa.ForeignKey("shares.id"), index=True),
    _text("project", index=True),
    _word("status", SnapshotStatus),
    _text("name"),
    _text("reason"),
    _text("code"),
    _flag("made"),
    _number("wanted"),
    *_life(),
)
GUESTS = sa.Table(
    "guests",
    METADATA,
    _key("id"),
    _text("project", index=True),
    _text("host", sa.ForeignKey("hosts.name"), index=True),
    _text("name"),
    _flag("static"),
    sa.Column("state", Word(GuestState)),
    sa.Column("plugs", Words, nullable=False),
    sa.Column("last_slot", sa.Integer, nullable=False),
    *_life(),
)
ATTACHMENTS = sa.Table(
    "attachments",
    METADATA,
    _key("id"),
    _text("share", sa.ForeignKey("shares.id"), index=True),
    _text("guest", sa.ForeignKey("guests.id")),
    _text("project", index=True),
    sa.Column("slot", sa.Integer, nullable=False),
    _text("place"),
    _word("mode", Mode),
    _text("mode_reason"),
    _word("access", Access),
    _word("status", AttachmentStatus),
    _text("reason"),
    _text("code"),
    _text("user"),
    _number("sequence"),
    _text("barred"),
    _number("wanted"),
    *_life(),
    sa.UniqueConstraint("guest", "share"),
    sa.UniqueConstraint("guest", "slot"),
    sa.UniqueConstraint("guest", "place"),
)
EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    _text("kind"),
    _text("subject", index=True),
    _text("message"),
    _text("project"),
    _text("before"),
    _text("after"),
    *_life(),
    sa.Index(None, "project", "id"),
    sqlite_autoincrement=True,
)

GRANTS = sa.Table(
    "grants",
    METADATA,
    _key("serial"),
    _text("attachment", index=True),
    _text("share"),
    _text("guest"),
    _text("project", index=True),
    _text("host", index=True),
    _number("sequence"),
    sa.Column("certificate", sa.LargeBinary, nullable=False),
    sa.Column("not_after", Instant, nullable=False, index=True),
    sa.Column("ended_at", Instant),
    _text("reason"),
    _text("credential"),
    *_life(),
)
CERTIFICATES = sa.Table(
    "certificates",
    METADATA,
    _key("serial"),
    _text("host", index=True),
    sa.Column("not_after", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    _text("reason"),
    *_life(),
)
TOKENS = sa.Table(
    "tokens",
    METADATA,
    _key("digest"),
    _text("host", index=True),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("used_at", Instant),
    _flag("replace"),
    *_life(),
)
AUTHORITIES = sa.Table(
    "authorities",
    METADATA,
    _key("fingerprint"),
    sa.Column("certificate", sa.LargeBinary, nullable=False),
    sa.Column("not_after", Instant, nullable=False),
    *_life(),
)
# Append-only: the migration's triggers refuse to change or delete what is in it.
AUDIT = sa.Table(
    "audit",
    METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    _text("request", index=True),
    _text("way"),
    _text("user", index=True),
    _text("name"),
    _text("project", index=True),
    _text("host"),
    _text("address"),
    _text("action"),
    sa.Column("targets", Lines, nullable=False),
    _text("outcome"),
    sa.Column("created_at", Instant, nullable=False),
    sqlite_autoincrement=True,
)

TABLES: Mapping[type[Any], sa.Table] = {
    rows.HostRow: HOSTS,
    rows.PoolRow: POOLS,
    rows.TypeRow: TYPES,
    rows.ShareRow: SHARES,
    rows.SnapshotRow: SNAPSHOTS,
    rows.GuestRow: GUESTS,
    rows.AttachmentRow: ATTACHMENTS,
    rows.GrantRow: GRANTS,
    rows.CertificateRow: CERTIFICATES,
    rows.TokenRow: TOKENS,
    rows.AuthorityRow: AUTHORITIES,
}
