"""The loop: independent chains, deadlines, retries, a service that is away, a host that hangs."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.agent.loop import Agent, Tempo
from isthmus.agent.steps import CreateShare, MountShare, PlugNic, Present, ReleaseShare, StartGateway, UnplugNic
from isthmus.model.attachment import AttachmentSpec, GatewaySeen, Mode
from isthmus.model.desired import Desired, Phase
from isthmus.model.errors import Exhausted, HostFailure
from isthmus.model.guest import GuestEvent, GuestEventKind, GuestSeen, GuestSpec, GuestState
from isthmus.model.layout import Layout
from isthmus.model.names import GIB, AttachmentId, GuestId, HostName, PoolName, ProjectId, ShareId
from isthmus.model.share import Pool, ShareGone, ShareSpec
from isthmus.pki.facts import facts_of
from tests.fakes.authority import WEEK, admission
from tests.fakes.host import Desk, Host, Notebook, fail_with, hang
from tests.fakes.world import World

LAYOUT = Layout("t", Path("/run/t"), Path("/var/lib/t"))
HOST = HostName("h")
D = ProjectId("d")
P, Q = PoolName("p"), PoolName("q")
POOLS = (Pool(P, "local", HOST, "/p"), Pool(Q, "local", HOST, "/q"))
S1, S2 = (ShareId(f"00000000-0000-4000-8000-00000000000{n}") for n in (1, 2))
G1, G2 = (GuestId(f"a000000{n}-0000-4000-8000-000000000000") for n in (1, 2))
A1, A2 = (AttachmentId(f"b0000000-0000-4000-8000-00000000000{n}") for n in (1, 2))
TEMPO = Tempo(audit=3600, heartbeat=3600, look=0.05, poll=0.5, retry=0.01)

FULL = Desired(
    HOST,
    1,
    POOLS,
    shares=(ShareSpec(S1, P, GIB, project=D), ShareSpec(S2, Q, GIB, project=D)),
    guests=(GuestSpec(G1, D, HOST), GuestSpec(G2, D, HOST)),
    attachments=(AttachmentSpec(A1, S1, G1, 1, "/one"), AttachmentSpec(A2, S2, G2, 1, "/two")),
)


@pytest.fixture
def host() -> Host:
    world = World(LAYOUT, (P, Q))
    for guest in (G1, G2):
        world.guests[guest] = GuestSeen(guest, GuestState.RUNNING)
    return Host(world)


@pytest.fixture
def desk(host: Host) -> Desk:
    return Desk(host)


@contextlib.asynccontextmanager
async def running(
    host: Host, desk: Desk, memory: Notebook | None = None, tempo: Tempo = TEMPO, ledger: Path | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    with tempfile.TemporaryDirectory() as directory:
        admitted = admission(HOST, ledger or Path(directory))
        agent = Agent(HOST, LAYOUT, host.equipment(), desk, memory or Notebook(), admission=admitted, tempo=tempo)
        async with ended(asyncio.create_task(agent.run())) as task:
            yield task


@contextlib.asynccontextmanager
async def ended(task: asyncio.Task[None]) -> AsyncIterator[asyncio.Task[None]]:
    try:
        yield task
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def phases(**wanted: Phase):  # type: ignore[no-untyped-def]
    named = {"a1": A1, "a2": A2}
    return lambda report: all(
        named[name] in report.attachments and report.attachments[named[name]].phase is phase
        for name, phase in wanted.items()
    )


async def test_two_attachments_come_up_and_go(host: Host, desk: Desk) -> None:
    async with running(host, desk):
        await desk.order(FULL)
        report = await desk.told(phases(a1=Phase.PRESENT, a2=Phase.PRESENT))
        assert {share: said.condition.phase for share, said in report.shares.items()} == {
            S1: Phase.PRESENT,
            S2: Phase.PRESENT,
        }
        assert host.world.disagreements(FULL) == []
        gone = replace(
            FULL,
            revision=2,
            shares=(),
            doomed_shares=(ShareGone(S1, P), ShareGone(S2, Q)),
            attachments=(),
        )
        await desk.order(gone)
        await desk.told(lambda report: report.revision == 2 and not report.attachments and not report.shares)
        while host.world.disagreements(gone):  # noqa: ASYNC110
            await asyncio.sleep(0)


@pytest.mark.parametrize("step", [MountShare, StartGateway, PlugNic, Present])
async def test_one_that_hangs_stops_no_other(host: Host, desk: Desk, step: type) -> None:
    async def hang_for_the_first(what: object) -> None:
        if getattr(what, "share", None) == S1 or getattr(what, "guest", None) == G1:
            await asyncio.Event().wait()

    host.faults[step] = hang_for_the_first
    async with running(host, desk):
        await desk.order(FULL)
        report = await desk.told(phases(a2=Phase.PRESENT))
        assert report.attachments[A1].phase is Phase.WORKING


async def test_a_step_that_misses_its_deadline_is_told_and_tried_again(
    host: Host, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MountShare, "deadline", 0.01)
    host.faults[MountShare] = hang
    async with running(host, desk):
        await desk.order(FULL)
        report = await desk.told(phases(a1=Phase.FAILED))
        assert report.attachments[A1].reason == f"cannot mount share {S1}: not done within 0.01 s"
        assert report.attachments[A1].code == "deadline-expired"
        del host.faults[MountShare]
        await desk.told(phases(a1=Phase.PRESENT, a2=Phase.PRESENT))


async def test_a_failure_is_one_notice_and_heals_with_the_next_try(host: Host, desk: Desk) -> None:
    host.faults[CreateShare] = fail_with(Exhausted(f"cannot create share {S1}: pool p is full"))
    async with running(host, desk):
        await desk.order(FULL)
        await desk.told(phases(a1=Phase.PRESENT, a2=Phase.PRESENT))
    said = [notice for report in desk.reports for notice in report.notices]
    assert [(notice.subject, notice.message) for notice in said] == [(S1, f"cannot create share {S1}: pool p is full")]
    failed = [report for report in desk.reports if S1 in report.shares]
    assert failed[0].shares[S1].condition.phase is Phase.FAILED
    assert failed[0].shares[S1].condition.code == "exhausted"


async def test_a_defect_in_one_step_is_a_failure_of_its_subject_alone(host: Host, desk: Desk) -> None:
    async def defect(step: object) -> None:
        if getattr(step, "guest", None) == G1:
            raise ZeroDivisionError("oops")

    host.faults[StartGateway] = defect
    async with running(host, desk):
        await desk.order(FULL)
        report = await desk.told(phases(a1=Phase.FAILED, a2=Phase.PRESENT))
        assert report.attachments[A1].code == "defect"


async def test_a_defect_in_a_look_hides_its_part_alone(
    host: Host, desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    see = host.see

    async def see_badly(part: str) -> None:
        await see(part)
        if part == f"pool {P}":
            raise ValueError("a line that nobody expected")

    monkeypatch.setattr(host, "see", see_badly)
    async with running(host, desk):
        await desk.order(FULL)
        report = await desk.told(phases(a2=Phase.PRESENT))
        assert report.attachments[A1].phase is Phase.WORKING
        assert "a defect of isthmus" in report.pools[P].error
    assert "a line that nobody expected" in caplog.text


async def test_a_gateway_that_dies_comes_back_at_once(host: Host, desk: Desk) -> None:
    async with running(host, desk):
        await desk.order(FULL)
        await desk.told(phases(a1=Phase.PRESENT, a2=Phase.PRESENT))
        before = len(host.done)
        host.world.gateways[Mode.NFS, G1] = GatewaySeen(G1, Mode.NFS, running=False)
        host.ends.put_nowait(f"nfs-{G1}")
        async with asyncio.timeout(5):
            while not host.world.gateways[Mode.NFS, G1].exports:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert [type(step) for step in host.done[before:]] == [StartGateway]


async def test_a_guest_that_starts_later_gets_its_card(host: Host, desk: Desk) -> None:
    del host.world.guests[G1]
    async with running(host, desk):
        await desk.order(FULL)
        report = await desk.told(phases(a1=Phase.WAITING, a2=Phase.PRESENT))
        assert "not running" in report.attachments[A1].reason
        host.world.guests[G1] = GuestSeen(G1, GuestState.RUNNING)
        host.happenings.put_nowait(GuestEvent(G1, GuestEventKind.STARTED))
        await desk.told(phases(a1=Phase.PRESENT, a2=Phase.PRESENT))


async def test_a_guest_that_never_lets_go_keeps_only_a_dead_wire(host: Host, desk: Desk) -> None:
    host.faults[UnplugNic] = hang
    async with running(host, desk):
        await desk.order(FULL)
        await desk.told(phases(a1=Phase.PRESENT, a2=Phase.PRESENT))
        await desk.order(replace(FULL, revision=2, attachments=FULL.attachments[1:]))
        await desk.told(lambda report: report.revision == 2 and A1 not in report.attachments)
        async with asyncio.timeout(5):
            while (Mode.NFS, G1) in host.world.gateways:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert G1 in host.world.links


async def test_a_file_system_that_stopped_is_found_though_nobody_tells(host: Host, desk: Desk) -> None:
    """Its disk was full. Its guest is given a whole one again, the other guest is not disturbed."""
    async with running(host, desk, tempo=replace(TEMPO, pools=0.02)):
        await desk.order(FULL)
        await desk.told(phases(a1=Phase.PRESENT, a2=Phase.PRESENT))
        before = len(host.done)
        host.world.shares[P][S1] = replace(host.world.shares[P][S1], wounded=True)
        async with asyncio.timeout(5):
            while host.world.shares[P][S1].wounded or not host.world.gateways[Mode.NFS, G1].exports:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert [type(step) for step in host.done[before:]] == [Present, ReleaseShare, MountShare, Present]


async def test_a_pool_whose_limits_change_keeps_its_driver_and_what_that_does(host: Host, desk: Desk) -> None:
    host.faults[MountShare] = hang
    async with running(host, desk):
        await desk.order(FULL)
        await desk.told(lambda report: S1 in report.shares and S2 in report.shares)
        larger = tuple(replace(pool, overcommit=2.0) for pool in POOLS)
        await desk.order(replace(FULL, revision=2, pools=larger))
        await desk.told(lambda report: report.revision == 2)
    assert set(larger) <= set(host.redefined)


async def test_a_restarted_agent_finds_all_in_order_and_does_nothing(host: Host, desk: Desk) -> None:
    async with running(host, desk):
        await desk.order(FULL)
        await desk.told(phases(a1=Phase.PRESENT, a2=Phase.PRESENT))
    before, reports = len(host.done), len(desk.reports)
    async with running(host, desk):
        while len(desk.reports) == reports:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert phases(a1=Phase.PRESENT, a2=Phase.PRESENT)(desk.reports[-1])
    assert host.done[before:] == []


async def test_an_agent_without_its_service_mends_what_it_remembers(host: Host, desk: Desk, tmp_path: Path) -> None:
    memory = Notebook()
    async with running(host, desk, memory, ledger=tmp_path):
        await desk.order(FULL)
        await desk.told(phases(a1=Phase.PRESENT, a2=Phase.PRESENT))
        while memory.kept is None or len(memory.kept.grants) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
    desk.away = True
    reports = len(desk.reports)
    del host.world.gateways[Mode.NFS, G1]
    async with running(host, desk, memory, ledger=tmp_path):
        async with asyncio.timeout(5):
            while (Mode.NFS, G1) not in host.world.gateways:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert len(desk.reports) == reports
        desk.away = False
        await desk.told(lambda report: report is not None and len(desk.reports) > reports)
    assert phases(a1=Phase.PRESENT, a2=Phase.PRESENT)(desk.reports[-1])


async def test_nothing_is_taken_down_because_a_look_hangs(host: Host, desk: Desk) -> None:
    """The first pool's disk hangs: its attachment stays, the other pool goes on, and a detach is not claimed."""
    async with running(host, desk):
        await desk.order(FULL)
        await desk.told(phases(a1=Phase.PRESENT, a2=Phase.PRESENT))
        host.blind.add("pool p")
    async with running(host, desk):
        await desk.order(replace(FULL, revision=2, attachments=FULL.attachments[:1]))
        report = await desk.told(lambda report: report.revision == 2 and A2 not in report.attachments)
        assert report.attachments[A1].phase is Phase.PRESENT
        assert report.shares[S1].condition.phase is Phase.WORKING
        assert "not done within" in report.pools[P].error
        host.blind.clear()
        host.sight.set()
        await desk.told(lambda report: report.revision == 2 and not report.pools[P].error)


