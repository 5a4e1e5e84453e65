"""Which pool a new share goes to: filters that say why not, then weights. Pure, over what one transaction found."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from isthmus.model.errors import Refused
from isthmus.model.names import GIB, MIB
from isthmus.model.share import Power
from isthmus.service.domain import types
from isthmus.store.rows import HostRow, PoolRow, ShareRow, TypeRow
from isthmus.store.tx import ReadTx

BACKEND = "local"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pool and its host, and the bytes that it has promised."""

    pool: PoolRow
    host: HostRow
    promised: int

    @property
    def limit(self) -> int:
        """Bytes that it may promise in all."""
        return int(max((self.pool.total or 0) - self.pool.reserve, 0) * self.pool.overcommit)

    @property
    def backend(self) -> str:
        """``HOST@BACKEND``."""
        return f"{self.host.name}@{self.pool.driver}"

    @property
    def address(self) -> str:
        """``HOST@BACKEND#POOL``, as the API names pools."""
        return f"{self.backend}#{self.pool.name}"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is looked for. ``zones``: any of these, any at all if empty; ``origin``: the pool of the share that it is a
    copy of; ``apart`` and ``beside``: pools of shares that it shall not, or shall, be on a host with; ``only``: the
    one pool that may be chosen, as ``HOST@BACKEND#POOL``."""

    type: TypeRow
    size: int
    zones: Collection[str] = ()
    origin: str = ""
    apart: Collection[str] = ()
    beside: Collection[str] = ()
    only: str = ""
    clone: bool = False


class NoPool(Refused):
    """No pool takes it; ``reasons`` says of each why not."""

    code = "no-valid-pool"

    def __init__(self, reasons: Mapping[str, str]) -> None:
        self.reasons = dict(reasons)
        told = "; ".join(f"{name}: {why}" for name, why in sorted(reasons.items())) or "there is no pool"
        super().__init__(f"cannot find a pool for the share: {told}")


def candidates(tx: ReadTx) -> list[Candidate]:
    """All pools."""
    hosts = {host.name: host for host in tx.all(HostRow)}
    return [Candidate(pool, hosts[pool.host], tx.promised(pool.name)) for pool in tx.all(PoolRow)]


def choose(found: Collection[Candidate], wish: Wish) -> Candidate:
    """The pool that suits best. Raises ``NoPool``."""
    reasons: dict[str, str] = {}
    fit = []
    for candidate in found:
        why = next((why for test in FILTERS if (why := test(candidate, wish))), "")
        if why:
            reasons[candidate.pool.name] = why
        else:
            fit.append(candidate)
    if not fit:
        raise NoPool(reasons)
    return max(fit, key=lambda one: (goodness(one), one.pool.name))


def goodness(candidate: Candidate) -> float:
    """0 to 100: the part of what may be promised, and of what is free, that is left: the smaller of both."""
    total = candidate.pool.total or 0
    if not candidate.limit or not total:
        return 0.0
    unpromised = max(candidate.limit - candidate.promised, 0) / candidate.limit
    return round(100 * min(unpromised, (candidate.pool.free or 0) / total), 1)


def wish_for(
    tx: ReadTx,
    kind: TypeRow,
    size: int,
    *,
    zone: str = "",
    origin: ShareRow | None = None,
    hints: Mapping[str, str] | None = None,
) -> Wish:
    """What a request asks of pools. Raises ``NotFound`` for a hint at a share that is not there."""
    hints = hints or {}
    zones = [zone] if zone else types.zones_of(kind)
    return Wish(
        kind,
        size,
        zones,
        origin.pool if origin else "",
        _pools_of(tx, hints.get("different_host", "")),
        _pools_of(tx, hints.get("same_host", "")),
        hints.get("only_host", ""),
        clone=origin is not None,
    )


def _pools_of(tx: ReadTx, shares: str) -> set[str]:
    return {tx.need(ShareRow, share.strip()).pool for share in shares.split(",") if share.strip()}


def _is_up(candidate: Candidate, _wish: Wish) -> str:
    if candidate.host.disabled:
        return "its service is disabled" + (
            f": {candidate.host.disabled_reason}" if candidate.host.disabled_reason else ""
        )
    if candidate.pool.error:
        return f"it cannot be used: {candidate.pool.error}"
    return "" if candidate.pool.total is not None else "its host has not reported it yet"


def _only(candidate: Candidate, wish: Wish) -> str:
    wanted = wish.only
    if wanted and wanted not in (candidate.address, candidate.backend, candidate.host.name):
        return f"only_host asks for {wanted}"
    return ""


def _zone(candidate: Candidate, wish: Wish) -> str:
    if wish.zones and candidate.host.zone not in wish.zones:
        return f"it is in availability zone {candidate.host.zone}, not {' or '.join(sorted(wish.zones))}"
    return ""


def offers_capabilities(candidate: Candidate, wish: Wish) -> str:
    offered = capabilities(candidate)
    for name, value in wish.type.specs.items():
        scope, _, key = name.rpartition(":")
        if (scope and scope != "capabilities") or key in types.VISIBLE or name == types.ZONES:
            continue
        if key not in offered:
            return f"it does not say what {key} is"
        if not satisfies(offered[key], value):
            return f"its {key} is {offered[key]}, not {value}"
    return ""


