"""The lab guest's image: Debian's kernel as an ELF file, which QEMU boots directly (PVH), and a small initramfs.

    python -m lab.image         build it if it is missing, saying what takes long

Nothing is installed: the kernel's package is downloaded and read. What was built is kept below ``.cache/guest``:
``kernel-VERSION`` as unpacked, ``image-VERSION-HASH`` for each state of this directory's files. Both appear by a
rename, so an interrupted build leaves nothing that looks whole.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from lab.cpio import Archive

HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache" / "guest"
BUSYBOX = Path("/bin/busybox")
META_PACKAGE = "linux-image-amd64"  # the cloud kernel lacks 9p

BOOT_MODULES = ("virtio_pci", "virtio_console", "virtio_net")
NFS_MODULES = ("nfsv4",)
OTHER_MODULES = (
    *("virtio_blk", "virtio_rng", "fuse", "virtiofs", "9p", "9pnet_virtio", "9pnet_fd", "nfsv3"),
    *("nfs_layout_nfsv41_files", "nfs_layout_flexfiles", "vmw_vsock_virtio_transport", "vsock_loopback", "veth"),
    # SMB 3.1.1 takes its ciphers by name at mount time
    *("cifs", "cmac", "sha512_generic", "ccm", "gcm", "ecb", "ctr", "ghash_generic", "gf128mul", "cbc"),
    *("sha256_generic", "md4", "md5", "hmac", "aes_generic", "nls_utf8"),
)
# Type information and trace events: under emulation they make up two thirds of the second that nfsv4 takes to load.
UNREAD_SECTIONS = (".BTF", "_ftrace_events", ".rela_ftrace_events")
# what of the package is unpacked: 400 MB otherwise
WANTED = tuple(
    f"kernel/{part}/"
    for part in ("fs", "net", "crypto", "lib", "arch", "drivers/virtio", "drivers/net", "drivers/char", "drivers/block")
)

Say = Callable[[str], None]


class CannotBuild(Exception):
    """The image could not be built; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class GuestImage:
    """A kernel (ELF) and the initramfs that belongs to it."""

    kernel: Path
    initramfs: Path
    version: str


def guest_image(say: Say = lambda _: None, cache: Path = CACHE) -> GuestImage:
    """The image, built if there is none for the present files. Needs the network only if no kernel was unpacked yet.
    Raises ``CannotBuild``."""
    digest = _digest()
    ready = sorted(cache.glob(f"image-*-{digest}"))
    if not ready:
        cache.mkdir(parents=True, exist_ok=True)
        kernels = sorted(cache.glob("kernel-*"))
        kernel = kernels[-1] if kernels else _unpack_kernel(cache, say)
        ready = [_build(kernel, digest, cache, say)]
    image = ready[-1]
    return GuestImage(image / "vmlinux", image / "initramfs", image.name.split("-", 1)[1].removesuffix(f"-{digest}"))


def _digest() -> str:
    """Of all that goes into an image but the kernel."""
    content = hashlib.sha256()
    for path in sorted((HERE / "rootfs").rglob("*")):
        content.update(f"{path.relative_to(HERE)} {path.stat().st_mode:o}\n".encode())
        content.update(path.read_bytes() if path.is_file() else b"")
    for path in (Path(__file__), HERE / "cpio.py"):
        content.update(path.read_bytes())
    if not BUSYBOX.exists():
        raise CannotBuild(f"cannot build the guest image: {BUSYBOX} is missing: install busybox-static")
    content.update(f"{BUSYBOX.stat().st_size}".encode())
    return content.hexdigest()[:12]


def _unpack_kernel(cache: Path, say: Say) -> Path:
    """``kernel-VERSION``: vmlinux and the wanted modules of Debian's present kernel, from its package."""
    package = _kernel_package(say)
    version = package.removeprefix("linux-image-")
    with tempfile.TemporaryDirectory(dir=cache, prefix="tmp-") as name:
        work = Path(name)
        say(f"downloading {package} (about 70 MB)")
        _download(package, work, say)
        (archive,) = work.glob("*.deb")
        say("unpacking the kernel and its modules")
        tree = work / "kernel"
        tree.mkdir()
        _unpack(archive, version, tree)
        (bzimage,) = (tree / "boot").iterdir()
        (tree / "vmlinux").write_bytes(elf_of(bzimage.read_bytes()))
        bzimage.unlink()
        _output("depmod", "-b", str(tree), version)
        return _publish(tree, cache / f"kernel-{version}")


def _kernel_package(say: Say) -> str:
    """The package that Debian's metapackage stands for at present. A machine may come without package lists."""
    find = ("apt-cache", "depends", "--important", META_PACKAGE)
    if not _run(*find).stdout:
        _update(say)
    words = _output(*find).decode().split()
    package = next((word for word in words if word.startswith("linux-image-") and word != META_PACKAGE), None)
    if package is None:
        raise CannotBuild(f"cannot find the kernel's package: {META_PACKAGE} names none")
    return package


def _download(package: str, into: Path, say: Say) -> None:
    """One package file, not installed. Lists that are too old name files that are gone: they are read anew once."""
    fetch = ("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package)
    if _run(*fetch, cwd=into).returncode:
        _update(say)
        _output(*fetch, cwd=into)


def _update(say: Say) -> None:
    say("bringing the package lists up to date")
    _output("apt-get", "update", "-qq")


def _unpack(archive: Path, version: str, into: Path) -> None:
    modules = f"./lib/modules/{version}/"
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as dpkg,
        tarfile.open(fileobj=dpkg.stdout, mode="r|") as tar,
    ):
        for member in tar:
            inside = member.name.removeprefix(modules)
            if member.isfile() and (member.name.startswith("./boot/vmlinuz") or _wanted(inside)):
                tar.extract(member, into, filter="data")
    if dpkg.returncode:
        raise CannotBuild(f"cannot unpack {archive.name}: dpkg-deb ended with {dpkg.returncode}")


