"""What somebody does, as the audit will tell it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from isthmus.model.caller import Caller
from isthmus.store.rows import AuditRow


@dataclass(frozen=True, slots=True)
class Act:
    """One request: its id, who makes it, and the rule of its route (``isthmus:shares:create``). ``named``: the objects
    that its path names, as ``kind/key``. Without an ``action`` it is the service's own doing and not audited."""

    caller: Caller
    request: str = ""
    action: str = ""
    named: tuple[str, ...] = ()


NOTHING = Act(Caller())

DONE = "done"


def entry_of(act: Act, touched: Iterable[str] = (), outcome: str = DONE) -> AuditRow:
    """The audit's entry: what the act named, and what it touched besides."""
    caller = act.caller
    return AuditRow(
        request=act.request,
        way=str(caller.way),
        user=caller.user,
        name=caller.name,
        project=caller.project or "",
        host=caller.host or "",
        address=caller.address,
        action=act.action,
        targets=(*act.named, *sorted(set(touched) - set(act.named))),
        outcome=outcome,
    )
