"""``isthmus up`` that kills itself (SIGKILL) at a chosen point: cut.py N before|after --config FILE up.

Steps are counted as they are begun, over all chains. ``before``: as the N-th is begun, ``after``: when it has been done
and nothing yet knows. With ``inside``, N counts system calls and programs run by the host floor while a step is done.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from isthmus.agent import loop
from isthmus.agent.equipment import Equipment
from isthmus.agent.steps import Step
from isthmus.host import command, kernel

number, where = int(sys.argv[1]), sys.argv[2]
count = 0
working = 0
do = loop.do  # type: ignore[attr-defined]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def tick(kind: str) -> None:
    """One more; the N-th is the last."""
    global count
    if kind == where:
        count += 1
        if count == number:
            die()


async def counted(step: Step, equipment: Equipment) -> None:
    """A step, watched."""
    global working
    tick("before")
    working += 1
    try:
        await do(step, equipment)
    finally:
        working -= 1
    tick("after")


def watched(work: Callable[..., Any]) -> Callable[..., Any]:
    """A call of the host floor, counted while a step is being done."""

    @functools.wraps(work)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        if working:
            tick("inside")
        return work(*arguments, **options)

    return wrapper


if __name__ == "__main__":
    loop.do = counted  # type: ignore[attr-defined]
    kernel.syscall = watched(kernel.syscall)
    command.Command.run = watched(command.Command.run)  # type: ignore[method-assign]
    sys.argv[1:3] = []
    from isthmus.cli.main import main

    main()
