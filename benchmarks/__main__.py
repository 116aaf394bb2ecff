"""The command line: `python -m benchmarks` runs everything; `--quick` the core of it, in two minutes."""

import argparse
import asyncio
import dataclasses
import json
import os
import sys
import tempfile
from asyncio.subprocess import DEVNULL
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import growth, peers
from benchmarks.bench import bench
from benchmarks.counts import count
from benchmarks.environment import environment
from benchmarks.faults import crowds, recoveries
from benchmarks.report import report
from benchmarks.results import Results
from benchmarks.rounds import (
    BY_HAND,
    CHILD_HIT,
    CORE,
    HIT,
    LOCAL_WAY,
    MISS,
    PLAIN_WAY,
    WRAPPER_HIT,
    Effort,
    Way,
    in_a_row,
    run_rounds,
)
from benchmarks.timeline import timeline

_ROWS = tuple(in_a_row(way) for way in (PLAIN_WAY, LOCAL_WAY, MISS, HIT, WRAPPER_HIT, CHILD_HIT))


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much of everything is run."""

    lifted: Sequence[tuple[Sequence[Way], Effort]]
    stock: Sequence[tuple[Sequence[Way], Effort]]
    misses: int
    hits: int
    keys: int
    callers: Sequence[int]
    sizes: Sequence[int]
    trials: int
    stickies: Sequence[float]
    crowd: int
    peer_rounds: int
    peer_jobs: int


QUICK = Scale(
    lifted=(
        (_ROWS[:4], Effort(concurrency=1, jobs=1, rounds=3, budget=15)),
        (CORE, Effort(concurrency=1, jobs=6, rounds=3, budget=10)),
        (CORE, Effort(concurrency=50, jobs=50, rounds=3, budget=40)),
    ),
    stock=(),
    misses=10,
    hits=1_000,
    keys=0,
    callers=(),
    sizes=(),
    trials=1,
    stickies=(1.0,),
    crowd=0,
    peer_rounds=2,
    peer_jobs=100,
)
FULL = Scale(
    lifted=(
        (_ROWS, Effort(concurrency=1, jobs=1, rounds=5, budget=60)),
        ((*CORE, *BY_HAND), Effort(concurrency=1, jobs=10, rounds=7, budget=60)),
        ((*CORE, *BY_HAND), Effort(concurrency=50, jobs=100, rounds=5, budget=150)),
        ((*CORE, *BY_HAND), Effort(concurrency=200, jobs=200, rounds=3, budget=100)),
    ),
    stock=(
        (_ROWS, Effort(concurrency=1, jobs=1, rounds=2, budget=40)),
        ((*CORE, *BY_HAND), Effort(concurrency=1, jobs=5, rounds=3, budget=30)),
        ((*CORE, *BY_HAND), Effort(concurrency=50, jobs=50, rounds=2, budget=60)),
    ),
    misses=25,
    hits=5_000,
    keys=1_500,
    callers=(1_000,),
    sizes=(0, 1_000, 10_000, 100_000, 500_000),
    trials=3,
    stickies=(1.0, 10.0),
    crowd=200,
    peer_rounds=3,
    peer_jobs=200,
)


async def run(scale: Scale, names: Sequence[str], directory: Path) -> Results:
    """Run everything, one thing after the other, and say what is being run."""
    results = Results(
        machine=f"{os.cpu_count()} cores, shared", started=datetime.now(UTC).isoformat(timespec="minutes")
    )
    async with bench(directory, lifted=True) as lifted:
        for ways, effort in scale.lifted:
            _say(f"lifted server, jobs of {ways[0].calls}, {effort.concurrency} at a time")
            results.tables.append(await run_rounds(lifted, ways, effort, server="lifted"))
        _say("counts, and the timeline of a miss")
        results.counts = await count(lifted)
        results.timeline = await timeline(lifted, misses=scale.misses)
        _say("growth")
        results.past_hits = await growth.past_hits(lifted, hits=scale.hits)
        for number in scale.callers:
            results.callers.append(await growth.callers(lifted, number=number, pause=1.0))
        if scale.sizes:
            results.sizes = await growth.sizes(lifted, each=scale.sizes, times=3)
        if scale.keys:
            results.keys_held = await growth.keys_held(lifted, keys=scale.keys, steps=3)
        _say("killed workers")
        results.recoveries = await recoveries(lifted, trials=scale.trials, stickies=scale.stickies)
        if scale.crowd:
            results.crowds = await crowds(lifted, keys=scale.crowd, slots=scale.crowd // 2, patience=20.0)
    if scale.stock:
        async with bench(directory, lifted=False) as stock:
            for ways, effort in scale.stock:
                _say(f"server as it comes, jobs of {ways[0].calls}, {effort.concurrency} at a time")
                results.tables.append(await run_rounds(stock, ways, effort, server="stock"))
    if names:
        _say(f"peers: {', '.join(names)}")
        results.peers = await peers.run(
            names, directory=directory, rounds=scale.peer_rounds, jobs=scale.peer_jobs
        )
    return results


async def plot(raw: Path, picture: Path) -> str:
    """Draw the raw figures. Return what to tell about it."""
    try:
        python = await environment()
    except RuntimeError as error:
        return f"no plot: {error}"
    process = await asyncio.create_subprocess_exec(
        str(python), str(Path(__file__).with_name("plot.py")), str(raw), str(picture), stdin=DEVNULL
    )
    return f"no plot: drawing ended with {code}" if (code := await process.wait()) else f"plot: {picture}"


def main() -> None:
    """Read the command line, run, and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the core of it, in less than two minutes")
    parser.add_argument(
        "--peers", default="", metavar="NAMES", help=f"also run other systems: {','.join(peers.NAMES)}"
    )
    parser.add_argument("--plot", action="store_true", help="draw the figures even after a quick run")
    parser.add_argument(
        "--out", type=Path, default=Path("build/benchmarks"), help="directory for report, figures and plot"
    )
    options = parser.parse_args()
    names = [name for name in str(options.peers).split(",") if name]
    if unknown := set(names) - set(peers.NAMES):
        parser.error(f"no such peers: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
        results = asyncio.run(run(QUICK if options.quick else FULL, names, Path(directory)))
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    text = report(results)
    (out / "report.md").write_text(text)
    (out / "raw.json").write_text(json.dumps(dataclasses.asdict(results), indent=1) + "\n")
    print(f"\n{text}")
    print(f"report: {out / 'report.md'}\nfigures: {out / 'raw.json'}")
    if options.plot or not options.quick:
        print(asyncio.run(plot(out / "raw.json", out / "plot.png")))


def _say(what: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
