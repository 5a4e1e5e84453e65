"""Measure what Isthmus promises, and say what is kept: ``make bench``.

    python -m bench [--quick] [--only PART ...]

Run it as root. Results: bench/results/TIME.json and TIME.png. Ends with 0 unless a part could not be run: a goal that
is missed is told, and is no failure of the measurement.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import storage
from bench.attach import attach, cold
from bench.figures import Figure
from bench.gateways import crowd, gateway
from bench.identity import grants, tokens
from bench.machine import busy, facts, load
from bench.manila import manila
from bench.nfs import nfs
from bench.plot import plot
from bench.shares import shares, snapshots
from bench.stage import Run
from lab.image import guest_image

RESULTS = Path(__file__).parent / "results"
QUIET = 0.15
"""Of all cores: busier than that before a part begins, its figures may be others' doing."""
PATIENCE = 5.0
"""Seconds to wait for that before each part."""

console = Console(highlight=False, stderr=True)
Document = dict[str, Any]


async def volumes(run: Run) -> list[Figure]:
    """What the storage driver alone takes: ``bench.storage``."""
    run.say("several minutes")
    found = await asyncio.to_thread(storage.run)
    times = [
        Figure(f"storage, {name}", "ms", (took["median"],), note=f"of {took['count']}; slowest {took['slowest']}")
        for name, took in found["milliseconds"].items()
    ]
    rates = [
        Figure(f"storage, {name}: {job}", "per s", (float(rate),), better="more is better")
        for name, jobs in found["operations_per_second"].items()
        for job, rate in jobs.items()
    ]
    return times + rates


PARTS: Mapping[str, Callable[[Run], Awaitable[list[Figure]]]] = {
    "shares": shares,
    "snapshots": snapshots,
    "attach": attach,
    "cold": cold,
    "gateway": gateway,
    "crowd": crowd,
    "nfs": nfs,
    "grants": grants,
    "tokens": tokens,
    "manila": manila,
    "storage": volumes,
}
SLOW = ("storage",)
"""Left out by --quick unless asked for by name."""


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure what Isthmus promises.")
    parser.add_argument("--quick", action="store_true", help="a few rounds of each, to see that all works")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.exit(1, "bench: run it as root: it makes network namespaces and mounts\n")
    guest_image(lambda what: console.print(f"guest image: {what}"))
    names = options.only or [name for name in PARTS if not (options.quick and name in SLOW)]
    document = asyncio.run(_measure(names, quick=options.quick))
    _keep(document)
    return 1 if any(part["error"] for part in document["parts"]) else 0


async def _measure(names: list[str], *, quick: bool) -> Document:
    at = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    document: Document = {"at": at, "quick": quick, "machine": facts(), "parts": []}
    for name in names:
        part = await _part(name, quick=quick)
        document["parts"].append(part)
        _show(part)
    return document


async def _part(name: str, *, quick: bool) -> Document:
    """One part: its figures, what the machine did besides, and why it failed if it did."""
    part: Document = {"name": name, "figures": [], "error": ""}
    with console.status(name) as status:
        run = Run(quick, lambda what: status.update(f"{name}: {what}"))
        part["busy_before"] = round(await _calm(run), 2)
        part["load_before"] = round(load(), 2)
        began = perf_counter()
        try:
            part["figures"] = [figure.document() for figure in await PARTS[name](run)]
        except Exception as error:  # noqa: BLE001 - the one boundary: the other parts are measured all the same
            part["error"] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        part["seconds"] = round(perf_counter() - began, 1)
        part["load_after"] = round(load(), 2)
    return part


async def _calm(run: Run) -> float:
    """How busy the machine is with other things, after it had some time to become quiet."""
    end = perf_counter() + (0 if run.quick else PATIENCE)
    while (now := await busy()) > QUIET and perf_counter() < end:
        run.say(f"waiting for a quiet machine: {now:.0%} busy")
    return now


def _show(part: Document) -> None:
    others = f"; others kept {part['busy_before']:.0%} of it busy" if part["busy_before"] > QUIET else ""
    heading = (
        f"{part['name']}: {part['seconds']} s; load {part['load_before']} before, {part['load_after']} after{others}"
    )
    table = Table(title=heading, title_justify="left", title_style="bold", box=None, header_style="dim")
    table.add_column("figure", min_width=50)
    for column in ("n", "min", "median", "p99", "unit", "goal"):
        table.add_column(column, justify="left" if column in ("unit", "goal") else "right")
    for figure in part["figures"]:
        cells = (figure["n"], *(_number(figure[key]) for key in ("min", "median", "p99")), figure["unit"])
        table.add_row(figure["name"], *map(str, cells), _verdict(figure))
    Console(highlight=False, width=None if sys.stdout.isatty() else 140).print(table)
    if part["error"]:
        console.print(f"[bold red]{part['name']} could not be measured:[/] {part['error']}")


def _verdict(figure: Document) -> str:
    if figure["met"] is None:
        return str(figure["note"])
    goal = ", ".join(f"{name} <= {most:g}" for name, most in figure["goal"].items())
    verdict = f"{'[green]met[/]' if figure['met'] else '[bold red]MISSED[/]'}: {goal}"
    return f"{verdict} ({figure['note']})" if figure["note"] else verdict


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _keep(document: Document) -> None:
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{document['at']}.json"
    target.write_text(json.dumps(document, indent=1) + "\n")
    judged = [figure for part in document["parts"] for figure in part["figures"] if figure["met"] is not None]
    missed = [figure["name"] for figure in judged if not figure["met"]]
    print()
    if judged:
        print(
            f"{len(judged) - len(missed)} of {len(judged)} goals met",
            *(f"missed: {name}" for name in missed),
            sep="\n  ",
        )
    kept = [target, target.with_suffix(".png")] if plot(document, target.with_suffix(".png")) else [target]
    print("results:", *(os.path.relpath(path) for path in kept))


if __name__ == "__main__":
    sys.exit(main())
