"""The picture of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

GOOD, BAD, PLAIN, GOAL, OWN = "#2a7f62", "#c0392b", "#4a6fa5", "#222222", "#b8c4d6"
Document = dict[str, Any]


def plot(document: Document, target: Path) -> bool:
    """Write the picture of a run's document: times and their goals, memory and idle processor, NFS against the host.
    False if it has none of these."""
    figures = [figure for part in document["parts"] for figure in part["figures"]]
    times = [f for f in figures if f["unit"] == "ms" and not f["name"].startswith("storage")]
    sizes = [f for f in figures if f["unit"] == "MB"]
    servers, programs = _parted(sizes, lambda f: "of isthmus up" not in f["name"])
    idle = [f for f in figures if f["unit"].startswith("%")]
    nfs = [f for f in figures if f["name"].startswith("NFS")]
    drawn = ((times, _times), (servers, _amounts), (programs, _amounts), (idle, _amounts))
    groups = [(chosen, draw) for chosen, draw in drawn if chosen]
    if not groups and not nfs:
        return False
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        canvas = Canvas(figsize=(16, 9), layout="constrained")
        halves: Any = canvas.subfigures(1, 2, width_ratios=(1.1, 1), wspace=0.03)
        if groups:
            heights = [len(chosen) + 1.4 for chosen, _ in groups]
            axes = halves[0].subplots(len(groups), 1, squeeze=False, height_ratios=heights)
            for axis, (chosen, draw) in zip(axes.flat, groups, strict=True):
                draw(axis, chosen)
            halves[0].legend(handles=_key(), loc="outside lower left", ncols=5, frameon=False, fontsize=8)
        if nfs:
            _against_host(halves[1].subplots(1, 1), nfs, figures)
        canvas.suptitle(_title(document["machine"], document["at"]), fontsize=11)
        canvas.savefig(target, dpi=110)
    return True


def _parted(figures: Sequence[Document], first: Callable[[Document], bool]) -> tuple[list[Document], list[Document]]:
    return [f for f in figures if first(f)], [f for f in figures if not first(f)]


def _title(machine: Document, at: str) -> str:
    return (
        f"Isthmus, {at}: {machine['cores']} cores of {machine['processor']}, kernel {machine['kernel']}, "
        f"guests by {machine['guests']}"
    )


def _times(axis: Any, figures: Sequence[Document]) -> None:
    """Medians as dots, p99 as whiskers, on a scale that shows 10 ms and 3 s alike."""
    for row, figure in enumerate(reversed(figures)):
        colour = _colour(figure)
        axis.plot([figure["median"], figure["p99"]], [row, row], color=colour, linewidth=1.6, solid_capstyle="butt")
        axis.plot([figure["p99"]], [row], "|", color=colour, markersize=9, markeredgewidth=1.6)
        axis.plot([figure["median"]], [row], "o", color=colour, markersize=6)
        _goals(axis, figure, row)
    axis.set_xscale("log")
    low, high = min(f["median"] for f in figures), max(max(f["p99"], *f["goal"].values(), 1) for f in figures)
    axis.set_xlim(low * 0.6, high * 1.7)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    _label(axis, figures, "ms")


def _amounts(axis: Any, figures: Sequence[Document]) -> None:
    """The worst of each as a bar."""
    for row, figure in enumerate(reversed(figures)):
        axis.barh(row, figure["worst"], color=_colour(figure), height=0.6)
        _goals(axis, figure, row)
    _label(axis, figures, figures[0]["unit"])


def _goals(axis: Any, figure: Document, row: int) -> None:
    for statistic, most in figure["goal"].items():
        style = (0, (1, 1)) if statistic == "p99" else "solid"
        axis.vlines(most, row - 0.38, row + 0.38, color=GOAL, linewidth=1.8, linestyle=style)


def _label(axis: Any, figures: Sequence[Document], unit: str) -> None:
    axis.set_yticks(range(len(figures)), [f"{f['name']}  {_short(f)}" for f in reversed(figures)])
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(-0.7, len(figures) - 0.3)
    axis.set_xlabel(unit)
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)


def _short(figure: Document) -> str:
    value = figure["median"] if figure["unit"] == "ms" else figure["worst"]
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _key() -> list[Line2D]:
    return [
        Line2D([], [], marker="o", linestyle="", color=GOOD, label="median, goal met"),
        Line2D([], [], marker="o", linestyle="", color=BAD, label="goal missed"),
        Line2D([], [], marker="o", linestyle="", color=PLAIN, label="no goal"),
        Line2D([], [], color=PLAIN, marker="|", markersize=9, label="to p99"),
        Line2D([], [], color=GOAL, linewidth=1.8, label="goal (dotted: of p99)"),
    ]


def _against_host(axis: Any, nfs: Sequence[Document], figures: Sequence[Document]) -> None:
    """Each work's speed through the gateway as a share of the host's own."""
    by_name = {figure["name"]: figure for figure in figures}
    rows = [(through, by_name[through["name"].replace("NFS, ", "host, as ", 1)]) for through in reversed(nfs)]
    shares = [100 * through["median"] / own["median"] for through, own in rows]
    places = range(len(rows))
    axis.barh(places, [100] * len(rows), color=OWN, height=0.6)
    axis.barh(places, [min(share, 100) for share in shares], color=PLAIN, height=0.6)
    axis.set_yticks(places, [through["name"].removeprefix("NFS, ") for through, _ in rows])
    speeds = axis.secondary_yaxis("right")
    labels = zip(shares, rows, strict=True)
    speeds.set_yticks(places, [f"{share:.3g} %:  {_speed(t)} of {_speed(own)}" for share, (t, own) in labels])
    for side in (axis, speeds):
        side.tick_params(axis="y", length=0)
    axis.set_xlim(0, 100)
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set_xlabel("% of the host's own speed on the same share (guest: fio; wire: a raw client, no guest)")
    axis.set_title("NFS through the gateway, medians", loc="left", fontsize=10)


def _speed(figure: Document) -> str:
    value = figure["median"]
    return f"{value:,.0f} {figure['unit']}"


def _colour(figure: Document) -> str:
    return PLAIN if figure["met"] is None else GOOD if figure["met"] else BAD
