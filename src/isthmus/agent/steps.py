"""What an agent can do, as values. ``plan`` yields them, ``agent.hands`` carries them out.

A step is idempotent and has a deadline in seconds, after which it counts as failed and is planned again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from isthmus.model.attachment import Export, Mode
from isthmus.model.guest import Plug
from isthmus.model.names import GuestId, PoolName, ShareId, SnapshotId
from isthmus.model.share import Fill, ShareSpec


class Kind(StrEnum):
    """What a chain of steps is about."""

    POOL = "pool"
    SHARE = "share"
    LINK = "link"
    GATEWAY = "gateway"
    NIC = "nic"


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """The thing that a chain changes; two chains never change the same thing at once."""

    kind: Kind
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


@dataclass(frozen=True, slots=True)
class SweepPool:
    """Remove what interrupted operations left in a pool."""

    pool: PoolName
    deadline = 60.0


@dataclass(frozen=True, slots=True)
class CreateShare:
    """Make an empty share."""

    share: ShareSpec
    deadline = 120.0


@dataclass(frozen=True, slots=True)
class CloneShare:
    """Make a share that begins as a copy of its origin; takes as long as the data is large."""

    share: ShareSpec
    deadline = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class FillShare:
    """Make the files of a share those of another, which goes on being used; takes as long as they are large."""

    pool: PoolName
    share: ShareId
    fill: Fill
    deadline = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class ResizeShare:
    """Give a share another size; shrinking moves data."""

    pool: PoolName
    share: ShareId
    size: int
    deadline = 3600.0


@dataclass(frozen=True, slots=True)
class RevertShare:
    """Bring a share back to a snapshot."""

    pool: PoolName
    share: ShareId
    snapshot: SnapshotId
    generation: int
    deadline = 60.0


@dataclass(frozen=True, slots=True)
class MountShare:
    """Mount a share for gateways."""

    pool: PoolName
    share: ShareId
    deadline = 60.0


@dataclass(frozen=True, slots=True)
class ReleaseShare:
    """Unmount a share."""

    pool: PoolName
    share: ShareId
    deadline = 60.0


@dataclass(frozen=True, slots=True)
class DeleteShare:
    """Remove a share with all its data."""

    pool: PoolName
    share: ShareId
    deadline = 600.0


@dataclass(frozen=True, slots=True)
class TakeSnapshot:
    """Take a snapshot of a share."""

    pool: PoolName
    share: ShareId
    snapshot: SnapshotId
    deadline = 60.0


@dataclass(frozen=True, slots=True)
class DropSnapshot:
    """Remove a snapshot of a share."""

    pool: PoolName
    share: ShareId
    snapshot: SnapshotId
    deadline = 120.0


@dataclass(frozen=True, slots=True)
class MakeLink:
    """Make, or mend, a guest's network namespace with its end of the wire."""

    guest: GuestId
    deadline = 10.0


@dataclass(frozen=True, slots=True)
class RemoveLink:
    """Take a guest's network namespace away."""

    guest: GuestId
    deadline = 10.0


@dataclass(frozen=True, slots=True)
class StartGateway:
    """Start a guest's gateway, presenting what it should."""

    mode: Mode
    guest: GuestId
    exports: tuple[Export, ...]
    deadline = 20.0


@dataclass(frozen=True, slots=True)
class Present:
    """Make a running gateway present exactly these exports."""

    mode: Mode
    guest: GuestId
    exports: tuple[Export, ...]
    deadline = 15.0


@dataclass(frozen=True, slots=True)
class StopGateway:
    """Stop a guest's gateway and remove all that it has."""

    mode: Mode
    guest: GuestId
    deadline = 20.0


@dataclass(frozen=True, slots=True)
class PlugNic:
    """Give a running guest its end of the wire."""

    guest: GuestId
    plug: Plug
    deadline = 10.0


@dataclass(frozen=True, slots=True)
class UnplugNic:
    """Take a device from a guest; waits until the guest lets go."""

    guest: GuestId
    plug_id: str
    deadline = 30.0


Step = (
    SweepPool
    | CreateShare
    | CloneShare
    | FillShare
    | ResizeShare
    | RevertShare
    | MountShare
    | ReleaseShare
    | DeleteShare
    | TakeSnapshot
    | DropSnapshot
    | MakeLink
    | RemoveLink
    | StartGateway
    | Present
    | StopGateway
    | PlugNic
    | UnplugNic
)

_PHRASES: dict[type[Step], str] = {
    SweepPool: "sweep pool {0.pool}",
    CreateShare: "create share {0.share.id}",
    CloneShare: "clone share {0.share.id}",
    FillShare: "copy share {0.fill.share} to share {0.share}",
    ResizeShare: "resize share {0.share} to {0.size} bytes",
    RevertShare: "revert share {0.share} to snapshot {0.snapshot}",
    MountShare: "mount share {0.share}",
    ReleaseShare: "unmount share {0.share}",
    DeleteShare: "delete share {0.share}",
    TakeSnapshot: "take snapshot {0.snapshot}",
    DropSnapshot: "delete snapshot {0.snapshot}",
    MakeLink: "make link of guest {0.guest}",
    RemoveLink: "remove link of guest {0.guest}",
    StartGateway: "start {0.mode} gateway of guest {0.guest}",
    Present: "present shares to guest {0.guest}",
    StopGateway: "stop {0.mode} gateway of guest {0.guest}",
    PlugNic: "plug network card into guest {0.guest}",
    UnplugNic: "unplug {0.plug_id} from guest {0.guest}",
}


def phrase(step: Step) -> str:
    """The step in words: "mount share 7f...", fit for "cannot mount share 7f..."."""
    return _PHRASES[type(step)].format(step)


@dataclass(frozen=True, slots=True)
class Chain:
    """Steps about one subject, done in order; the first that fails ends the chain.

    ``holds``: all subjects that nobody else may touch meanwhile. ``pool``: the pool it works in. ``whole_pool``:
    nothing else may work in that pool.
    """

    subject: Subject
    steps: tuple[Step, ...]
    holds: frozenset[Subject]
    pool: PoolName | None = None
    whole_pool: bool = False

    def may_run_beside(self, other: Chain) -> bool:
        """Whether the two touch different things."""
        if self.holds & other.holds:
            return False
        return not ((self.whole_pool or other.whole_pool) and self.pool == other.pool)
