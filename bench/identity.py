"""What identity costs: grants signed and verified, a cycle that knows a thousand, tokens validated."""

from __future__ import annotations

import asyncio
import datetime
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from bench.figures import MORE, Figure
from bench.stage import Run
from isthmus.agent.admission import Admission
from isthmus.agent.ledger import Ledger
from isthmus.model.attachment import AttachmentSpec
from isthmus.model.desired import Desired
from isthmus.model.guest import GuestSpec
from isthmus.model.names import GIB, AttachmentId, GuestId, HostName, PoolName, ProjectId, ShareId, new_id
from isthmus.model.share import ShareSpec
from isthmus.pki.request import make_request, new_key, read_request
from isthmus.pki.trust import Trust
from isthmus.service.domain.attachments import attach
from isthmus.service.domain.grants import issue
from isthmus.service.domain.guests import register_guest
from isthmus.service.identity.base import Presented
from isthmus.service.identity.keystone import KeystoneVoucher
from isthmus.store.store import utc_now
from tests import service_kit
from tests.daemon.keystone import running
from tests.fakes.authority import WEEK, authority, grant_for, signed, with_grants

HOST, POOL, PROJECT = HostName("h1"), PoolName("p1"), ProjectId("acme")
KNOWN = 1000


def _document(attachments: int) -> Desired:
    shares = [ShareId(new_id()) for _ in range(attachments)]
    guest = GuestId(new_id())
    return Desired(
        HOST,
        1,
        shares=tuple(ShareSpec(share, POOL, GIB, project=PROJECT) for share in shares),
        guests=(GuestSpec(guest, PROJECT, HOST),),
        attachments=tuple(
            AttachmentSpec(AttachmentId(new_id()), share, guest, slot, f"/s{slot}")
            for slot, share in enumerate(shares, 1)
        ),
    )


def _rate(rounds: int, work: Callable[[], object]) -> float:
    began = perf_counter()
    for _ in range(rounds):
        work()
    return rounds / (perf_counter() - began)


async def grants(run: Run) -> list[Figure]:
    """Signing and verifying, on one core, and an agent that knows a thousand grants."""
    document, now = _document(1), utc_now()
    grant = grant_for(document, document.attachments[0], 1)
    key = read_request(make_request(new_key()))
    rounds, times = run.rounds(500, 50), run.rounds(5, 2)
    signing = [_rate(rounds, lambda: authority().sign_grant(grant, key, now=now, lifetime=WEEK)) for _ in range(times)]
    certificates = [authority().sign_grant(grant, key, now=now, lifetime=WEEK) for _ in range(rounds)]
    verifying = []
    for _ in range(times):
        fresh = iter(certificates)
        trust = Trust(authority().roots)
        trust.learn(authority().authorities, now)
        verifying.append(_rate(rounds, lambda fresh=fresh, trust=trust: trust.verify_grant(next(fresh), now)))  # type: ignore[misc]
    asking = [_rate(rounds, lambda: make_request(new_key())) for _ in range(times)]
    run.say(f"a cycle with {KNOWN} grants")
    return [
        Figure("grants signed", "per s", tuple(signing), better=MORE),
        Figure("grants verified, each for the first time", "per s", tuple(verifying), better=MORE),
        Figure("keys and requests made", "per s", tuple(asking), better=MORE),
        *_cycle(run),
        *_issue(run),
    ]


def _cycle(run: Run) -> list[Figure]:
    with tempfile.TemporaryDirectory() as directory:
        now = utc_now()
        admission = Admission(HOST, Trust(authority().roots), Ledger(Path(directory)), lambda: now)
        want = _document(KNOWN)
        ids = [spec.id for spec in want.attachments]
        requests: dict[AttachmentId, bytes] = {}
        for first in range(0, KNOWN, 100):
            requests |= admission.requests(ids[first : first + 100])
        want = with_grants(want, signed(want, requests, sequence=1, now=now))
        began = perf_counter()
        assert not admission.judge(want).refused
        cold = (perf_counter() - began) * 1000
        same, changed = [], []
        for number in range(run.rounds(50, 5)):
            began = perf_counter()
            admission.judge(want)
            same.append((perf_counter() - began) * 1000)
            want = replace(want, revision=number + 2)
            began = perf_counter()
            admission.judge(want)
            changed.append((perf_counter() - began) * 1000)
    return [
        Figure(f"{KNOWN} grants: verified for the first time", "ms", (cold,)),
        Figure(f"{KNOWN} grants: a cycle by the same document", "ms", tuple(same), {"median": 1.0}),
        Figure(f"{KNOWN} grants: a cycle by a new document", "ms", tuple(changed)),
    ]


def _issue(run: Run) -> list[Figure]:
    """In the service: checked, signed and recorded, in one transaction on SQLite."""
    took: dict[int, list[float]] = {1: [], 100: []}
    with tempfile.TemporaryDirectory() as directory:
        store = service_kit.opened(Path(directory))
        service_kit.equip(store)
        share = service_kit.made(store)
        ids = []
        with store.write() as tx:
            for _ in range(100):
                guest = register_guest(tx, guest_id=new_id(), project="acme", host=HOST)
                ids.append(attach(tx, share=share.id, guest=guest.id).id)
        request = make_request(new_key())
        for _ in range(run.rounds(20, 3)):
            for many, times in took.items():
                began = perf_counter()
                with store.write() as tx:
                    issue(tx, authority(), HOST, dict.fromkeys(ids[:many], request), datetime.timedelta(days=7))
                times.append((perf_counter() - began) * 1000)
        store.close()
    return [Figure(f"grants issued, {many} in a transaction", "ms", tuple(times)) for many, times in took.items()]


async def tokens(run: Run) -> list[Figure]:
    """Keystone's tokens, by a real one with one worker."""
    with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as keystone:
        presented = [
            Presented({"x-auth-token": keystone.token("member-of-acme", "acme")}) for _ in range(run.rounds(100, 10))
        ]
        voucher = KeystoneVoucher(keystone.config, utc_now)
        asked, known = [], []
        for one in presented:
            began = perf_counter()
            await voucher.caller(one)
            asked.append((perf_counter() - began) * 1000)
        for _ in range(20):
            for one in presented:
                began = perf_counter()
                await voucher.caller(one)
                known.append((perf_counter() - began) * 1e6)
        await voucher.close()
    await asyncio.sleep(0)
    return [
        Figure("token validated, not in the cache", "ms", tuple(asked)),
        Figure("token validated, in the cache", "us", tuple(known)),
    ]
