"""Making one directory's content that of another, with rsync, shut in with the two and nothing else.

What tenants wrote is followed by root here: a directory that becomes a symbolic link while it is read leads out of it.
So rsync runs under bubblewrap, where there is nothing to be led to: programs, the source (read-only) and the target. No
network, no other processes, and only the capabilities that keeping owners, modes and device nodes needs.
"""

from __future__ import annotations

from isthmus.host.command import Command
from isthmus.model.errors import CommandFailed, Exhausted, HostFailure

_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP")
_VANISHED = 24
"""rsync(1), EXIT VALUES: files vanished before they could be read, as is to be expected of a share in use."""


async def mirror(source: str, target: str, *, deadline: float) -> None:
    """The directory ``target`` holds what ``source`` holds, and nothing else: data with its holes, hard links, owners
    by number, modes, times, ACLs and extended attributes but for the host's own (``trusted``). Run again, it copies
    what is different. ``deadline`` in seconds.

    Raises ``Exhausted`` if it does not fit, ``HostFailure`` if something of it cannot be read or written, or a program
    is not installed, ``DeadlineExpired``. What has been copied by then stays.
    """
    shut_in = ["bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--die-with-parent"]
    shut_in += ["--clearenv", "--setenv", "PATH", "/usr/bin", "--cap-drop", "ALL"]
    for capability in _CAPABILITIES:
        shut_in += ["--cap-add", capability]
    shut_in += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "lib", "lib64"):
        shut_in += ["--symlink", f"usr/{name}", f"/{name}"]
    shut_in += ["--proc", "/proc", "--dev", "/dev", "--ro-bind", source, "/source", "--bind", target, "/target"]
    copy = ["rsync", "--archive", "--hard-links", "--acls", "--xattrs", "--numeric-ids", "--sparse", "--inplace"]
    # btrfs lists these even to those who may not read them; the generation that a share bears is one
    copy += ["--filter", "-x trusted.*"]
    command = Command.of(*shut_in, *copy, "--delete", "--one-file-system", "/source/", "/target/", deadline=deadline)
    try:
        await command.run()
    except CommandFailed as error:
        if "No space left on device" in error.stderr or "Disk quota exceeded" in error.stderr:
            raise Exhausted("cannot copy: what is to be copied does not fit", code="clone-too-small") from error
        if error.returncode != _VANISHED:
            cause = next((line for line in error.stderr.splitlines() if line.startswith("rsync: ")), error.message)
            raise HostFailure(
                f"cannot copy files: {cause.removeprefix('rsync: ')}", code="copy-failed", detail=error.detail
            ) from error
