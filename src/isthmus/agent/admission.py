"""No valid grant, no export: what a host may present, decided off-line from what was signed.

A grant that holds is kept, so that neither an older document, nor a restored database, nor a service that is away takes
it from a guest. It ends by its own time, by being revoked, by a later one, or with its attachment.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from isthmus.agent.ledger import Ledger
from isthmus.agent.plan import NOTHING_DENIED, Denied
from isthmus.model.attachment import AttachmentSpec
from isthmus.model.desired import Desired
from isthmus.model.errors import HostFailure
from isthmus.model.grant import Grant, SignedGrant
from isthmus.model.guest import GuestSpec
from isthmus.model.names import AttachmentId, GuestId, HostName, ShareId
from isthmus.model.share import ShareSpec
from isthmus.pki.request import make_request
from isthmus.pki.trust import GrantRefused, Trust

log = logging.getLogger(__name__)

Now = Callable[[], datetime.datetime]

MOST_REQUESTS = 100
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0
"""Seconds between two requests for one attachment's grant; they double in between."""
RENEW_LEFT = 3
"""A grant is renewed when one part in so many of its life is left."""
MARGIN = datetime.timedelta(seconds=1)

NEVER = datetime.datetime.max.replace(tzinfo=datetime.UTC)

MISSING, REVOKED, MISMATCH = "grant-missing", "grant-revoked", "grant-mismatch"
WAITING = "waiting for its grant"
ENDED = "cannot present it: its grant was revoked"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an attachment is not presented. ``waiting``: it was asked for, and nothing speaks against it so far."""

    code: str
    message: str
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """``refused``: attachments that must not be presented, and why. ``asking``: those whose grants are to be asked for
    now. ``due``: when to judge again even if nothing happens."""

    refused: Mapping[AttachmentId, Refusal] = field(default_factory=dict)
    asking: tuple[AttachmentId, ...] = ()
    due: datetime.datetime = NEVER

    @property
    def denied(self) -> Denied:
        """What the planner must leave out."""
        waiting = frozenset(name for name, refusal in self.refused.items() if refusal.waiting)
        return Denied(frozenset(self.refused), waiting) if self.refused else NOTHING_DENIED


@dataclass(slots=True)
class _Asked:
    """``pause`` in seconds until the next time, 0 to begin with; ``answer``: why the service did not sign, as it said
    last."""

    again: datetime.datetime
    pause: float
    answer: str = ""


class Admission:
    """Of one host. ``certificate``: the serial number of the host's own, "" if it has none. Not for several threads
    at once; never blocks for longer than a small file takes to write."""

    def __init__(self, host: HostName, trust: Trust, ledger: Ledger, now: Now, *, certificate: str = "") -> None:
        self._host, self._trust, self._ledger, self._now = host, trust, ledger, now
        self._certificate = certificate
        self._asked: dict[AttachmentId, _Asked] = {}
        self._authorities: tuple[bytes, ...] = ()
        self._document: Desired | None = None
        self._told_roots: Callable[[tuple[bytes, ...]], None] = _keep_nowhere
        self._last: tuple[Desired, Verdict, datetime.datetime] | None = None
        if ledger.revoked is not None and ledger.revoked != certificate:
            ledger.revoke(None)  # it has enrolled since

    def judge(self, want: Desired, *, current: bool = True) -> Verdict:
        """What of the document may be presented now. The same document at a time when nothing is due costs nothing.
        ``current``: it is the newest that the service has; what is absent from another has not left."""
        now = self._now()
        if self._last is not None:
            document, verdict, at = self._last
            if document is want and at <= now < verdict.due and not self._to_ask(verdict.asking, now):
                return replace(verdict, asking=())
        verdict = self._judge(want, now, current=current)
        self._last = (want, verdict, now)
        return verdict

    def requests(self, attachments: Collection[AttachmentId]) -> dict[AttachmentId, bytes]:
        """Certificate requests (PKCS #10, DER) for these, at most a hundred."""
        made = {}
        for name in list(attachments)[:MOST_REQUESTS]:
            made[name] = make_request(self._ledger.key(name), self._host)
        return made

    def asked(
        self, attachments: Collection[AttachmentId], refused: Mapping[AttachmentId, str], *, reached: bool = True
    ) -> None:
        """The service has been asked for these, and has said why it does not sign some; or it was not ``reached``,
        which is no reason to ask less often."""
        now = self._now()
        for name in attachments:
            before = self._asked.get(name, _Asked(now, 0))
            pause = min(max(before.pause * 2, FIRST_PAUSE), LONGEST_PAUSE) if reached else FIRST_PAUSE
            again = now + datetime.timedelta(seconds=pause)
            self._asked[name] = _Asked(again, pause, refused.get(name, "") if reached else before.answer)
        self._last = None

    def revoke(self) -> bool:
        """The service does not take this host for what it was any more: nothing may be presented, until the host has
        enrolled anew. Returns whether that is news."""
        if self._ledger.revoked == self._certificate:
            return False
        self._ledger.revoke(self._certificate)
        self._last = None
        return True

    def enrolled(self, certificate: str) -> None:
        """The host was enrolled anew; its certificate has this serial number."""
        self._certificate = certificate
        self._ledger.revoke(None)
        self._last = None

    def renewed(self, certificate: str) -> None:
        """The host's certificate has another serial number. What was revoked stays so: that takes an operator."""
        self._certificate = certificate
        if self._ledger.revoked is not None:
            self._ledger.revoke(certificate)

    def pause(self, verdict: Verdict) -> float:
        """Seconds until the verdict is due."""
        return (verdict.due - self._now()).total_seconds()

    def on_roots(self, keep: Callable[[tuple[bytes, ...]], None]) -> None:
        """``keep`` is called with the roots (DER) whenever others are believed."""
        self._told_roots = keep

    def save(self) -> None:
        """Keep what was learned. Blocks."""
        self._ledger.save()

    def _judge(self, want: Desired, now: datetime.datetime, *, current: bool) -> Verdict:
        if self._ledger.revoked is not None:
            refusal = Refusal(
                "host-revoked",
                f"cannot present it: the certificate of host {self._host} was revoked: enrol the host anew "
                "with isthmus host enrol",
            )
            return Verdict({spec.id: refusal for spec in want.attachments})
        if want.authorities != self._authorities:
            self._learn(want.authorities, now)
        if current and self._document is not want:
            for asked in self._asked.values():
                if asked.answer:  # whatever kept the service from signing may be over; until it says so, it is not
                    asked.again, asked.pause = now, 0
            self._document = want
        case = _Case(self, want, now)
        for spec in want.attachments:
            case.look(spec)
        if current:
            present = {spec.id for spec in want.attachments}
            self._ledger.keep_only(present, now.timestamp())
            for name in [name for name in self._asked if name not in present]:
                del self._asked[name]
        return Verdict(case.refused, tuple(case.asking), min(case.due, default=NEVER))

    def _learn(self, authorities: tuple[bytes, ...], now: datetime.datetime) -> None:
        self._authorities = authorities
        if not self._trust.learn(authorities, now):
            return
        try:
            self._told_roots(self._trust.roots)
        except HostFailure as error:
            log.warning("cannot keep the new roots, they are learnt again after a restart: %s", error)

    def _to_ask(self, names: Collection[AttachmentId], now: datetime.datetime) -> list[AttachmentId]:
        return [name for name in names if name not in self._asked or self._asked[name].again <= now]


def _keep_nowhere(_roots: tuple[bytes, ...]) -> None:
    """Roots that are believed in memory alone."""


class _Case:
    """One document at one time."""

    def __init__(self, admission: Admission, want: Desired, now: datetime.datetime) -> None:
        self._trust, self._ledger, self._asked = admission._trust, admission._ledger, admission._asked
        self._host, self._want, self._now = admission._host, want, now
        self._revoked = frozenset(want.revoked)
        self._guests: dict[GuestId, GuestSpec] = {guest.id: guest for guest in want.guests}
        self._shares: dict[ShareId, ShareSpec] = {share.id: share for share in want.shares}
        self.refused: dict[AttachmentId, Refusal] = {}
        self.asking: list[AttachmentId] = []
        self.due: list[datetime.datetime] = []

    def look(self, spec: AttachmentSpec) -> None:
        """Decide about one attachment."""
        entry = self._ledger.entry(spec.id)
        if entry.left_at:
            entry = replace(entry, left_at=0)
            self._ledger.change(spec.id, entry)
        offered = self._want.grants.get(spec.id)
        refusal: Refusal | None = None
        best: SignedGrant | None = None
        for certificate in dict.fromkeys(one for one in (entry.certificate, offered) if one):
            try:
                signed = self._check(spec, certificate)
            except GrantRefused as error:
                if certificate == offered or error.code != MISMATCH:
                    refusal = Refusal(error.code, error.message)
                continue  # one that is kept, for terms that were changed since: another is on its way
            if best is None or signed.grant.sequence >= best.grant.sequence:
                best = signed
                self._accept(spec.id, signed, certificate)
        if best is None:
            self._refuse(spec.id, refusal)
        else:
            self._serve(spec.id, best, listed=offered == self._ledger.entry(spec.id).certificate)

    def _check(self, spec: AttachmentSpec, certificate: bytes) -> SignedGrant:
        """The grant, if it holds for the attachment. Raises ``GrantRefused``."""
        try:
            signed = self._trust.verify_grant(certificate, self._now)
        except GrantRefused as error:
            if error.code == "grant-not-yet-valid":
                self.due.append(self._now + datetime.timedelta(seconds=FIRST_PAUSE))
            raise
        if signed.serial in self._revoked:
            # From now on its number is too low, so that an older document, without the word of it, does not revive it.
            entry = self._ledger.entry(spec.id)
            if signed.grant.attachment == spec.id and signed.grant.sequence >= entry.floor:
                floor = max(entry.floor, signed.grant.sequence + 1)
                self._ledger.change(spec.id, replace(entry, floor=floor, certificate=b"", revoked=True))
            raise GrantRefused(ENDED, code=REVOKED)
        check_terms(signed.grant, self._host, spec, self._guests.get(spec.guest), self._shares.get(spec.share))
        floor = self._ledger.entry(spec.id).floor
        if signed.grant.sequence < floor:
            raise GrantRefused(
                f"cannot take the grant: its number {signed.grant.sequence} is below {floor}, which this host has "
                "seen: it is an old one, brought back",
                code="grant-replayed",
            )
        if not self._ledger.holds(spec.id, signed.key):
            raise GrantRefused(
                "cannot take the grant: it is for a key that this host does not have", code="grant-foreign-key"
            )
        return signed

    def _accept(self, name: AttachmentId, signed: SignedGrant, certificate: bytes) -> None:
        entry = self._ledger.entry(name)
        if entry.certificate != certificate:
            known = replace(entry, floor=signed.grant.sequence, certificate=certificate, revoked=False)
            self._ledger.change(name, known)
            self._ledger.settle(name, signed.key)
            self._asked.pop(name, None)

    def _serve(self, name: AttachmentId, signed: SignedGrant, *, listed: bool) -> None:
        """``listed``: it is the one that the document has. If it is not, the service may have forgotten it, and could
        not revoke it: another is asked for."""
        renewal = signed.not_after - (signed.not_after - signed.not_before) / RENEW_LEFT
        self.due.append(signed.not_after + MARGIN)
        if not listed or self._now >= renewal:
            self._ask(name)
        else:
            self.due.append(renewal)

    def _refuse(self, name: AttachmentId, refusal: Refusal | None) -> None:
        asked = self._asked.get(name)
        if refusal is None and self._ledger.entry(name).revoked:
            refusal = Refusal(REVOKED, ENDED)
        if asked is not None and asked.answer:
            refusal = Refusal(refusal.code if refusal else MISSING, asked.answer)
        self.refused[name] = refusal or Refusal(MISSING, WAITING, waiting=True)
        self._ask(name)

    def _ask(self, name: AttachmentId) -> None:
        asked = self._asked.get(name)
        if asked is None or asked.again <= self._now:
            self.asking.append(name)
        else:
            self.due.append(asked.again)


def check_terms(
    grant: Grant, host: HostName, spec: AttachmentSpec, guest: GuestSpec | None, share: ShareSpec | None
) -> None:
    """What is signed is what the document asks for, on this host, and all of it is one project's. Raises
    ``GrantRefused``."""
    if guest is None or share is None:
        raise GrantRefused("cannot take the grant: the document has no such guest or share", code=MISMATCH)
    identity = (
        ("host", grant.host, host, "grant-other-host"),
        ("host", guest.host, host, "grant-other-host"),
        ("attachment", grant.attachment, spec.id, MISMATCH),
        ("guest", grant.guest, spec.guest, "grant-other-guest"),
        ("share", grant.share, share.serves or share.id, "grant-other-share"),
        ("guest of project", guest.project, grant.project, "grant-other-project"),
        ("share of project", share.project, grant.project, "grant-other-project"),
        ("pool", grant.pool, share.pool, MISMATCH),
        ("object", grant.volume, share.id, MISMATCH),
        ("place", grant.place, spec.at, MISMATCH),
        ("mode", grant.mode, spec.mode, MISMATCH),
        ("access", grant.access, spec.access, MISMATCH),
        ("sub-path", grant.sub_path, "", MISMATCH),
    )
    for noun, signed, asked, code in identity:
        if signed != asked:
            raise GrantRefused(f"cannot take the grant: its {noun} is {signed}, and here it is {asked}", code=code)
    if grant.id_map or grant.qos:
        raise GrantRefused("cannot take the grant: it has terms that this host cannot keep", code=MISMATCH)
