"""Two pictures of a run: the ratios of every way, and the timeline of one miss.

It runs by itself in the benchmark's own environment: `python -m benchmarks.plot raw.json DIRECTORY`.
"""

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from benchmarks.phases import Phase, Step, phases

_OURS, _HAND, _FLOOR = "#2563eb", "#9ca3af", "#d1d5db"
_WHOSE = {"job": "#111827", "key": _OURS, "server": _FLOOR}


def draw(raw: Path, directory: Path) -> None:
    """Draw both pictures into a directory."""
    results: Any = json.loads(raw.read_text())
    import_module("matplotlib").use("Agg")
    pyplot: Any = import_module("matplotlib.pyplot")
    pyplot.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    _ratios(pyplot, results, directory / "ratios.png")
    if stretches := phases([Step(**step) for step in results["timeline"]]):
        _timeline(pyplot, stretches, directory / "timeline.png")


def _ratios(pyplot: Any, results: Any, picture: Path) -> None:
    tables = [table for table in results["tables"] if table["server"] == "lifted"]
    figure, axes = pyplot.subplots(1, len(tables), figsize=(3.4 * len(tables), 4.2), squeeze=False)
    for axis, table in zip(axes[0], tables, strict=True):
        laps: dict[str, list[float]] = {
            name: [lap["latency"] for lap in found] for name, found in table["laps"].items()
        }
        names = list(laps)
        ratios = [Figure.of_ratios(laps[name], laps["plain activity"]) for name in names]
        spread = [
            [ratio.median - ratio.low for ratio in ratios],
            [ratio.high - ratio.median for ratio in ratios],
        ]
        medians = [ratio.median for ratio in ratios]
        axis.barh(names, medians, xerr=spread, color=[_colour(name) for name in names], ecolor="#374151")
        axis.axvline(1, color="#111827", linewidth=0.8)
        axis.invert_yaxis()
        calls = "one call" if table["calls"] == 1 else f"{table['calls']} calls in a row"
        axis.set_title(f"{calls}, {table['concurrency']} at a time")
        axis.set_xlabel("time, of a plain activity")
        for row, median in enumerate(medians):
            axis.text(median, row, f" {median:.2f}", va="bottom", fontsize=7)
    figure.tight_layout()
    figure.savefig(picture, dpi=130)
    pyplot.close(figure)


def _timeline(pyplot: Any, stretches: Sequence[Phase], picture: Path) -> None:
    figure, axis = pyplot.subplots(figsize=(9, 0.34 * len(stretches) + 1.2))
    for row, phase in enumerate(stretches):
        begins, ends = phase.begins * 1e3, phase.ends * 1e3
        axis.barh(row, max(ends - begins, 0.2), left=begins, color=_WHOSE[phase.whose])
        axis.text(ends, row, f" {ends - begins:.1f}", va="center", fontsize=8)
    axis.set_yticks(range(len(stretches)), [f"{phase.whose}: {phase.name}" for phase in stretches])
    axis.invert_yaxis()
    axis.margins(x=0.08)
    axis.set_xlabel("ms after the job was started; medians of misses on their own, lifted server")
    figure.tight_layout()
    figure.savefig(picture, dpi=130)
    pyplot.close(figure)


def _colour(name: str) -> str:
    if name in {"miss", "hit", "joined"}:
        return _OURS
    return _HAND if "," in name else _FLOOR


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
