"""Looking at a whole host for the doctor, and mending what it found."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from isthmus.agent.doctor import Finding, Leftover, Remnant, Severity, judge
from isthmus.agent.equipment import Equipment
from isthmus.agent.hands import do
from isthmus.agent.observe import GUESTS, Observer
from isthmus.agent.plan import NOTHING_DENIED, Denied, Observed
from isthmus.host import loop, mounts, netns
from isthmus.host.cgroup import Cgroups
from isthmus.model.attachment import Mode
from isthmus.model.desired import Desired
from isthmus.model.errors import HostFailure, IsthmusError
from isthmus.model.guest import GuestSeen
from isthmus.model.layout import Layout
from isthmus.model.names import GuestId, HostName, ShareId
from isthmus.model.share import Pool

LOOK = 5.0
"""Seconds for looking at one part."""
ROUNDS = 20
"""How many times mending looks again: what is orphaned by one mend is mended in the next round."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the doctor says. ``counted``: how many things of each kind were looked at; ``judged``: whether it was known
    what should be on the host, without which only debris can be told."""

    host: HostName
    findings: tuple[Finding, ...]
    counted: dict[str, int]
    judged: bool

    @property
    def healthy(self) -> bool:
        """Nothing is wrong."""
        return not self.findings

    def summary(self) -> str:
        """One sentence."""
        looked = ", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in self.counted.items())
        if self.healthy:
            verdict = "all is as it should be, and nothing is left behind"
        else:
            verdict = f"{len(self.findings)} thing{'s are' if len(self.findings) > 1 else ' is'} not as it should be"
        return f"{verdict} ({looked})"


async def examine(
    equipment: Equipment,
    layout: Layout,
    host: HostName,
    want: Desired | None,
    *,
    guests: Mapping[GuestId, GuestSeen] | None = None,
    denied: Denied = NOTHING_DENIED,
) -> Diagnosis:
    """Look at everything below the layout's prefix. Changes nothing. ``want``: what should be, None if that is unknown:
    then whatever is there is listed, and nothing of it is called mendable. ``guests``: what a running agent reported of
    them, which alone can ask them: a hypervisor's monitor speaks to one at a time. ``denied``: what has no grant, and
    should not be presented."""
    wanted = want or Desired(host, 0)
    equipment.take_pools(wanted.pools)
    observer = Observer(equipment, deadline=LOOK, on_late=lambda _: None)
    try:
        have = await observer.look(observer.parts() - ({GUESTS} if guests is not None else set()))
    finally:
        await observer.close()
    if guests is not None:
        have = replace(have, guests=guests)
    leftovers = await asyncio.to_thread(_inventory, layout, have, wanted.pools)
    findings = judge(wanted, have, leftovers, layout, denied)
    if want is None:
        findings = tuple(_unjudged(finding) for finding in findings)
    blind = [
        Finding(Severity.UNKNOWN, part[0], part[1] or "all", error.message) for part, error in observer.errors.items()
    ]
    blind += [Finding(Severity.UNKNOWN, "pool", name, error.message) for name, error in equipment.unusable.items()]
    return Diagnosis(host, (*findings, *blind), _counted(have), want is not None)


async def mend(
    equipment: Equipment,
    layout: Layout,
    host: HostName,
    want: Desired,
    *,
    delete_data: bool = False,
    denied: Denied = NOTHING_DENIED,
) -> tuple[Diagnosis, tuple[tuple[Finding, str], ...]]:
    """Do what can be done, round after round, until nothing more changes. Returns the last diagnosis and what was
    tried, each with "" or why it failed. What is ``denied`` is not presented. Share data that nobody knows is deleted
    only with ``delete_data``. The caller has made sure that no agent acts meanwhile."""
    tried: dict[Finding, str] = {}
    for _ in range(ROUNDS):
        diagnosis = await examine(equipment, layout, host, want, denied=denied)
        todo = [finding for finding in diagnosis.findings if finding.mend is not None and finding not in tried]
        if not delete_data:
            todo = [finding for finding in todo if finding.kind != Remnant.DATA]
        if not todo:
            break
        for finding in sorted(todo, key=_turn):
            tried[finding] = await _mend_one(finding, equipment, layout)
    return diagnosis, tuple(tried.items())


def _turn(finding: Finding) -> int:
    """Directories come last, after what is mounted in them."""
    return int(finding.kind == Remnant.DIRECTORY)


async def _mend_one(finding: Finding, equipment: Equipment, layout: Layout) -> str:
    try:
        match finding.mend:
            case None:
                return "a person must decide"
            case Leftover() as leftover:
                await _remove(leftover, equipment, layout)
            case step:
                async with asyncio.timeout(step.deadline):
                    await do(step, equipment)
    except TimeoutError:
        return f"cannot mend {finding.kind} {finding.name}: not done in time"
    except (IsthmusError, OSError) as error:
        return str(error)
    return ""


async def _remove(leftover: Leftover, equipment: Equipment, layout: Layout) -> None:
    match leftover.kind:
        case Remnant.DIRECTORY:
            path = Path(leftover.name)
            if not path.is_relative_to(layout.run) or path == layout.run:
                raise HostFailure(f"cannot remove {path}: it is not below {layout.run}")
            await asyncio.to_thread(_remove_directory, path)
        case Remnant.MOUNT:
            await asyncio.to_thread(mounts.unmount, leftover.name)
        case Remnant.LOOP:
            await asyncio.to_thread(loop.detach, leftover.name)
        case Remnant.NAMESPACE:
            await asyncio.to_thread(netns.remove, leftover.name)
        case Remnant.CGROUP | Remnant.PROCESS:
            await asyncio.to_thread(_end_unit, layout, leftover.name)
        case Remnant.DATA if leftover.pool is not None:
            await equipment.driver(leftover.pool).release(ShareId(leftover.serves))
            await equipment.driver(leftover.pool).delete(ShareId(leftover.serves))
        case Remnant.DATA:
            raise HostFailure(f"cannot delete share data {leftover.name}: its pool is not known")


def _remove_directory(path: Path) -> None:
    """Never what is mounted there: that may be a share's data."""
    true = path.resolve()
    for entry in mounts.mounts():
        if Path(entry.target).is_relative_to(true):
            raise HostFailure(f"cannot remove {path}: something is mounted at {entry.target}")
    shutil.rmtree(path)


