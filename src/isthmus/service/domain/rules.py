"""Access rules of the Shared File Systems API, and the attachments that they come down to.

A rule is a standing choice among the guests of the share's own project, and of no other: ``user`` names one by its
id, ``ip`` those that have an address in a network. Each guest that a rule chooses gets the share, one attachment each;
where several rules choose the same guest, read-write wins. ``reconcile`` makes the attachments what the rules say,
whenever a rule, a guest or an attachment came or went. What was attached by itself is left alone, and shows as a rule
of its own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from isthmus.model.attachment import Access
from isthmus.model.errors import Conflict, Invalid, IsthmusError, NotFound
from isthmus.model.names import AttachmentId, parse_uuid
from isthmus.model.status import AttachmentStatus, ShareStatus
from isthmus.service.domain import attachments, grants
from isthmus.service.domain.words import plain
from isthmus.store.query import Query
from isthmus.store.records import RuleRow
from isthmus.store.rows import AttachmentRow, GuestRow, PoolRow, ShareRow
from isthmus.store.tx import ReadTx, Tx

IP, USER = "ip", "user"
RULE_ENDED = "its access rule ended"
ACCESS_CHANGED = "its access changed"
_PENDING = frozenset({AttachmentStatus.ATTACHING, AttachmentStatus.DETACHING})


def allow(tx: Tx, share: ShareRow, rule_id: str, *, kind: str, to: str, access: Access, user: str) -> RuleRow:
    """A rule. Raises ``Invalid`` for what no rule can be, ``Conflict`` for a share that is not available, or a rule
    that exists."""
    doing = f"allow access to share {share.id}"
    if share.status != ShareStatus.AVAILABLE:
        raise Conflict(f"cannot {doing}: it is {share.status}", code="illegal-status")
    to = _whom(tx, share, kind, to)
    for other in tx.all(RuleRow, share=share.id):
        if (other.kind, other.to) == (kind, to):
            raise Conflict(f"cannot {doing}: access rule {other.id} is for {kind} {to}", code="access-exists")
    if kind == USER and (known := _native(tx, share, to)):
        raise Conflict(f"cannot {doing}: access rule {known.id} is for {kind} {to}", code="access-exists")
    rule = tx.add(RuleRow(rule_id, share.id, share.project, kind, to, access, user=user))
    reconcile(tx, share)
    return tx.need(RuleRow, rule.id)


def update(tx: Tx, rule: RuleRow, access: Access) -> RuleRow:
    """The rule with this access; the guests feel it."""
    if rule.denied:
        raise Conflict(f"cannot change access rule {rule.id}: it is being denied", code="illegal-status")
    tx.change(rule, access=access)
    reconcile(tx, tx.need(ShareRow, rule.share))
    return tx.need(RuleRow, rule.id)


def deny(tx: Tx, rule: RuleRow) -> None:
    """The rule ends; it is gone when the last of its guests has let go."""
    if not rule.denied:
        tx.change(rule, denied=True)
    reconcile(tx, tx.need(ShareRow, rule.share))


def reconcile(tx: Tx, share: ShareRow) -> None:
    """The share's attachments are what its rules say, as far as can be now; rules that nobody holds any more are
    gone."""
    rules = tx.all(RuleRow, share=share.id)
    if not rules:
        return
    guests = {guest.id: guest for guest in tx.all(GuestRow, project=share.project)}
    wanted = _chosen([rule for rule in rules if not rule.denied], guests.values(), share)
    have = {row.guest: row for row in tx.all(AttachmentRow, share=share.id)}
    troubles: dict[str, str] = {}
    for guest, rule in wanted.items():
        known = have.get(guest)  # type: ignore[call-overload]
        try:
            _settle(tx, share, guests[guest], rule, known)  # type: ignore[index]
        except IsthmusError as error:
            troubles[rule.id] = plain(error.message)
    for guest, row in have.items():
        if row.rule is not None and guest not in wanted and row.status != AttachmentStatus.DETACHING:
            attachments.detach(tx, row.id, by_rule=True)
    held = {row.rule for row in tx.all(AttachmentRow, share=share.id)}
    for rule in rules:
        if rule.denied and rule.id not in held:
            forget(tx, rule)
        elif not rule.denied:
            tx.measure(rule, reason=troubles.get(rule.id, ""))


def reconcile_project(tx: Tx, project: str) -> None:
    """The same for all shares of a project, after a guest of it came or changed."""
    for share in {rule.share for rule in tx.all(RuleRow, project=project)}:
        reconcile(tx, tx.need(ShareRow, share))


def cut(tx: Tx, attachment: AttachmentRow) -> None:
    """The attachment is gone from what should be, at once: its host takes down what it finds of it."""
    grants.end_all(tx, attachment, RULE_ENDED)
    row = attachment
    if row.status != AttachmentStatus.DETACHING:
        row = tx.move(row, AttachmentStatus.DETACHING)
    tx.move(row, AttachmentStatus.GONE)


def cut_share(tx: Tx, share: ShareRow) -> None:
    """The share has no rules, and no attachments of rules."""
    for row in tx.all(AttachmentRow, share=share.id):
        if row.rule is not None:
            cut(tx, row)
    for rule in tx.all(RuleRow, share=share.id):
        forget(tx, rule)


def forget(tx: Tx, rule: RuleRow) -> None:
    """The rule is gone with its metadata and its locks, and with the locks that these brought along."""
    tx.unlabel(rule.id)
    own = [*tx.locks_of([rule.id], "delete"), *tx.locks_of([rule.id], "show")]
    brought = [lock for lock in tx.locks_of([rule.share], "delete") if lock.cause in {one.id for one in own}]
    for lock in (*own, *brought):
        tx.release(lock)
    tx.remove(rule)


def states(tx: ReadTx, rules: Iterable[RuleRow]) -> dict[str, str]:
    """How far each rule is, in the API's words."""
    known = list(rules)
    by_rule: dict[str, list[AttachmentRow]] = {}
    if known:
        for row in tx.page(AttachmentRow, Query(equal={"rule": [rule.id for rule in known]})):
            by_rule.setdefault(row.rule or "", []).append(row)
    return {rule.id: _state(rule, by_rule.get(rule.id, [])) for rule in known}