def offers_filesystem(candidate: Candidate, wish: Wish) -> str:
    powers = candidate.pool.powers.get(wish.type.filesystem)
    if powers is None:
        return f"its host cannot make {wish.type.filesystem}"
    needed = {power for spec, power in types.POWERS.items() if types.truth(wish.type.specs.get(spec, "False"))}
    needed |= {Power.CHECKSUMS} if wish.type.checksums else set()
    if missing := sorted(needed - powers):
        return f"{wish.type.filesystem} there has no {missing[0]}"
    least = candidate.pool.minimum.get(wish.type.filesystem, 0)
    return f"{wish.type.filesystem} there takes at least {least // MIB} MiB" if wish.size < least else ""


def _copies(candidate: Candidate, wish: Wish) -> str:
    if wish.clone and candidate.pool.name != wish.origin:
        return f"a copy stays in the pool of its origin, {wish.origin}"
    return ""


def offers_powers(_candidate: Candidate, wish: Wish) -> str:
    if types.truth(wish.type.specs.get(types.MOUNTS, "False")):
        return "its snapshots cannot be mounted by guests"
    return "it keeps no replicas" if wish.type.specs.get("replication_type") else ""


def _room(candidate: Candidate, wish: Wish) -> str:
    left = candidate.limit - candidate.promised
    if wish.size > left:
        return f"it may promise {max(left, 0) / GIB:.1f} GiB more, not {wish.size / GIB:.1f}"
    if (candidate.pool.free or 0) <= candidate.pool.reserve:
        return f"it has {(candidate.pool.free or 0) / GIB:.1f} GiB free, which are reserved"
    return ""


def _apart(candidate: Candidate, wish: Wish) -> str:
    return "a share of different_host is there" if candidate.pool.name in wish.apart else ""


def _beside(candidate: Candidate, wish: Wish) -> str:
    return "the shares of same_host are elsewhere" if wish.beside and candidate.pool.name not in wish.beside else ""


FILTERS: tuple[Callable[[Candidate, Wish], str], ...] = (
    _only,
    _is_up,
    _zone,
    _copies,
    offers_filesystem,
    offers_powers,
    offers_capabilities,
    _apart,
    _beside,
    _room,
)
"""Each says why a pool does not do, "" if it does."""


def capabilities(candidate: Candidate) -> dict[str, object]:
    """What a pool says of itself, in Manila's words. Capacities are GiB."""
    pool, powers = candidate.pool, candidate.pool.powers
    able = frozenset().union(*powers.values()) if powers else frozenset()
    return {
        "pool_name": pool.name,
        "share_backend_name": pool.driver,
        "vendor_name": "Isthmus",
        "driver_version": "1.0",
        "storage_protocol": "NFS",
        "driver_handles_share_servers": False,
        "snapshot_support": Power.SNAPSHOT in able,
        "create_share_from_snapshot_support": Power.CLONE in able,
        "revert_to_snapshot_support": Power.REVERT in able,
        "mount_snapshot_support": False,
        "replication_type": None,
        "total_capacity_gb": round((pool.total or 0) / GIB, 2),
        "free_capacity_gb": round((pool.free or 0) / GIB, 2),
        "allocated_capacity_gb": round(candidate.promised / GIB, 2),
        "provisioned_capacity_gb": round(candidate.promised / GIB, 2),
        "reserved_percentage": round(100 * pool.reserve / pool.total) if pool.total else 0,
        "max_over_subscription_ratio": pool.overcommit,
        "thin_provisioning": True,
        "qos": False,
        "compression": False,
        "dedupe": False,
        "ipv4_support": True,
        "ipv6_support": True,
        "goodness": goodness(candidate),
        "filesystems": sorted(powers),
        "checksums": Power.CHECKSUMS in able,
        "availability_zone": candidate.host.zone,
    }


def satisfies(offered: object, wanted: str) -> bool:
    """Whether a capability is what an extra spec asks for: a plain value, or one of Manila's operators ``<is>``,
    ``<in>``, ``<or>``, ``=``, ``==``, ``!=``, ``>=``, ``<=``, ``>``, ``<``, ``s==``, ``s!=``."""
    words = wanted.split()
    if not words:
        return str(offered) == wanted
    operator, rest = words[0], " ".join(words[1:])
    if operator == "<is>":
        return types.truth(str(offered)) == types.truth(rest)
    if operator == "<in>":
        return rest in (offered if isinstance(offered, list) else str(offered))
    if operator == "<or>":
        return str(offered) in [part.strip() for part in wanted.split("<or>") if part.strip()]
    if operator in _TEXTUAL:
        return _TEXTUAL[operator](str(offered), rest)
    if operator in _NUMERIC:
        try:
            return _NUMERIC[operator](float(str(offered)), float(rest))
        except ValueError:
            return False
    if isinstance(offered, bool):
        return types.truth(wanted) == offered
    return str(offered).lower() == wanted.lower()


_TEXTUAL: Mapping[str, Callable[[str, str], bool]] = {
    "s==": lambda a, b: a == b,
    "s!=": lambda a, b: a != b,
}
_NUMERIC: Mapping[str, Callable[[float, float], bool]] = {
    "=": lambda a, b: a >= b,  # Manila's own reading, kept for compatibility
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}
