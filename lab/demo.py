"""The main job in under a minute: a real virtual machine uses a share through its own gateway on its host.

Everything is made below one prefix and a temporary directory, and taken down again, also after a failure or Ctrl-C.
Run it as ``make demo``, as root.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from hashlib import sha256
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.markup import escape

from isthmus.agent.assemble import agent_runs
from isthmus.model.config import load_config
from isthmus.model.errors import IsthmusError
from isthmus.model.layout import Layout
from lab.guest import Guest, GuestError, GuestFailed, die_with_parent
from lab.image import CannotBuild, guest_image
from lab.sweep import sweep

PREFIX = "isthmus-demo"
RUN = Path(f"/run/{PREFIX}")
ISTHMUS = str(Path(sys.executable).with_name("isthmus"))
PLACE = "/data"

console = Console(highlight=False)


class DemoFailed(Exception):
    """A step did not do what it should; the text says which and what was seen."""


class Demo:
    """The story, chapter by chapter."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.config = work / "isthmus.toml"
        self.log = work / "isthmus.log"
        self.config.write_text(
            f'host = "demo-host"\n[paths]\nprefix = "{PREFIX}"\nrun = "{RUN}"\nstate = "{work}/state"\n'
        )
        self.guest_id = str(uuid.uuid4())
        self.share = ""
        self.snapshot = ""
        self.attachment = ""
        self._chapter = 0

    @contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        """A numbered title; the time that it took when it is over."""
        self._chapter += 1
        console.print(f"\n[bold cyan]{self._chapter}.[/] [bold]{escape(title)}[/]")
        began = monotonic()
        yield
        console.print(f"   [dim]done in {_seconds(monotonic() - began)}[/]")

    async def isthmus(self, *words: str, quiet: bool = False) -> str:
        """Run the command line as a person would, and show it. Returns what it printed."""
        if not quiet:
            console.print(f"   [green]$[/] isthmus {escape(' '.join(words))}", soft_wrap=True)
        process = await asyncio.create_subprocess_exec(
            *(ISTHMUS, "--config", str(self.config), *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | {"COLUMNS": "110"},
        )
        out = (await process.communicate())[0].decode()
        if not quiet or process.returncode:
            for line in out.splitlines():
                console.print(f"     {escape(line)}", style="dim", soft_wrap=True)
        if process.returncode:
            raise DemoFailed(f"isthmus {' '.join(words)} ended with {process.returncode}")
        return out

    async def value(self, *words: str) -> str:
        """The same, for its one value."""
        return (await self.isthmus("-f", "value", *words)).strip()

    async def inside(self, guest: Guest, script: str) -> str:
        """Run something in the virtual machine, and show it."""
        console.print(f"   [magenta]guest#[/] {escape(script)}", soft_wrap=True)
        out = await guest.run(script)
        for line in out.splitlines():
            console.print(f"     {escape(line)}", style="dim", soft_wrap=True)
        return out

    # The chapters.

    async def tell(self) -> None:
        """All of it."""
        async with AsyncExitStack() as stack:
            with self.chapter("Start the service and the agent of this host, in one process"):
                await stack.enter_async_context(self.service())
            with self.chapter("Make a storage pool, and a share with a file system of its own"):
                await self.make_share()
            with self.chapter("Boot a virtual machine (a Debian kernel under QEMU) and register it"):
                guest = await self.boot(stack)
            with self.chapter("Attach the share to the running machine"):
                await self.attach()
            with self.chapter("In the guest: mount by the kernel's NFSv4.2 client, write, read back"):
                await self.use(guest)
            with self.chapter("On the host: the same bytes"):
                self.compare()
            with self.chapter("Take a snapshot, let the guest overwrite, go back to the snapshot"):
                await self.rewind(guest)
            with self.chapter("Detach: the guest loses access at once"):
                await self.detach(guest)
            with self.chapter("Take everything down"):
                await self.take_down()
            with self.chapter("Is anything left behind?"):
                await self.isthmus("doctor")

    @asynccontextmanager
    async def service(self) -> AsyncIterator[None]:
        """``isthmus up``, ready when its socket answers; ended on leaving."""
        console.print("   [green]$[/] isthmus up")
        with self.log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(ISTHMUS, "--config", str(self.config), "up"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        try:
            await self._answering(process)
            yield
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    async def _answering(self, process: asyncio.subprocess.Process) -> None:
        async with asyncio.timeout(20):
            while process.returncode is None:
                try:
                    _, writer = await asyncio.open_unix_connection(RUN / "api.sock")
                except OSError:
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                return
        raise DemoFailed(f"isthmus up ended with {process.returncode}: {self.log.read_text()[-2000:]}")

    async def make_share(self) -> None:
        """Pool and share."""
        (self.work / "pool").mkdir(mode=0o700)
        await self.isthmus("pool", "create", "fast", "--path", str(self.work / "pool"))
        self.share = await self.value(
            *("share", "create", "projects", "--project", "demo", "--pool", "fast", "--size", "1G")
        )
        await self.isthmus("share", "list")

    async def boot(self, stack: AsyncExitStack) -> Guest:
        """The machine, with a QMP socket where the agent looks for it."""
        with console.status("booting under software emulation, about 2 s"):
            guest = await stack.enter_async_context(Guest(self.guest_id, RUN / "qmp", guest_image()))
        console.print(f"   booted in {_seconds(guest.boot_seconds)}: kernel {(await guest.run('uname -r')).strip()}")
        await self.isthmus(
            *("guest", "add", self.guest_id, "--project", "demo", "--host", "demo-host"),
            *("--name", "demo-guest", "--static"),
        )
        return guest

    async def attach(self) -> None:
        """Link, gateway, network card and export."""
        await self.isthmus("attach", "projects", "demo-guest", "--at", PLACE)
        listed = json.loads(await self.isthmus("-f", "json", "attachment", "list", quiet=True))
        self.attachment = listed[0]["id"]
        await self.isthmus("attachment", "list")

    async def use(self, guest: Guest) -> None:
        """Real files through a real client."""
        await self.inside(guest, f"mkdir -p /mnt && mount-isthmus {PLACE} /mnt && df -h /mnt")
        await self.inside(guest, "mkdir -p /mnt/src && echo 'hello from the guest' > /mnt/src/hello.txt && sync")
        await self.inside(guest, "dd if=/dev/urandom of=/mnt/src/random.bin bs=1M count=8 conv=fsync 2>/dev/null")
        seen = await self.inside(guest, "cat /mnt/src/hello.txt && sha256sum /mnt/src/random.bin")
        self.expect("hello from the guest" in seen, seen)
        self.digest = seen.split()[-2]

    def compare(self) -> None:
        """The share as the host has it mounted."""
        data = RUN / "shares" / self.share / "data" / "src"
        console.print(f"   [green]$[/] cat {data}/hello.txt", soft_wrap=True)
        text = (data / "hello.txt").read_text()
        console.print(f"     {escape(text.strip())}", style="dim")
        self.expect(text == "hello from the guest\n", text)
        digest = sha256((data / "random.bin").read_bytes()).hexdigest()
        console.print(f"     random.bin: {digest[:16]}... on both sides", style="dim")
        self.expect(digest == self.digest, digest)

    async def rewind(self, guest: Guest) -> None:
        """Snapshot, overwrite, revert. The reverted data are other files to NFS, so the guest mounts anew."""
        self.snapshot = await self.value("snapshot", "create", "projects", "--name", "before")
        await self.inside(guest, "echo 'overwritten' > /mnt/src/hello.txt && rm /mnt/src/random.bin && sync")
        await self.inside(guest, "umount /mnt")
        await self.isthmus("share", "revert", "projects", "before")
        seen = await self.inside(guest, f"mount-isthmus {PLACE} /mnt && cat /mnt/src/hello.txt && ls /mnt/src")
        self.expect("hello from the guest" in seen and "random.bin" in seen, seen)

    async def detach(self, guest: Guest) -> None:
        """The export is withdrawn while the guest has it mounted."""
        await self.isthmus("detach", "projects", "demo-guest")
        try:
            seen = await guest.run("cat /mnt/src/hello.txt 2>&1", deadline=20)
        except GuestFailed as failure:
            console.print("   [magenta]guest#[/] cat /mnt/src/hello.txt")
            console.print(f"     {escape(failure.stdout.strip())}", style="dim")
        else:
            raise DemoFailed(f"the guest still reads the detached share: {seen!r}")
        await guest.run("umount -l /mnt")

    async def take_down(self) -> None:
        """In the order in which a person would."""
        await self.isthmus("guest", "remove", "demo-guest")
        await self.isthmus("snapshot", "delete", self.snapshot)
        await self.isthmus("share", "delete", "projects")
        await self.isthmus("pool", "delete", "fast")

    @staticmethod
    def expect(condition: bool, seen: str) -> None:
        """Raises ``DemoFailed`` with what was seen instead."""
        if not condition:
            raise DemoFailed(f"not what was expected: {seen!r}")


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _swept(demo: Demo) -> list[str]:
    """Nothing is left of the demo. Returns what could not be removed, and why."""
    try:
        return asyncio.run(sweep(load_config(demo.config), {"fast": demo.work / "pool"}))
    except IsthmusError as error:
        return [error.message]


def main() -> int:
    """Exit code 0 if every chapter did what it says."""
    if os.geteuid() != 0:
        console.print("cannot run the demo: it makes namespaces and mounts: run it as root")
        return 2
    if agent_runs(Layout(PREFIX, RUN)):
        console.print(f"cannot run the demo: another one runs below {RUN}")
        return 1
    console.rule("[bold]Isthmus: a virtual machine, its gateway, its share")
    try:
        with console.status("building the guest image (once)") as status:
            guest_image(lambda what: status.update(f"guest image: {what}"))
    except CannotBuild as failure:
        console.print(f"[bold red]The demo failed:[/] {escape(str(failure))}")
        return 1
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGTERM):  # a terminal that is closed is an interruption too
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    began = monotonic()
    work = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-"))
    demo = Demo(work)
    try:
        asyncio.run(demo.tell())
    except KeyboardInterrupt:
        console.print("\ninterrupted: taking down what was made")
        return 130
    except (DemoFailed, GuestError, TimeoutError) as failure:
        console.print(f"\n[bold red]The demo failed:[/] {escape(str(failure) or 'out of time')}")
        if demo.log.exists():
            console.print(escape(demo.log.read_text()[-4000:]), style="dim")
        return 1
    finally:
        for complaint in _swept(demo):
            console.print(f"could not be removed: {escape(complaint)}", style="red")
        shutil.rmtree(work)
    console.rule(f"[bold green]all done in {_seconds(monotonic() - began)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
