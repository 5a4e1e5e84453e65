"""When to try again what failed, and what does not last. Pure: the time comes in."""

from __future__ import annotations

from dataclasses import dataclass, replace

from isthmus.agent.steps import Chain, Subject
from isthmus.model.errors import IsthmusError

FIRST_RETRY = 0.5
LONGEST_RETRY = 60.0
MAY_REPEAT = 5


@dataclass(frozen=True, slots=True)
class Failure:
    """The last try of a chain: what went wrong, how many times in a row, when (seconds) it may be tried again, and
    whether it is ``new``: not what went wrong with the subject the time before."""

    chain: Chain
    error: IsthmusError
    count: int
    retry_at: float
    new: bool = True


class Patience:
    """Failures by subject. Another chain for the subject (the situation has changed) may be tried at once; so may
    everything after ``forget`` (somebody changed what should be)."""

    def __init__(self) -> None:
        self.failures: dict[Subject, Failure] = {}
        self._done: dict[Subject, tuple[Chain, int, float]] = {}

    def forget(self) -> None:
        """Try everything again now; the reasons of failures stay known until the next try."""
        self.failures = {subject: replace(failure, count=0, retry_at=0.0) for subject, failure in self.failures.items()}
        self._done.clear()

    def due(self, chain: Chain, now: float) -> float:
        """When the chain may be tried: ``now`` or a later time."""
        failure = self.failures.get(chain.subject)
        if failure is not None and failure.chain == chain:
            return max(now, failure.retry_at)
        done = self._done.get(chain.subject)
        if done is not None and done[0] == chain and done[1] > MAY_REPEAT:
            return max(now, done[2] + _delay(done[1] - MAY_REPEAT))
        return now

    def failed(self, chain: Chain, error: IsthmusError, now: float) -> Failure:
        """The chain ended with an error."""
        before = self.failures.get(chain.subject)
        count = before.count + 1 if before is not None and before.chain == chain else 1
        new = before is None or before.error.message != error.message
        failure = Failure(chain, error, count, now + _delay(count), new)
        self.failures[chain.subject] = failure
        return failure

    def succeeded(self, chain: Chain, now: float) -> None:
        """The chain was done. If it must be done again and again, it does not last, and gets slower; what lasted for
        two of the longest pauses begins anew."""
        self.failures.pop(chain.subject, None)
        before = self._done.get(chain.subject)
        again = before is not None and before[0] == chain and now - before[2] < 2 * LONGEST_RETRY
        count = before[1] + 1 if before is not None and again else 1
        self._done[chain.subject] = (chain, count, now)

    def keep_only(self, planned: set[Subject]) -> None:
        """Failures of subjects that nobody plans anything for any more are over."""
        self.failures = {subject: failure for subject, failure in self.failures.items() if subject in planned}


def _delay(count: int) -> float:
    return min(LONGEST_RETRY, FIRST_RETRY * float(2 ** min(count - 1, 10)))