async def test_an_unseen_gateway_is_never_reported_as_absent(host: Host, desk: Desk) -> None:
    async with running(host, desk):
        await desk.order(FULL)
        await desk.told(phases(a1=Phase.PRESENT, a2=Phase.PRESENT))
    host.blind.add("gateway")
    async with running(host, desk):
        await desk.order(replace(FULL, revision=2, attachments=()))
        report = await desk.told(lambda report: not report.attachments)
        assert report.revision == 0


async def test_what_does_not_last_gets_slower(host: Host, desk: Desk) -> None:
    """A gateway that dies as soon as it is up must not keep the host busy."""

    tries = 0

    async def dies(step: object) -> None:
        nonlocal tries
        if isinstance(step, StartGateway) and step.guest == G1:
            tries += 1
            host.ends.put_nowait("nfs")
            raise HostFailure("cannot start nfs: it ended at once")

    host.faults[StartGateway] = dies
    async with running(host, desk):
        await desk.order(FULL)
        await desk.told(phases(a1=Phase.FAILED, a2=Phase.PRESENT))
        for _ in range(2000):
            await asyncio.sleep(0)
    notices = [notice for report in desk.reports for notice in report.notices]
    assert [notice.message for notice in notices] == ["cannot start nfs: it ended at once"]
    assert 1 <= tries <= 3, "once per different set of exports"


