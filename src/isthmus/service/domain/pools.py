"""Pools and share types, and whether a pool can keep what is asked of it."""

from __future__ import annotations

import math
from pathlib import PurePosixPath

from isthmus.model.errors import Conflict, Detail, Exhausted, Invalid, Refused, Unavailable
from isthmus.model.names import MAX_SHARE_SIZE, MIB, HostName, PoolName, TypeName, parse_slug
from isthmus.model.share import Filesystem, Power
from isthmus.service.domain.hosts import listed
from isthmus.store.records import LeftRow
from isthmus.store.rows import CopyRow, HostRow, PoolRow, ShareRow, TypeRow
from isthmus.store.tx import ReadTx, Tx

DEFAULT_TYPE = "default"
MAX_OVERCOMMIT = 1000.0
_DRIVERS = ("local",)
_MAX_PATH = 1024


def register_pool(
    tx: Tx, *, name: str, host: str, path: str, driver: str = "local", overcommit: float = 1.0, reserve: int = 0
) -> PoolRow:
    """The pool is known. The same pool again is success; another of this name or place is ``Conflict``."""
    if driver not in _DRIVERS:
        raise Invalid(f"cannot use this driver: choose one of {', '.join(_DRIVERS)}", field="driver")
    wanted = PoolRow(
        name=PoolName(parse_slug(name, "name")),
        host=HostName(parse_slug(host, "host")),
        driver=driver,
        path=_path(path),
        overcommit=_overcommit(overcommit),
        reserve=_reserve(reserve),
    )
    tx.need(HostRow, wanted.host)
    known = tx.get(PoolRow, wanted.name)
    if known and _identity(known) == _identity(wanted):
        return known
    if known:
        raise Conflict(
            f"cannot register pool {name}: the name belongs to {known.driver} pool {known.path} on host {known.host}",
            code="name-taken",
            detail={"pool": known.name},
        )
    _refuse_nested(tx, wanted)
    pool = tx.add(wanted, "registered")
    tx.wake(pool.host)
    return pool


def update_pool(
    tx: Tx, name: str, *, overcommit: float | None = None, reserve: int | None = None, backups: str | None = None
) -> PoolRow:
    """The pool promises by these rules from now on. What it has promised already, it keeps. ``backups``: the pool on
    the same host that backups of its shares go to from now on, "" for none. Raises ``Invalid``, ``NotFound``."""
    pool = tx.need(PoolRow, name)
    changed = tx.change(
        pool,
        overcommit=pool.overcommit if overcommit is None else _overcommit(overcommit),
        reserve=pool.reserve if reserve is None else _reserve(reserve),
    )
    if changed is not pool:
        tx.tell(changed, f"overcommit is {changed.overcommit:g}, reserve is {changed.reserve} bytes")
        tx.wake(pool.host)
    if backups is not None:
        changed = tx.change(changed, backups=_backups(tx, changed, backups))
    return changed


def remove_pool(tx: Tx, name: str) -> None:
    """The pool is no longer known; what is on its host stays there. Raises ``Conflict`` while it has shares."""
    pool = tx.need(PoolRow, name)
    shares = [share.id for share in tx.all(ShareRow, pool=name)]
    copies = [copy.id for copy in tx.all(CopyRow, pool=name)]
    if shares or copies:
        raise Conflict(
            f"cannot remove pool {name}: it has {listed('share', shares)} and {listed('backup', copies)}: "
            "delete these first",
            code="pool-in-use",
            detail={"pool": name, "shares": len(shares), "copies": len(copies)},
        )
    for other in tx.all(PoolRow, backups=name):
        tx.change(other, backups="")
    for left in tx.all(LeftRow, pool=name):
        tx.remove(left)
    tx.remove(pool)
    tx.wake(pool.host)


def register_type(tx: Tx, *, name: str, filesystem: Filesystem = Filesystem.BTRFS, checksums: bool = False) -> TypeRow:
    """The share type is known. The same again is success, another of this name ``Conflict``."""
    name = TypeName(parse_slug(name, "name"))
    if checksums and filesystem != Filesystem.BTRFS:
        raise Invalid(f"cannot make type {name}: {filesystem} keeps no data checksums, btrfs does", field="checksums")
    known = tx.get(TypeRow, name)
    if known and (known.filesystem, known.checksums) != (filesystem, checksums):
        raise Conflict(f"cannot make type {name}: there is another of this name", code="name-taken")
    return known or tx.add(TypeRow(name, filesystem, checksums), "registered")


def remove_type(tx: Tx, name: str) -> None:
    """The share type is no longer offered. Raises ``Conflict`` while shares are of it, and for the built-in one."""
    kind = tx.need(TypeRow, name)
    shares = [share.id for share in tx.all(ShareRow, type=name)]
    if name == DEFAULT_TYPE or shares:
        cause = "it is built in" if name == DEFAULT_TYPE else f"{listed('share', shares)} are of it: delete these first"
        raise Conflict(f"cannot remove type {name}: {cause}", code="type-in-use", detail={"type": name})
    tx.remove(kind)


def check_power(pool: PoolRow, filesystem: Filesystem, power: Power, doing: str) -> None:
    """Raise ``Refused`` unless the pool's shares of this file system have the power; ``doing`` begins the sentence."""
    check_reported(pool, doing)
    check_filesystem(pool, filesystem, doing)
    if power not in pool.powers[filesystem]:
        raise Refused(
            f"cannot {doing}: {filesystem} in pool {pool.name} has no {power}",
            code="no-such-power",
            detail={"pool": pool.name, "filesystem": str(filesystem), "power": str(power)},
        )