def _wanted(path: str) -> bool:
    return path.startswith(WANTED) or path in ("modules.order", "modules.builtin")


def elf_of(bzimage: bytes) -> bytes:
    """The ELF kernel inside an x86 bzImage (Linux: Documentation/x86/boot.rst, payload_offset and payload_length)."""
    setup = ((bzimage[0x1F1] or 4) + 1) * 512
    start = setup + int.from_bytes(bzimage[0x248:0x24C], "little")
    length = int.from_bytes(bzimage[0x24C:0x250], "little")
    payload = bzimage[start : start + length]
    if not payload.startswith(b"\xfd7zXZ\0"):
        raise CannotBuild(f"cannot unpack the kernel: its payload begins with {payload[:6]!r}, which is not xz")
    elf = lzma.LZMADecompressor().decompress(payload)  # four bytes of size follow the stream
    if not elf.startswith(b"\x7fELF"):
        raise CannotBuild("cannot unpack the kernel: its payload is not an ELF file")
    return elf


def _build(kernel: Path, digest: str, cache: Path, say: Say) -> Path:
    """``image-VERSION-DIGEST`` from an unpacked kernel."""
    say("building the guest image")
    version = kernel.name.removeprefix("kernel-")
    with tempfile.TemporaryDirectory(dir=cache, prefix="tmp-") as name:
        work = Path(name)
        image = work / "image"
        image.mkdir()
        os.link(kernel / "vmlinux", image / "vmlinux")
        with (image / "initramfs").open("wb") as file:
            archive = Archive(file)
            _add_programs(archive)
            _add_modules(archive, kernel, version, work / "modules")
            archive.close()
        return _publish(image, cache / f"image-{version}-{digest}")


def _add_programs(archive: Archive) -> None:
    for name in ("dev", "proc", "sys", "run", "tmp", "mnt", "root", "bin", "etc"):
        archive.directory(name)
    archive.file("bin/busybox", BUSYBOX.read_bytes(), 0o755)
    for applet in _output(str(BUSYBOX), "--list").decode().split():
        if applet != "busybox":
            archive.symlink(f"bin/{applet}", "busybox")
    archive.symlink("sbin", "bin")
    for path in sorted((HERE / "rootfs").rglob("*")):
        if path.is_file():
            archive.file(str(path.relative_to(HERE / "rootfs")), path.read_bytes(), 0o755)
    archive.file("etc/modules.boot", " ".join(BOOT_MODULES).encode())
    archive.file("etc/modules.nfs", " ".join(NFS_MODULES).encode())


def _add_modules(archive: Archive, kernel: Path, version: str, work: Path) -> None:
    """The modules with all that they depend on, slim, and an index of just these."""
    where = Path("lib/modules") / version
    tree = work / where
    for path in _closure(kernel / where, (*BOOT_MODULES, *NFS_MODULES, *OTHER_MODULES)):
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        # signatures, which would be verified at each load, are no part of the ELF file: objcopy leaves them out
        without = (f"--remove-section={section}" for section in UNREAD_SECTIONS)
        _output("objcopy", "--strip-unneeded", *without, str(kernel / where / path), str(target))
    for index in ("modules.order", "modules.builtin"):
        shutil.copy(kernel / where / index, tree)
    _output("depmod", "-b", str(work), version)
    for module in sorted(tree.rglob("*.ko")):
        archive.file(str(where / module.relative_to(tree)), module.read_bytes())
    archive.file(str(where / "modules.dep"), (tree / "modules.dep").read_bytes())
    archive.file(str(where / "modules.alias"), _aliases((tree / "modules.alias").read_text()))


def _closure(modules: Path, names: Iterable[str]) -> Iterator[str]:
    """Paths of the modules and all that they need, by the kernel's modules.dep ("PATH: PATH PATH")."""
    needs: dict[str, list[str]] = {}
    path_of: dict[str, str] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
        path_of[Path(path).stem.replace("-", "_")] = path
    builtin = {Path(line).stem.replace("-", "_") for line in (modules / "modules.builtin").read_text().splitlines()}
    found: set[str] = set()
    for name in names:
        if name in builtin:
            continue
        if name not in path_of:
            raise CannotBuild(f"cannot build the guest image: the kernel has no module {name}")
        found.update([path_of[name], *needs[path_of[name]]])
    return iter(sorted(found))


def _aliases(text: str) -> bytes:
    """Without those of PCI devices, which the guest's init loads by name: modprobe reads all of it each time."""
    return "".join(line for line in text.splitlines(keepends=True) if " pci:" not in line).encode()


def _publish(tree: Path, target: Path) -> Path:
    """Another build may have been faster: its result is as good."""
    try:
        tree.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    return target


def _run(*argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(argv, cwd=cwd, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise CannotBuild(f"cannot build the guest image: {argv[0]} is not installed: run scripts/setup") from error


def _output(*argv: str, cwd: Path | None = None) -> bytes:
    done = _run(*argv, cwd=cwd)
    if done.returncode:
        raise CannotBuild(f"cannot run {argv[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def main() -> int:
    """Build and say where it is."""
    began = monotonic()

    def say(what: str) -> None:
        print(f"guest image: {what}", flush=True)

    try:
        image = guest_image(say)
    except CannotBuild as error:
        print(f"guest image: {error}", file=sys.stderr)
        return 1
    size = image.initramfs.stat().st_size >> 20
    say(f"ready: kernel {image.version}, initramfs of {size} MB ({monotonic() - began:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