async def test_what_is_not_signed_is_not_presented_and_the_user_reads_why(host: Host, desk: Desk) -> None:
    desk.unwilling = "cannot sign: the grant of this attachment was revoked: because"
    async with running(host, desk):
        await desk.order(FULL)
        report = await desk.told(phases(a1=Phase.FAILED, a2=Phase.FAILED))
        assert report.attachments[A1].code == "grant-missing"
        assert "because" in report.attachments[A1].reason
        notices = [notice for one in desk.reports for notice in one.notices]
        assert [notice.subject for notice in notices] == [A1, A2], "each once"
        assert all(not gateway.exports for gateway in host.world.gateways.values())
        assert set(host.world.links) == {G1, G2}, "the wire is there all the same"


async def test_a_refusal_is_told_once_whatever_else_changes_on_the_host(host: Host, desk: Desk) -> None:
    desk.unwilling = "cannot sign: the grant of this attachment was revoked: because"
    async with running(host, desk):
        await desk.order(FULL)
        await desk.told(phases(a1=Phase.FAILED, a2=Phase.FAILED))
        before = len(desk.reports)
        for revision in (2, 3, 4):
            asked = len(desk.asked)
            await desk.order(replace(FULL, revision=revision))
            await desk.told(lambda report, revision=revision: report.revision == revision)  # type: ignore[misc]
            async with asyncio.timeout(5):
                while len(desk.asked) == asked:  # noqa: ASYNC110
                    await asyncio.sleep(0)
        assert all(report.attachments[A1].phase is Phase.FAILED for report in desk.reports[before:])
    assert [notice.subject for report in desk.reports for notice in report.notices] == [A1, A2]


