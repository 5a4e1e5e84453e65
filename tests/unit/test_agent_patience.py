"""When failed and fleeting chains are tried again."""

from __future__ import annotations

from isthmus.agent.patience import FIRST_RETRY, LONGEST_RETRY, MAY_REPEAT, Patience
from isthmus.agent.steps import Chain, Kind, MakeLink, RemoveLink, Step, Subject
from isthmus.model.errors import HostFailure
from isthmus.model.names import GuestId

GUEST = GuestId("a0000001-0000-4000-8000-000000000000")
ERROR = HostFailure("cannot make the link: no")


def chain(step: Step) -> Chain:
    subject = Subject(Kind.LINK, GUEST)
    return Chain(subject, (step,), frozenset({subject}))


MAKE, REMOVE = chain(MakeLink(GUEST)), chain(RemoveLink(GUEST))


def test_a_failure_waits_ever_longer_up_to_a_bound() -> None:
    patience = Patience()
    pauses = []
    for _ in range(12):
        patience.failed(MAKE, ERROR, 100.0)
        pauses.append(patience.due(MAKE, 100.0) - 100.0)
    assert pauses[:4] == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY, 8 * FIRST_RETRY]
    assert pauses[-1] == LONGEST_RETRY


def test_another_chain_for_the_subject_is_tried_at_once() -> None:
    patience = Patience()
    patience.failed(MAKE, ERROR, 100.0)
    assert patience.due(REMOVE, 100.0) == 100.0


def test_a_new_document_lets_everything_be_tried_and_keeps_the_reason() -> None:
    patience = Patience()
    patience.failed(MAKE, ERROR, 100.0)
    patience.forget()
    assert patience.due(MAKE, 100.0) == 100.0
    assert patience.failures[MAKE.subject].error is ERROR


def test_the_same_trouble_is_news_once() -> None:
    patience = Patience()
    assert patience.failed(MAKE, ERROR, 1.0).new
    assert not patience.failed(MAKE, ERROR, 2.0).new
    assert patience.failed(MAKE, HostFailure("cannot make the link: another cause"), 3.0).new


def test_what_does_not_last_gets_slower_and_is_forgiven_when_it_lasted() -> None:
    patience = Patience()
    for _ in range(MAY_REPEAT):
        patience.succeeded(MAKE, 100.0)
    assert patience.due(MAKE, 100.0) == 100.0
    patience.succeeded(MAKE, 100.0)
    patience.succeeded(MAKE, 100.0)
    assert patience.due(MAKE, 100.0) > 100.0
    much_later = 100.0 + 2 * LONGEST_RETRY
    patience.succeeded(MAKE, much_later)
    assert patience.due(MAKE, much_later) == much_later


def test_what_nobody_plans_any_more_is_over() -> None:
    patience = Patience()
    patience.failed(MAKE, ERROR, 1.0)
    patience.keep_only(set())
    assert patience.failures == {}
