"""Work in the namespaces of others, by threads made for it: this process stays where it is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from isthmus.host import kernel

_Result = TypeVar("_Result")


def apart(doing: str, work: Callable[[], _Result]) -> _Result:
    """The result of ``work``, done in a thread made for it, which may leave namespaces without moving anything else of
    this process. Raises whatever ``work`` raises."""
    results: list[_Result] = []
    errors: list[BaseException] = []

    def go() -> None:
        try:
            kernel.unshare(
                doing, kernel.CLONE_FS
            )  # who shares its root and working directory may not change mount namespace
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread, whatever it is
            errors.append(error)

    thread = threading.Thread(target=go, name="isthmus-apart")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def visit(doing: str, fd: int, namespaces: int, work: Callable[[], _Result]) -> _Result:
    """The result of ``work``, done in ``namespaces`` of ``fd`` (a namespace, or a process's pidfd); this process stays
    where it is. Raises ``KernelRefused`` if it cannot go there, and whatever ``work`` raises."""

    def there() -> _Result:
        kernel.setns(doing, fd, namespaces)
        return work()

    return apart(doing, there)
