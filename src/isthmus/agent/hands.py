"""Carrying out steps."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.agent.equipment import Equipment
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
)
from isthmus.host.mirror import mirror
from isthmus.model.errors import IsthmusError, Refused
from isthmus.model.names import AttachmentId, PoolName
from isthmus.storage.driver import Clones, Copies, Reverts, Snapshots


class Incomplete(IsthmusError):
    """A gateway presents what it could; ``errors`` says why the others are missing, by attachment."""

    code = "incomplete"

    def __init__(self, errors: Mapping[AttachmentId, IsthmusError]) -> None:
        super().__init__("cannot present all shares: " + "; ".join(error.message for error in errors.values()))
        self.errors = dict(errors)


async def do(step: Step, equipment: Equipment) -> None:  # noqa: C901, PLR0912 - one flat table of what each step calls
    """Carry out one step. Raises the ``IsthmusError`` of whoever does the work; the caller sets the deadline."""
    match step:
        case SweepPool():
            await equipment.driver(step.pool).sweep()
        case CreateShare():
            await equipment.driver(step.share.pool).create(step.share)
        case CloneShare():
            await _clones(equipment, step.share.pool).clone(step.share)
        case FillShare():
            await _fill(step, equipment)
        case ResizeShare():
            await equipment.driver(step.pool).resize(step.share, step.size)
        case RevertShare():
            await _reverts(equipment, step.pool).revert(step.share, step.snapshot, step.generation)
        case MountShare():
            await equipment.driver(step.pool).source(step.share)
        case ReleaseShare():
            await equipment.driver(step.pool).release(step.share)
        case DeleteShare():
            await equipment.driver(step.pool).delete(step.share)
        case TakeSnapshot():
            await _snapshots(equipment, step.pool).snapshot(step.share, step.snapshot)
        case DropSnapshot():
            await _snapshots(equipment, step.pool).delete_snapshot(step.share, step.snapshot)
        case MakeLink():
            await equipment.link.make(step.guest)
        case RemoveLink():
            await equipment.link.remove(step.guest)
        case StartGateway():
            await equipment.gateways[step.mode].start(step.guest, step.exports)
        case Present():
            errors = await equipment.gateways[step.mode].present(step.guest, step.exports)
            if errors:
                raise Incomplete(errors)
        case StopGateway():
            await equipment.gateways[step.mode].stop(step.guest)
        case PlugNic():
            await equipment.hypervisor.plug(step.guest, step.plug)
        case UnplugNic():
            await equipment.hypervisor.unplug(step.guest, step.plug_id)


def _snapshots(equipment: Equipment, pool: PoolName) -> Snapshots:
    driver = equipment.driver(pool)
    if not isinstance(driver, Snapshots):
        raise Refused(f"cannot take a snapshot in pool {pool}: its driver has none")
    return driver


def _reverts(equipment: Equipment, pool: PoolName) -> Reverts:
    driver = equipment.driver(pool)
    if not isinstance(driver, Reverts):
        raise Refused(f"cannot revert a share in pool {pool}: its driver cannot")
    return driver


def _clones(equipment: Equipment, pool: PoolName) -> Clones:
    driver = equipment.driver(pool)
    if not isinstance(driver, Clones):
        raise Refused(f"cannot clone into pool {pool}: its driver cannot")
    return driver


def _copies(equipment: Equipment, pool: PoolName) -> Copies:
    driver = equipment.driver(pool)
    if not isinstance(driver, Copies):
        raise Refused(f"cannot copy shares of pool {pool}: its driver does not show their files on this host")
    return driver


async def _fill(step: FillShare, equipment: Equipment) -> None:
    fill = step.fill
    theirs, ours = _copies(equipment, fill.pool), _copies(equipment, step.pool)
    async with (
        theirs.reading(fill.share, fill.snapshot, by=step.share) as source,
        ours.writing(step.share, fill.generation) as target,
    ):
        await mirror(source.path, target.path, deadline=step.deadline)
