"""Sockets that live in a network namespace and are used from outside it."""

from __future__ import annotations

import socket

from isthmus.host import netns


def socket_in(
    namespace: str, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0
) -> socket.socket:
    """A socket of the namespace's network, not connected. Raises ``KernelRefused`` if there is no such namespace."""
    return netns.inside(namespace, lambda: socket.socket(family, kind, protocol))