def check_filesystem(pool: PoolRow, filesystem: Filesystem, doing: str) -> None:
    """Raise ``Refused`` unless the pool's host can make this file system."""
    if filesystem not in pool.powers:
        able = ", ".join(sorted(pool.powers)) or "none"
        raise Refused(
            f"cannot {doing}: host {pool.host} of pool {pool.name} cannot make {filesystem} (it can make: {able})",
            code="no-such-filesystem",
            detail={"pool": pool.name, "filesystem": str(filesystem)},
        )


def check_reported(pool: PoolRow, doing: str) -> None:
    """Raise ``Unavailable`` unless the pool's host has reported that the pool can be used."""
    if pool.error:
        cause = f"pool {pool.name} cannot be used: {pool.error}"
    elif pool.total is None or pool.free is None:
        cause = f"host {pool.host} has not reported pool {pool.name} yet: is its agent running?"
    else:
        return
    raise Unavailable(f"cannot {doing}: {cause}", code="pool-unavailable", detail={"pool": pool.name})


def check_room(tx: ReadTx, pool: PoolRow, more: int, doing: str) -> None:
    """Raise ``Exhausted`` unless the pool can promise ``more`` bytes. True until the end of a writing transaction."""
    check_reported(pool, doing)
    total, free = pool.total or 0, pool.free or 0
    limit = int(max(total - pool.reserve, 0) * pool.overcommit)
    promised = tx.promised(pool.name)
    facts: Detail = {"pool": pool.name, "limit": limit, "promised": promised, "asked": more, "free": free}
    if promised + more > limit:
        raise Exhausted(
            f"cannot {doing}: pool {pool.name} may promise {max(limit - promised, 0) // MIB} MiB more, "
            f"not {more // MIB} MiB",
            code="pool-full",
            detail=facts,
        )
    if free <= pool.reserve:
        raise Exhausted(
            f"cannot {doing}: pool {pool.name} has {free // MIB} MiB free, "
            f"of which {pool.reserve // MIB} MiB are reserved",
            code="pool-full",
            detail=facts,
        )


def check_form(pool: PoolRow, filesystem: Filesystem, *, checksums: bool, size: int, doing: str) -> None:
    """Raise ``Unavailable`` or ``Refused`` unless the pool can be used and makes such file systems, ``Invalid`` if not
    that small."""
    check_reported(pool, doing)
    check_filesystem(pool, filesystem, doing)
    if checksums:
        check_power(pool, filesystem, Power.CHECKSUMS, doing)
    check_minimum(pool, filesystem, size)


def check_minimum(pool: PoolRow, filesystem: Filesystem, size: int) -> None:
    """Raise ``Invalid`` if the file system cannot be made that small."""
    least = pool.minimum.get(filesystem, 0)
    if size < least:
        raise Invalid(
            f"cannot use {size} as size: {filesystem} in pool {pool.name} needs at least {least // MIB} MiB",
            field="size",
            detail={"minimum": least},
        )


def _backups(tx: ReadTx, pool: PoolRow, name: str) -> str:
    if not name:
        return ""
    other = tx.need(PoolRow, parse_slug(name, "backups"))
    if other.name == pool.name:
        raise Invalid(f"cannot keep the backups of pool {pool.name} in itself: name another", field="backups")
    if other.host != pool.host:
        raise Invalid(
            f"cannot keep the backups of pool {pool.name} in pool {other.name}: it is on host {other.host}, "
            f"not {pool.host}",
            field="backups",
        )
    return other.name


def _identity(pool: PoolRow) -> tuple[object, ...]:
    return (pool.host, pool.driver, pool.path, pool.overcommit, pool.reserve)


def _refuse_nested(tx: ReadTx, wanted: PoolRow) -> None:
    """Two pools never share a directory: each would take the other's files for its own."""
    for other in tx.all(PoolRow, host=wanted.host):
        here, there = PurePosixPath(wanted.path), PurePosixPath(other.path)
        if here.is_relative_to(there) or there.is_relative_to(here):
            raise Conflict(
                f"cannot register pool {wanted.name} at {wanted.path}: pool {other.name} is at {other.path}",
                code="place-taken",
                detail={"pool": other.name, "path": other.path},
            )


def _path(text: str) -> str:
    """An absolute, normal path of printable ASCII: it appears in mounts, commands and logs."""
    normal = PurePosixPath(text)
    parts = text.split("/")
    if (
        not text.startswith("/")
        or text.startswith("//")  # normal to pathlib: POSIX leaves its meaning open
        or text == "/"
        or len(text) > _MAX_PATH
        or not (text.isascii() and text.isprintable())
        or str(normal) != text
        or ".." in parts
    ):
        raise Invalid(
            "cannot use this path for a pool: give an absolute, normal path of printable ASCII characters, such as "
            "/srv/isthmus",
            field="path",
        )
    return text


def _overcommit(ratio: float) -> float:
    if not (math.isfinite(ratio) and 0 < ratio <= MAX_OVERCOMMIT):
        raise Invalid(f"cannot use {ratio} as overcommit: more than 0, at most {MAX_OVERCOMMIT:g}", field="overcommit")
    return float(ratio)


def _reserve(reserve: int) -> int:
    if not 0 <= reserve <= MAX_SHARE_SIZE:
        raise Invalid(f"cannot use {reserve} as reserve: 0 to {MAX_SHARE_SIZE} bytes", field="reserve")
    return reserve