def state_of(row: AttachmentRow) -> str:
    """The same of an attachment that no rule made."""
    if row.status == AttachmentStatus.DETACHING:
        return "denying"
    return {AttachmentStatus.ATTACHING: "applying", AttachmentStatus.ERROR: "error"}.get(row.status, "active")


def rules_status(tx: ReadTx, shares: Sequence[str]) -> dict[str, str]:
    """``syncing`` or ``error`` of those shares whose rules are not all active."""
    found: dict[str, str] = {}
    held, leaving = _moving(tx, shares)
    for share, status in held:
        if status == AttachmentStatus.ERROR:
            found[share] = "error"
        elif status in _PENDING:
            found.setdefault(share, "syncing")
    for share in leaving:
        found.setdefault(share, "syncing")
    return found


def _moving(tx: ReadTx, shares: Sequence[str]) -> tuple[list[tuple[str, AttachmentStatus]], list[str]]:
    """Attachments that may not be at rest, and shares with a rule on its way out. Of one share, as is asked most often,
    all rows are loaded, by a statement that is prepared: wording another would take longer than the rest."""
    if len(shares) == 1:
        attached = tx.all(AttachmentRow, share=shares[0])
        denied: list[str] = [rule.share for rule in tx.all(RuleRow, share=shares[0]) if rule.denied]
        return [(row.share, row.status) for row in attached], denied
    narrowed = {"share": shares, "status": [str(one) for one in (*_PENDING, AttachmentStatus.ERROR)]}
    found = tx.pick(AttachmentRow, ("share", "status"), Query(equal=narrowed))
    leaving = tx.pick(RuleRow, ("share",), Query(equal={"share": shares, "denied": True}))
    return [(share, status) for share, status in found], [share for (share,) in leaving]


def place_of(share: ShareRow) -> str:
    """Where guests that a rule chose see the share: known before there is any."""
    return f"/{share.mount_name or share.id}"


