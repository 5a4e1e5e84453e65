"""The system calls that no unit may make, as a filter for the kernel.

A list of denials after Docker's default profile: what makes or enters namespaces and mounts, what looks into other
processes, what loads code into the kernel, and what changes the machine. Handles (open_by_handle_at) stay allowed:
NFS-Ganesha lives on them, and CAP_DAC_READ_SEARCH guards them.
"""

from __future__ import annotations

import errno
import os
import socket
from functools import cache

import pyseccomp

DENIED = (
    # mounts and roots
    *("mount", "umount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount", "fspick", "open_tree"),
    *("move_mount", "mount_setattr", "open_tree_attr"),
    # namespaces, other processes
    *("unshare", "setns", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd"),
    # the kernel's own code, and doors into it
    *("bpf", "init_module", "finit_module", "delete_module", "create_module", "query_module", "get_kernel_syms"),
    *("kexec_load", "kexec_file_load", "perf_event_open", "userfaultfd", "lookup_dcookie", "nfsservctl", "uselib"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "vm86", "vm86old", "modify_ldt"),
    # keys
    *("add_key", "request_key", "keyctl"),
    # the machine: its clock, name, swap, quotas, ports, accounting, log
    *("reboot", "swapon", "swapoff", "quotactl", "quotactl_fd", "acct", "syslog", "vhangup", "iopl", "ioperm"),
    *("settimeofday", "stime", "clock_settime", "clock_settime64", "clock_adjtime", "clock_adjtime64", "adjtimex"),
    *("sethostname", "setdomainname", "personality", "move_pages", "migrate_pages", "set_mempolicy", "mbind"),
    *("get_mempolicy", "set_mempolicy_home_node", "fanotify_init", "_sysctl", "sysfs", "ustat"),
)

FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
"""Of sockets that a unit may open: those that its network namespace confines. Others lead past it (AF_VSOCK reaches the
machine and its guests) or into little-used code of the kernel."""

_NEW_NAMESPACES = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)


@cache
def deny_list() -> bytes:
    """The filter as a BPF program (an array of struct sock_filter): EPERM for each of ``DENIED`` and for a clone into
    new namespaces; ENOSYS for clone3, whose flags no filter can read, so that libraries fall back to clone;
    EAFNOSUPPORT for a socket of a family that is not of ``FAMILIES``. Calls of another architecture kill the process.
    """
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in DENIED:
        if _known(name):
            rules.add_rule(pyseccomp.ERRNO(errno.EPERM), name)
    for flag in _NEW_NAMESPACES:
        rules.add_rule(pyseccomp.ERRNO(errno.EPERM), "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag))
    rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    unknown = pyseccomp.ERRNO(errno.EAFNOSUPPORT)
    for family in set(range(max(FAMILIES))) - set(FAMILIES):
        rules.add_rule(unknown, "socket", pyseccomp.Arg(0, pyseccomp.EQ, family))
    rules.add_rule(unknown, "socket", pyseccomp.Arg(0, pyseccomp.GT, max(FAMILIES)))
    with os.fdopen(os.memfd_create("seccomp", os.MFD_CLOEXEC), "r+b") as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


def _known(name: str) -> bool:
    """Whether this library and architecture have the call; a kernel's newest may be unknown to the library."""
    try:
        return int(pyseccomp.resolve_syscall(pyseccomp.system_arch(), name)) >= 0
    except OSError:
        return False