def _end_unit(layout: Layout, unit: str) -> None:
    cgroups = Cgroups(layout.prefix)
    cgroups.kill(unit)
    cgroups.wait_empty(unit, LOOK)
    cgroups.remove(unit)


def _inventory(layout: Layout, have: Observed, pools: tuple[Pool, ...]) -> tuple[Leftover, ...]:
    """Everything below the prefix, whether somebody wants it or not."""
    found = [*_directories(layout), *_units(layout), *_mounts(layout), *_loops(pools), *_namespaces(layout)]
    for name, pool in have.pools.items():
        found += [Leftover(Remnant.DATA, f"{name}/{share}", share, name) for share in pool.shares]
    return tuple(found)


def _directories(layout: Layout) -> Iterator[Leftover]:
    for path in _children(layout.gateways):
        yield Leftover(Remnant.DIRECTORY, str(path), _guest_of(layout, path.name))
    for path in _children(layout.shares):
        yield Leftover(Remnant.DIRECTORY, str(path), layout.share_of_data(str(path / "data")) or "")


def _units(layout: Layout) -> Iterator[Leftover]:
    cgroups = Cgroups(layout.prefix)
    for unit in sorted(cgroups.units()):
        kind = Remnant.PROCESS if cgroups.processes(unit) else Remnant.CGROUP
        yield Leftover(kind, unit, _guest_of(layout, unit))


def _mounts(layout: Layout) -> Iterator[Leftover]:
    for entry in mounts.mounts():
        path = Path(entry.target)
        if path.is_relative_to(layout.shares):
            share = layout.share_of_data(str(path.parent / "data")) or ""
            yield Leftover(Remnant.MOUNT, entry.target, share)
        elif path.is_relative_to(layout.gateways):
            name = path.relative_to(layout.gateways).parts[0]
            yield Leftover(Remnant.MOUNT, entry.target, _guest_of(layout, name))
        elif path.is_relative_to(layout.run) and path != layout.run:
            yield Leftover(Remnant.MOUNT, entry.target)


def _loops(pools: tuple[Pool, ...]) -> Iterator[Leftover]:
    for device, backing in loop.devices():
        for pool in pools:
            path = Path(pool.path).resolve()  # the kernel tells the true path
            if backing.is_relative_to(path):
                parts = backing.relative_to(path).parts
                yield Leftover(Remnant.LOOP, device, parts[1].split(".")[0] if len(parts) > 1 else "", pool.name)


def _guest_of(layout: Layout, name: str) -> str:
    """The guest that a gateway's unit or directory of this name serves; "" if it is none."""
    guests = (layout.guest_of_unit(mode, name) for mode in Mode)
    return next((guest for guest in guests if guest is not None), "")


def _namespaces(layout: Layout) -> Iterator[Leftover]:
    for name in sorted(netns.names()):
        if name.startswith(f"{layout.prefix}-") and layout.guest_of_netns(name) is None:
            yield Leftover(Remnant.NAMESPACE, name)


def _children(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except FileNotFoundError:
        return []


def _unjudged(finding: Finding) -> Finding:
    return Finding(
        Severity.UNKNOWN,
        finding.kind,
        finding.name,
        "it is there, and whether it should be is not known",
        advice="start the service, so that it can say what should be",
    )


def _counted(have: Observed) -> dict[str, int]:
    shares = [share for pool in have.pools.values() for share in pool.shares.values()]
    return {
        "pool": len(have.pools),
        "share": len(shares),
        "mount": sum(share.mounted for share in shares),
        "namespace": len(have.links or {}),
        "gateway": len(have.gateways or {}),
        "export": sum(len(gateway.exports) for gateway in (have.gateways or {}).values()),
        "guest": len(have.guests or {}),
    }