def _settle(tx: Tx, share: ShareRow, guest: GuestRow, rule: RuleRow, known: AttachmentRow | None) -> None:
    """The guest has the share by this rule, unless it has it by itself, or is just letting it go."""
    if known is None:
        if rule.kind == IP and tx.need(PoolRow, share.pool).host != guest.host:
            return  # a network may well choose guests that this pool cannot reach
        attachments.attach(
            tx,
            share=share.id,
            guest=guest.id,
            at=place_of(share),
            access=rule.access,
            user=rule.user,
            attachment_id=rule.id if rule.kind == USER else None,
            rule=rule.id,
        )
    elif known.rule is not None and known.status != AttachmentStatus.DETACHING:
        if known.access != rule.access:
            grants.end_all(tx, known, ACCESS_CHANGED)
            known = tx.want(tx.move(known, AttachmentStatus.ATTACHING, ACCESS_CHANGED), access=rule.access)
        if known.rule != rule.id:
            tx.change(known, rule=rule.id)


def _chosen(rules: list[RuleRow], guests: Iterable[GuestRow], share: ShareRow) -> Mapping[str, RuleRow]:
    """By guest, the rule by which it gets the share."""
    if share.status == ShareStatus.DELETING:
        return {}
    networks = {rule.id: ipaddress.ip_network(rule.to, strict=False) for rule in rules if rule.kind == IP}
    found: dict[str, RuleRow] = {}
    for guest in guests:
        fitting = [rule for rule in rules if _fits(rule, guest, networks.get(rule.id))]
        if fitting:
            found[guest.id] = min(fitting, key=lambda rule: (rule.access != Access.RW, rule.kind != USER, rule.id))
    return found


def _fits(rule: RuleRow, guest: GuestRow, network: ipaddress.IPv4Network | ipaddress.IPv6Network | None) -> bool:
    if network is None:
        return guest.id == rule.to
    if network.prefixlen == 0:
        return True
    return any(ipaddress.ip_address(address) in network for address in guest.addresses)


def _state(rule: RuleRow, rows: list[AttachmentRow]) -> str:
    if rule.denied:
        return "denying"
    if rule.reason or any(row.status == AttachmentStatus.ERROR for row in rows):
        return "error"
    return "applying" if any(row.status in _PENDING for row in rows) else "active"


def _whom(tx: ReadTx, share: ShareRow, kind: str, to: str) -> str:
    """The canonical form of ``to``."""
    if kind == IP:
        try:
            network = ipaddress.ip_network(to, strict=False)
        except ValueError as error:
            raise Invalid(f"cannot use {ascii(to)[:60]} as access_to: {error}", field="access_to") from error
        whole = network.prefixlen == network.max_prefixlen and "/" not in to
        return str(network.network_address) if whole else str(network)
    if kind != USER:
        raise Invalid(
            f"cannot use access_type {ascii(kind)[:20]} for an NFS share: use user with the id or name of a guest of "
            "this project, or ip with its address or a network",
            field="access_type",
        )
    return _guest(tx, share, to)


def _guest(tx: ReadTx, share: ShareRow, to: str) -> str:
    """The id of the guest of this id or name."""
    try:
        guest = tx.get(GuestRow, parse_uuid(to, "access_to"))
    except Invalid:
        named = tx.all(GuestRow, project=share.project, name=to)
        if len(named) > 1:
            raise Invalid("cannot choose among several guests of this name: give the id", field="access_to") from None
        guest = named[0] if named else None
    if guest is None or guest.project != share.project:
        raise Invalid(
            f"cannot use {ascii(to)[:80]} as access_to: project {share.project} has no guest of this id or name",
            field="access_to",
        )
    return guest.id


def _native(tx: ReadTx, share: ShareRow, guest: str) -> AttachmentRow | None:
    rows = tx.all(AttachmentRow, share=share.id, guest=guest)
    return rows[0] if rows and rows[0].rule is None else None


def find(tx: ReadTx, rule_id: str) -> RuleRow | AttachmentRow:
    """The rule of this id, or the attachment that shows as one. Raises ``NotFound``."""
    rule = tx.get(RuleRow, rule_id)
    if rule is not None:
        return rule
    row = tx.get(AttachmentRow, AttachmentId(rule_id))
    if row is None or row.rule is not None:
        raise NotFound("share access rule", rule_id[:80])
    return row


def of_share(tx: ReadTx, share: ShareRow) -> list[RuleRow]:
    """The share's rules."""
    return tx.all(RuleRow, share=share.id)
