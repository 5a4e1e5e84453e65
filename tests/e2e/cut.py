"""``isthmus up`` that kills itself (SIGKILL) at a chosen point: cut.py N before|after --config FILE up.

Steps are counted as they are begun, over all chains. ``before``: as the N-th is begun, ``after``: when it has been done
and nothing yet knows. With ``inside``, N counts system calls and programs run by the host floor while a step is done.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from isthmus.agent import hands, loop
from isthmus.agent.equipment import Equipment
from isthmus.agent.steps import Step
from isthmus.cli.main import main
from isthmus.host import command, kernel

Do = Callable[[Step, Equipment], Coroutine[Any, Any, None]]


class Cut:
    """Counts, and dies at the chosen count."""

    def __init__(self, number: int, where: str) -> None:
        self._left, self._where = number, where
        self._working = 0

    def tick(self, kind: str) -> None:
        """One more of this kind; the N-th is the last."""
        if kind == self._where:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def step(self, do: Do) -> Do:
        """``do``, counted."""

        async def counted(step: Step, equipment: Equipment) -> None:
            self.tick("before")
            self._working += 1
            try:
                await do(step, equipment)
            finally:
                self._working -= 1
            self.tick("after")

        return counted

    def call(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """A call of the host floor, counted while a step is being done."""

        @functools.wraps(work)
        def counted(*arguments: Any, **options: Any) -> Any:
            if self._working:
                self.tick("inside")
            return work(*arguments, **options)

        return counted


if __name__ == "__main__":
    cut = Cut(int(sys.argv[1]), sys.argv[2])
    vars(loop)["do"] = cut.step(hands.do)
    for name in ("syscall", "umount", "setns", "unshare"):
        setattr(kernel, name, cut.call(getattr(kernel, name)))
    command.Command.run = cut.call(command.Command.run)  # type: ignore[method-assign]
    sys.argv[1:3] = []
    main()
