"""Guests, the devices they are given, and what the hypervisor says of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from isthmus.model.names import GuestId, HostName, ProjectId


@dataclass(frozen=True, slots=True)
class GuestSpec:
    """A virtual machine that a host serves. ``static``: its link and gateway exist from registration on,
    exposing nothing, whether it runs or not; else they come with its first attachment and go with its last."""

    id: GuestId
    project: ProjectId
    host: HostName
    name: str = ""
    static: bool = False


class GuestState(StrEnum):
    """What a hypervisor process says of its guest (a summary of QEMU's RunState)."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class NicPlug:
    """A network card on a tap that lives in another network namespace; the tap's descriptor is what is handed over.

    ``id`` names the device in the guest's process; ``netns`` is a name below /run/netns.
    """

    id: str
    mac: str
    netns: str
    tap: str


Plug = NicPlug


@dataclass(frozen=True, slots=True)
class GuestSeen:
    """A guest whose hypervisor process answers. ``plugs`` are the ids of Isthmus's devices in it; ``leaving`` are
    those that were asked to go and that the guest has not let go of."""

    id: GuestId
    state: GuestState
    plugs: frozenset[str] = frozenset()
    leaving: frozenset[str] = frozenset()


class GuestEventKind(StrEnum):
    """What happened to a guest."""

    STARTED = "started"
    STOPPED = "stopped"
    REBOOTED = "rebooted"
    UNPLUGGED = "unplugged"


@dataclass(frozen=True, slots=True)
class GuestEvent:
    """Something happened to a guest; ``plug`` is set for ``unplugged``."""

    guest: GuestId
    kind: GuestEventKind
    plug: str = ""
