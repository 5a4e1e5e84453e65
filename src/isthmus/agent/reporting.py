"""From what should be, what is and what failed to what the service is told. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from isthmus.agent.admission import Refusal
from isthmus.agent.hands import Incomplete
from isthmus.agent.patience import Failure
from isthmus.agent.plan import Observed, View
from isthmus.agent.steps import (
    Chain,
    CloneShare,
    CreateShare,
    DropSnapshot,
    Kind,
    Step,
    Subject,
    TakeSnapshot,
    phrase,
)
from isthmus.model.attachment import AttachmentSpec
from isthmus.model.desired import Condition, Desired, GuestReport, Notice, Phase, PoolReport, Report, ShareReport
from isthmus.model.errors import IsthmusError
from isthmus.model.guest import GuestState
from isthmus.model.layout import Layout
from isthmus.model.names import AttachmentId, PoolName, ShareId, SnapshotId
from isthmus.model.share import ShareSeen, ShareSpec

Failures = Mapping[Subject, Failure]


def report(
    want: Desired,
    have: Observed,
    layout: Layout,
    *,
    failures: Failures,
    running: Collection[Chain],
    pools: Mapping[PoolName, PoolReport],
    refused: Mapping[AttachmentId, Refusal] | None = None,
) -> Report:
    """All that is on the host. What could not be observed, and what a chain under way may yet bring about, is reported
    as being worked at, never as absent; while gateways cannot be seen at all, the revision 0 says so."""
    view = View(want, have, layout, running)
    return Report(
        host=want.host,
        revision=want.revision if have.gateways is not None else 0,
        pools=pools,
        shares=_shares(view, failures),
        snapshots=_snapshots(view, failures),
        guests={
            guest: GuestReport(seen.state, seen.plugs)
            for guest, seen in sorted((have.guests or {}).items())
            if guest in view.guests
        },
        attachments=_attachments(view, failures, refused or {}),
    )


def sentence_of(failure: Failure) -> str:
    """A failure for a person: what could not be done, and why."""
    error = failure.error
    if error.message.startswith("cannot "):
        return error.message
    return f"cannot {phrase(failure.chain.steps[0])}: {error.message}"


def _shares(view: View, failures: Failures) -> dict[ShareId, ShareReport]:
    found: dict[ShareId, ShareReport] = {}
    for spec in view.want.shares:
        failure = failures.get(Subject(Kind.SHARE, spec.id))
        seen = view.seen.get(spec.id)
        if seen is not None:
            now = seen[1]
            found[spec.id] = ShareReport(
                _share(view, spec, now, failure),
                now.size,
                now.used,
                now.generation,
                now.filesystem,
                now.checksums,
            )
        elif spec.pool not in view.have.pools:
            found[spec.id] = ShareReport(Condition(Phase.WORKING, f"pool {spec.pool} cannot be observed"))
        elif failure is not None:
            found[spec.id] = ShareReport(_failed(failure))
    for gone in view.want.doomed_shares:
        if gone.id in view.seen or gone.pool not in view.have.pools or _busy(view, gone.id):
            failure = failures.get(Subject(Kind.SHARE, gone.id))
            found[gone.id] = ShareReport(Condition(Phase.WORKING, sentence_of(failure) if failure else ""))
    return found


def _share(view: View, spec: ShareSpec, seen: ShareSeen, failure: Failure | None) -> Condition:
    if failure is not None and not all(isinstance(step, TakeSnapshot | DropSnapshot) for step in failure.chain.steps):
        return _failed(failure)
    if seen.wounded:
        return Condition(
            Phase.FAILED,
            f"cannot write to share {spec.id}: its file system stopped after an error, probably because the disk of "
            f"pool {spec.pool} is full: make room there",
            "wounded",
        )
    if spec.adopt:
        return Condition(Phase.PRESENT)
    if seen.size != spec.size or view.reverting(spec, seen) or view.filling(spec, seen):
        return Condition(Phase.WORKING)
    return Condition(Phase.PRESENT)


def _snapshots(view: View, failures: Failures) -> dict[SnapshotId, Condition]:
    found: dict[SnapshotId, Condition] = {}
    for spec in view.want.snapshots:
        where = view.seen.get(spec.share)
        failure = failures.get(Subject(Kind.SHARE, spec.share))
        if where is None:
            if not view.is_visible(spec.share):
                found[spec.id] = Condition(Phase.WORKING)
        elif where[1].snapshots is None:
            found[spec.id] = Condition(Phase.WORKING)
        elif spec.id in where[1].snapshots:
            found[spec.id] = Condition(Phase.PRESENT)
        elif failure is not None and _about(failure, spec.id):
            found[spec.id] = _failed(failure)
    for gone in view.want.doomed_snapshots:
        where = view.seen.get(gone.share)
        unknown = not view.is_visible(gone.share)
        if where is not None:
            unknown = where[1].snapshots is None or gone.id in where[1].snapshots
        if unknown or _busy(view, gone.share):
            found[gone.id] = Condition(Phase.WORKING)
    return found


def _about(failure: Failure, snapshot: SnapshotId) -> bool:
    return any(isinstance(step, TakeSnapshot) and step.snapshot == snapshot for step in failure.chain.steps)


def _busy(view: View, share: ShareId) -> bool:
    return Subject(Kind.SHARE, share) in view.busy


def _attachments(
    view: View, failures: Failures, refused: Mapping[AttachmentId, Refusal]
) -> dict[AttachmentId, Condition]:
    found = {spec.id: _attachment(view, spec, failures, refused.get(spec.id)) for spec in view.want.attachments}
    there = {
        attachment
        for gateway in (view.have.gateways or {}).values()
        for attachment in (*gateway.exports, *gateway.holds)
    }
    there |= {export.attachment for export in view.coming}
    for attachment in there - set(found):
        found[attachment] = Condition(Phase.WORKING, "being withdrawn")
    return found


def _attachment(view: View, spec: AttachmentSpec, failures: Failures, refusal: Refusal | None) -> Condition:
    if refusal is not None and not refusal.waiting:
        return Condition(Phase.FAILED, refusal.message, refusal.code)
    gateway = (view.have.gateways or {}).get((spec.mode, spec.guest))
    exported = gateway is not None and gateway.exports.get(spec.id) == view.export(spec)
    failure = _failure_of(spec, failures, exported=exported)
    if failure is not None:
        return failure
    if refusal is not None:
        return Condition(Phase.WORKING, refusal.message)
    if not exported:
        return Condition(Phase.WORKING, _why_not_yet(view, spec))
    guest = (view.have.guests or {}).get(spec.guest)
    if guest is None or guest.state is GuestState.STOPPED:
        return Condition(Phase.WAITING, "the guest is not running on this host")
    if view.layout.nic() not in guest.plugs or not view.link_is_held(spec.guest):
        return Condition(Phase.WORKING, "the guest's network card is being plugged")
    return Condition(Phase.PRESENT)


def _failure_of(spec: AttachmentSpec, failures: Failures, *, exported: bool) -> Condition | None:
    """The first thing on the way to the guest that failed. A share's failure (to grow, say) does not matter to an
    export that is there."""
    subjects = [Subject(Kind.NIC, spec.guest)]
    if not exported:
        gateway = Subject(Kind.GATEWAY, f"{spec.mode}-{spec.guest}")
        subjects = [Subject(Kind.SHARE, spec.share), Subject(Kind.LINK, spec.guest), gateway, *subjects]
    for subject in subjects:
        failure = failures.get(subject)
        if failure is None:
            continue
        if isinstance(failure.error, Incomplete):
            error = failure.error.errors.get(spec.id)
            if error is not None:
                return Condition(Phase.FAILED, error.message, error.code)
        else:
            return _failed(failure)
    return None


def _why_not_yet(view: View, spec: AttachmentSpec) -> str:
    if not view.is_visible(spec.share):
        return "the share's pool cannot be observed"
    if spec.share not in view.seen:
        return "the share is not there"
    if not view.seen[spec.share][1].mounted:
        return "the share is being mounted"
    return "the gateway is being told"


def _failed(failure: Failure) -> Condition:
    return Condition(Phase.FAILED, sentence_of(failure), failure.error.code)


def notice_of(failure: Failure) -> Notice:
    """A failure as an event of the object that it is about."""
    step: Step = failure.chain.steps[0]
    match step:
        case CreateShare() | CloneShare():
            return Notice(step.share.id, sentence_of(failure))
        case _:
            return Notice(failure.chain.subject.id.removeprefix("nfs-"), sentence_of(failure))


def pool_reports(
    want: Desired,
    have: Observed,
    abilities: Mapping[PoolName, PoolReport],
    errors: Mapping[PoolName, IsthmusError],
) -> dict[PoolName, PoolReport]:
    """Each pool's capacity with its driver's abilities (powers and minimum sizes), or why it cannot be used."""
    found = {}
    for pool in want.pools:
        seen, able = have.pools.get(pool.name), abilities.get(pool.name)
        if seen is not None and able is not None:
            found[pool.name] = PoolReport(seen.total, seen.free, able.powers, able.minimum)
        elif pool.name in errors:
            found[pool.name] = PoolReport(error=errors[pool.name].message)
    return found