async def test_an_agent_that_starts_by_the_newest_document_tells_what_it_refuses(
    host: Host, desk: Desk, tmp_path: Path
) -> None:
    """No other document comes, and the refusal is new all the same."""
    desk.unwilling = "cannot sign: barred"
    await desk.order(FULL)
    async with running(host, desk, Notebook(desk.document), tempo=replace(TEMPO, poll=0.01), ledger=tmp_path):
        await desk.told(lambda report: {notice.subject for notice in report.notices} == {A1, A2})


async def test_a_revoked_grant_ends_its_export_and_no_other(host: Host, desk: Desk) -> None:
    async with running(host, desk):
        await desk.order(FULL)
        await desk.told(phases(a1=Phase.PRESENT, a2=Phase.PRESENT))
        serial = facts_of(desk.grants.pop(A1)).serial
        desk.unwilling = "cannot sign: barred"
        await desk.order(replace(FULL, revision=5, revoked=(serial,)))
        await desk.told(phases(a1=Phase.FAILED, a2=Phase.PRESENT))
        while host.world.gateways[Mode.NFS, G1].exports:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert set(host.world.gateways[Mode.NFS, G2].exports) == {A2}


async def test_a_revoked_host_ends_its_exports_at_once(host: Host, desk: Desk, tmp_path: Path) -> None:
    async with running(host, desk, ledger=tmp_path):
        await desk.order(FULL)
        await desk.told(phases(a1=Phase.PRESENT, a2=Phase.PRESENT))
        desk.revoked = True
        async with desk._news:
            desk._news.notify_all()
        async with asyncio.timeout(5):
            while any(gateway.exports for gateway in host.world.gateways.values()):  # noqa: ASYNC110
                await asyncio.sleep(0)
    memory = Notebook(desk.document)
    async with running(host, desk, memory, ledger=tmp_path):
        await asyncio.sleep(0.1)
        assert not any(gateway.exports for gateway in host.world.gateways.values()), "nor after a restart"


async def test_a_grant_that_ends_takes_its_export_and_a_service_that_is_away_does_not(host: Host, desk: Desk) -> None:
    desk.life = datetime.timedelta(seconds=1)
    async with running(host, desk):
        await desk.order(FULL)
        await desk.told(phases(a1=Phase.PRESENT, a2=Phase.PRESENT))
        desk.away = True
        assert any(gateway.exports for gateway in host.world.gateways.values())
        async with asyncio.timeout(10):
            while any(gateway.exports for gateway in host.world.gateways.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert set(host.world.gateways) == {(Mode.NFS, G1), (Mode.NFS, G2)}
        desk.away, desk.life = False, WEEK
        await desk.told(lambda report: report.attachments[A1].code == "grant-expired")
        count = len(desk.reports)
        async with asyncio.timeout(10):
            while not phases(a1=Phase.PRESENT, a2=Phase.PRESENT)(desk.reports[-1]) or len(desk.reports) == count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
