"""What is not as it should be on a host, and what nobody wants any more. Pure; ``agent.surgery`` looks and mends.

Two sources: the planner says in what the host differs from the document, and an inventory of everything under the
layout's prefix says what the planner has no eyes for (an empty cgroup, a run directory, a loop device without mount).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from isthmus.agent.plan import NOTHING_DENIED, Denied, Observed, View, plan
from isthmus.agent.steps import (
    CloneShare,
    CreateShare,
    DeleteShare,
    DropSnapshot,
    FillShare,
    MakeLink,
    MountShare,
    PlugNic,
    Present,
    ReleaseShare,
    RemoveLink,
    ResizeShare,
    RevertShare,
    StartGateway,
    Step,
    StopGateway,
    SweepPool,
    TakeSnapshot,
    UnplugNic,
    phrase,
)
from isthmus.model.desired import Desired
from isthmus.model.layout import Layout
from isthmus.model.names import PoolName, ShareId


class Severity(StrEnum):
    """``orphan``: it is there and nobody wants it. ``missing``: it should be there. ``lost``: data that should be there
    is not. ``unknown``: it could not be looked at."""

    ORPHAN = "orphan"
    MISSING = "missing"
    LOST = "lost"
    UNKNOWN = "unknown"


class Remnant(StrEnum):
    """What kind of thing the planner does not see."""

    DIRECTORY = "directory"
    CGROUP = "cgroup"
    PROCESS = "process"
    MOUNT = "mount"
    LOOP = "loop device"
    NAMESPACE = "namespace"
    DATA = "share data"


@dataclass(frozen=True, slots=True)
class Leftover:
    """A thing found in the kernel or on disk. ``name``: the path, device or pid by which an operator finds it;
    ``serves``: the id of what it would serve, "" if that cannot be told; ``pool`` for share data."""

    kind: Remnant
    name: str
    serves: str = ""
    pool: PoolName | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``mend`` is a step or a leftover to remove, None if a person must decide."""

    severity: Severity
    kind: str
    name: str
    problem: str
    mend: Step | Leftover | None = None
    advice: str = ""


_KINDS: dict[type[Step], tuple[Severity, str]] = {
    SweepPool: (Severity.ORPHAN, "directory"),
    CreateShare: (Severity.MISSING, "share"),
    CloneShare: (Severity.MISSING, "share"),
    FillShare: (Severity.MISSING, "share"),
    ResizeShare: (Severity.MISSING, "share"),
    RevertShare: (Severity.MISSING, "share"),
    MountShare: (Severity.MISSING, "mount"),
    ReleaseShare: (Severity.ORPHAN, "mount"),
    DeleteShare: (Severity.ORPHAN, "share"),
    TakeSnapshot: (Severity.MISSING, "snapshot"),
    DropSnapshot: (Severity.ORPHAN, "snapshot"),
    MakeLink: (Severity.MISSING, "namespace"),
    RemoveLink: (Severity.ORPHAN, "namespace"),
    StartGateway: (Severity.MISSING, "process"),
    Present: (Severity.MISSING, "export"),
    StopGateway: (Severity.ORPHAN, "process"),
    PlugNic: (Severity.MISSING, "device in a guest"),
    UnplugNic: (Severity.ORPHAN, "device in a guest"),
}


def judge(
    want: Desired,
    have: Observed,
    leftovers: tuple[Leftover, ...],
    layout: Layout,
    denied: Denied = NOTHING_DENIED,
) -> tuple[Finding, ...]:
    """All that is wrong, worst kinds of the same order every time."""
    view = View(want, have, layout, (), denied)
    findings = [
        *(_of_step(step, layout) for chain in plan(want, have, layout, (), denied) for step in chain.steps),
        *_lost(view),
        *_left(view, leftovers),
    ]
    order = list(Severity)
    return tuple(sorted(findings, key=lambda finding: (order.index(finding.severity), finding.kind, finding.name)))


def _of_step(step: Step, layout: Layout) -> Finding:
    severity, kind = _KINDS[type(step)]
    problem = "nobody wants it" if severity is Severity.ORPHAN else f"to do: {phrase(step)}"
    return Finding(severity, kind, _name(step, layout), problem, step, f"isthmus doctor --fix would {phrase(step)}")


def _name(step: Step, layout: Layout) -> str:
    """By what an operator finds the thing on the host."""
    match step:
        case SweepPool():
            return step.pool
        case CreateShare() | CloneShare():
            return step.share.id
        case MountShare() | ReleaseShare():
            return layout.share_data(step.share)
        case TakeSnapshot() | DropSnapshot() | RevertShare():
            return step.snapshot
        case MakeLink() | RemoveLink():
            return layout.netns(step.guest)
        case StartGateway() | StopGateway() | Present():
            return layout.unit(step.mode, step.guest)
        case PlugNic():
            return f"{step.plug.id} in {step.guest}"
        case UnplugNic():
            return f"{step.plug_id} in {step.guest}"
        case _:
            return step.share


def _lost(view: View) -> Iterator[Finding]:
    for spec in view.want.shares:
        if spec.made and spec.pool in view.have.pools and spec.id not in view.seen:
            yield Finding(
                Severity.LOST,
                "share",
                spec.id,
                f"pool {spec.pool} has no data of it",
                advice="mount the disk that holds it, or delete the share",
            )
    for snapshot in view.want.snapshots:
        seen = view.seen.get(snapshot.share)
        if snapshot.made and seen is not None and snapshot.id not in (seen[1].snapshots or ()):
            yield Finding(
                Severity.LOST,
                "snapshot",
                snapshot.id,
                f"share {snapshot.share} does not have it",
                advice="delete the snapshot's record: its data cannot be brought back",
            )


def _left(view: View, leftovers: tuple[Leftover, ...]) -> Iterator[Finding]:
    """Leftovers that serve nothing which is there or should be: those of a serving guest or share are the planner's."""
    guests = set(_served_guests(view))
    shares = {share for share, (_, seen) in view.seen.items() if seen.mounted}
    shares |= {spec.share for spec in view.want.attachments}
    for item in leftovers:
        if item.kind is Remnant.DATA:
            yield from _data(view, item)
        elif not item.serves or (item.serves not in guests and ShareId(item.serves) not in shares):
            yield Finding(
                Severity.ORPHAN,
                item.kind,
                item.name,
                "nobody wants it",
                item,
                f"isthmus doctor --fix would remove {item.kind} {item.name}",
            )


def _served_guests(view: View) -> Iterator[str]:
    """Guests that have, or should have, a link or a gateway."""
    for guest in view.guests:
        if view.serves(guest):
            yield guest
    yield from (view.have.links or {})
    yield from (guest for _, guest in (view.have.gateways or {}))


def _data(view: View, item: Leftover) -> Iterator[Finding]:
    share = ShareId(item.serves)
    if share not in view.specs and share not in view.doomed:
        yield Finding(
            Severity.ORPHAN,
            item.kind,
            item.name,
            f"pool {item.pool} holds a share that the service does not know",
            item,
            "keep it, or let isthmus doctor --fix --delete-data delete it for good",
        )
