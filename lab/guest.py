"""A virtual machine of one's own under QEMU, started as an operator would for Isthmus (docs/howto/qemu.md).

async with Guest(id, qmp_dir, image) as guest:
    print(await guest.run("uname -r"))
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType

from qemu.qmp import QMPClient, QMPError

from lab.channel import Channel, GuestError, GuestFailed, GuestGone, Result
from lab.image import GuestImage, guest_image

__all__ = ["Guest", "GuestError", "GuestFailed", "GuestGone", "Result", "die_with_parent", "machine"]

CHANNELS = 6
WORDS = (
    # every word here makes the boot faster; rodata=off alone by a tenth
    "console=ttyS0 quiet nokaslr mitigations=off rodata=off random.trust_cpu=on no_timer_check tsc=reliable "
    "cryptomgr.notests pci=noaer"
)
PR_SET_PDEATHSIG = 1


def accelerator() -> tuple[str, ...]:
    """KVM only where the processor has it: a /dev/kvm without it exists in some clouds, and guests hang on it."""
    flags = re.search(r"^flags.*\b(vmx|svm)\b", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    if flags and os.access("/dev/kvm", os.R_OK | os.W_OK):
        return ("-accel", "kvm", "-cpu", "host")
    return ("-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,la57=off")


def machine(qmp: Path, *, memory: int = 256, root_ports: int = 4) -> list[str]:
    """The machine without anything to boot. ``memory`` in MiB, shared, so that virtiofs can be plugged later;
    ``root_ports``: how many devices can be plugged; ``qmp``: the socket where Isthmus finds the guest."""
    return [
        "qemu-system-x86_64",
        *("-M", "q35,memory-backend=ram,sata=off,usb=off,smbus=off,vmport=off", *accelerator()),
        *("-object", f"memory-backend-memfd,id=ram,size={memory}M,share=on", "-m", str(memory), "-smp", "1"),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-chardev", f"socket,id=isthmus,path={qmp},server=on,wait=off", "-mon", "chardev=isthmus,mode=control"),
        *(
            word
            for n in range(1, root_ports + 1)
            for word in ("-device", f"pcie-root-port,id=port{n},chassis={n},slot={n}")
        ),
    ]


class Guest:
    """A machine that boots on entering and is killed on leaving; with this process it dies too.

    ``extra``: more arguments for QEMU. ``deadline``: seconds for a boot. ``boot_seconds``: what the first one took.
    """

    def __init__(
        self,
        guest_id: str,
        qmp_dir: Path,
        image: GuestImage | None = None,
        *,
        memory: int = 256,
        root_ports: int = 4,
        extra: Sequence[str] = (),
        deadline: float = 60.0,
    ) -> None:
        self.id = guest_id
        self.qmp = qmp_dir / f"{guest_id}.qmp"
        self.console = qmp_dir / f"{guest_id}.console"
        self.boot_seconds = 0.0
        self._image = image
        self._machine = machine(self.qmp, memory=memory, root_ports=root_ports)
        self._extra = extra
        self._deadline = deadline
        self._control = QMPClient(guest_id)
        self._control.events.event_filter = lambda _: False  # else they pile up
        self._channels: list[Channel] = []
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """QEMU's."""
        return self._running.pid

    async def __aenter__(self) -> Guest:
        try:
            await self._boot()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()

    async def run(self, script: str, *, deadline: float = 60.0) -> str:
        """The script's standard output. Raises ``GuestFailed``, ``GuestGone``, or ``TimeoutError`` after ``deadline``
        seconds. What it leaves running must not hold its output."""
        result = await asyncio.wait_for(self.start(script), deadline)
        if result.code:
            raise GuestFailed(script, result)
        return result.stdout

    def start(self, script: str) -> asyncio.Future[Result]:
        """Run a script beside others; the result comes whatever its exit code. At most ``CHANNELS`` at a time."""
        for channel in self._channels:
            if channel.free:
                return channel.start(script)
        raise GuestError("every channel is busy with a script that has not ended")

    async def reset(self) -> None:
        """As by the machine's reset button: back when the guest has booted again."""
        for channel in self._channels:
            channel.rebooting()
        await self._control.execute("system_reset")
        await self.booted()

    async def booted(self) -> None:
        """The guest is up. Raises ``GuestError`` with the end of its console."""
        try:
            async with asyncio.timeout(self._deadline):
                for channel in self._channels:
                    await asyncio.shield(channel.ready)
        except (TimeoutError, GuestGone) as error:
            raise GuestError(f"the guest did not boot: {error!r}; its console says: {self._said()}") from error

    async def stopped(self) -> None:
        """Return once the machine's process has ended."""
        await self._running.wait()

    async def kill(self) -> None:
        """End the machine as a crash would: its QMP socket stays behind."""
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            await self._process.wait()

    @property
    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise GuestError("the guest was not booted: use it as an async context")
        return self._process

    async def _boot(self) -> None:
        image = self._image if self._image is not None else await asyncio.to_thread(guest_image)
        began = monotonic()
        control, *lines = (socket.socketpair() for _ in range(CHANNELS + 1))
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._arguments(image, control[1].fileno(), [line[1].fileno() for line in lines]),
                pass_fds=[pair[1].fileno() for pair in (control, *lines)],
                stdin=asyncio.subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )
        finally:
            for pair in (control, *lines):
                pair[1].close()
        loop = asyncio.get_running_loop()
        self._channels = [(await loop.create_connection(Channel, sock=line[0]))[1] for line in lines]
        await self._control.connect(control[0])
        await self.booted()
        self.boot_seconds = monotonic() - began

    def _arguments(self, image: GuestImage, control: int, lines: Sequence[int]) -> list[str]:
        channels = [
            word
            for number, fd in enumerate(lines)
            for word in (
                *("-chardev", f"socket,id=lab{number},fd={fd}"),
                *("-device", f"virtserialport,chardev=lab{number},name=lab.{number}"),
            )
        ]
        return [
            *self._machine,
            *("-kernel", str(image.kernel), "-initrd", str(image.initramfs), "-append", WORDS),
            *("-serial", f"file:{self.console}"),
            *("-chardev", f"socket,id=control,fd={control}", "-mon", "chardev=control,mode=control"),
            *("-device", "virtio-serial-pci", *channels),
            *self._extra,
        ]

    def _said(self) -> str:
        try:
            return self.console.read_text(errors="replace")[-2000:]
        except FileNotFoundError:
            return "nothing"

    async def _leave(self) -> None:
        await self.kill()
        for channel in self._channels:
            channel.close()
        with contextlib.suppress(QMPError, OSError, EOFError):  # the machine hung up first
            await self._control.disconnect()
        self.qmp.unlink(missing_ok=True)
        self.console.unlink(missing_ok=True)


def die_with_parent() -> None:
    """Called in a new process: it ends when its parent does, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
