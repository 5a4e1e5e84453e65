"""``isthmus doctor``: what is not as it should be on this host."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli.client import GUESTS
from isthmus.cli.exits import Exit
from isthmus.cli.output import Format
from isthmus.cli.session import Session, verb
from isthmus.model.address import parse_address
from isthmus.model.errors import NotFound, Refused, Unavailable
from isthmus.model.names import GuestId

if TYPE_CHECKING:
    from isthmus.agent.doctor import Finding
    from isthmus.agent.plan import Denied
    from isthmus.agent.surgery import Diagnosis
    from isthmus.model.config import Config
    from isthmus.model.desired import Desired
    from isthmus.model.guest import GuestSeen

Tried = tuple[tuple["Finding", str], ...]


def register(root: typer.Typer) -> None:
    """The verb on the program itself."""
    verb(root, "doctor", "isthmus doctor", "isthmus doctor --fix", "isthmus -f json doctor")(doctor)


def doctor(
    cli: Session,
    fix: Annotated[bool, typer.Option("--fix", help="mend what can be mended; the agent must not run")] = False,
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="with --fix: delete share data that the service does not know")
    ] = False,
) -> None:
    """Compare what is on this host with what should be, and name everything that is left over.

    Ends with 0 if all is as it should be, with 1 if not.
    """
    if delete_data and not fix:
        raise typer.BadParameter("--delete-data goes with --fix")
    if os.geteuid() != 0:
        raise Refused("cannot examine this host: it means looking into network namespaces: run it as root")
    diagnosis, tried = asyncio.run(_examine(cli, fix=fix, delete_data=delete_data))
    _show(cli, diagnosis, tried)
    raise typer.Exit(Exit.OK if diagnosis.healthy else Exit.FAILED)


async def _examine(cli: Session, *, fix: bool, delete_data: bool) -> tuple[Diagnosis, Tried]:
    from isthmus.agent.assemble import agent_runs, assemble, only_agent  # noqa: PLC0415 - drivers and gateways take time to load
    from isthmus.agent.surgery import examine, mend  # noqa: PLC0415 - see above

    config = cli.config
    want = await _desired(cli, config)
    equipment = assemble(config)
    denied = _denied(config, want)
    try:
        if not fix:
            guests = await asyncio.to_thread(_reported, cli) if agent_runs(config.layout) else None
            return await examine(equipment, config.layout, config.host, want, guests=guests, denied=denied), ()
        if want is None:
            raise Unavailable(f"cannot mend host {config.host}: it is not known what should be: start the service")
        with only_agent(config.layout):
            return await mend(equipment, config.layout, config.host, want, delete_data=delete_data, denied=denied)
    finally:
        await equipment.hypervisor.close()


def _denied(config: Config, want: Desired | None) -> Denied:
    """What of the document no grant admits, by what the agent has kept: a doctor presents no more than an agent."""
    from isthmus.agent.admission import Admission  # noqa: PLC0415 - see above
    from isthmus.agent.identity import Place  # noqa: PLC0415
    from isthmus.agent.ledger import Ledger  # noqa: PLC0415
    from isthmus.agent.plan import Denied  # noqa: PLC0415
    from isthmus.pki.facts import facts_of  # noqa: PLC0415
    from isthmus.pki.trust import Trust  # noqa: PLC0415
    from isthmus.store.store import utc_now  # noqa: PLC0415

    if want is None:
        return Denied()
    place = Place(config.layout.state / "agent")
    certificate = place.certificate()
    serial = facts_of(certificate).serial if certificate is not None else ""
    ledger = Ledger(place.directory, reading=True)
    return (
        Admission(want.host, Trust(place.roots()), ledger, utc_now, certificate=serial)
        .judge(want, current=False)
        .denied
    )


async def _desired(cli: Session, config: Config) -> Desired | None:
    """What should be on this host: by the service; if that is away and its database is here, by that; else unknown."""
    from isthmus.agent.remote import RemoteOrders  # noqa: PLC0415 - see above

    try:
        async with RemoteOrders(parse_address(cli.address, "api")) as orders:
            return await orders.desired(config.host, 0, 0)
    except Unavailable as error:
        document = await asyncio.to_thread(_kept, config)
        if document is None:
            cli.out.say(f"{error.message}\nwhat should be on this host is not known; this is all that is there")
        return document
    except NotFound as error:
        cli.out.say(f"{error.message}: what should be on this host is not known; this is all that is there")
        return None


def _reported(cli: Session) -> dict[GuestId, GuestSeen]:
    """What the running agent said of its guests. Empty if the service is away."""
    from isthmus.model.guest import GuestSeen  # noqa: PLC0415 - see above

    try:
        guests = cli.api.all(GUESTS, {"host": cli.config.host})
    except Unavailable:
        return {}
    return {
        GuestId(guest.id): GuestSeen(GuestId(guest.id), guest.state, frozenset(guest.plugs))
        for guest in guests
        if guest.state is not None
    }


def _kept(config: Config) -> Desired | None:
    from isthmus.service.domain.hosts import desired_document  # noqa: PLC0415 - see above
    from isthmus.store import Store  # noqa: PLC0415 - see above

    if config.database != f"sqlite:///{config.layout.database}" or not config.layout.database.exists():
        return None
    store = Store.open(config.database)
    try:
        with store.read() as tx:
            return desired_document(tx, config.host)
    except NotFound:
        return None
    finally:
        store.close()


def _show(cli: Session, diagnosis: Diagnosis, tried: Tried) -> None:
    if cli.out.form is Format.TABLE:
        _tables(cli, diagnosis, tried)
        return
    document: dict[str, Any] = {
        "host": diagnosis.host,
        "healthy": diagnosis.healthy,
        "judged": diagnosis.judged,
        "counted": diagnosis.counted,
        "findings": [_facts(finding) for finding in diagnosis.findings],
        "tried": [{**_facts(finding), "error": error} for finding, error in tried],
    }
    cli.out.document(document, [finding.name for finding in diagnosis.findings])


def _tables(cli: Session, diagnosis: Diagnosis, tried: Tried) -> None:
    for finding, error in tried:
        cli.out.lines(
            [f"{'failed' if error else 'mended'}: {finding.kind} {finding.name}" + (f": {error}" if error else "")]
        )
    if diagnosis.findings:
        rows: list[tuple[str, str]] = []
        for finding in diagnosis.findings:
            rows += [(finding.severity, f"{finding.kind} {finding.name}: {finding.problem}"), ("", finding.advice)]
        cli.out.table(("severity", "finding, and what to do"), rows)
    cli.out.lines([f"host {diagnosis.host}: {diagnosis.summary()}"])


def _facts(finding: Finding) -> dict[str, str]:
    return {
        "severity": finding.severity,
        "kind": finding.kind,
        "name": finding.name,
        "problem": finding.problem,
        "advice": finding.advice,
    }
