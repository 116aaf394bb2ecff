"""The command line: `python -m benchmarks` runs everything; `--quick` the core of it, in two minutes."""

import argparse
import asyncio
import dataclasses
import json
import os
import sys
import tempfile
from asyncio.subprocess import DEVNULL
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter
from temporalio.client import WorkflowFailureError
from temporalio.service import RPCError

from benchmarks import growth, peers
from benchmarks.bench import Bench, bench
from benchmarks.counts import count
from benchmarks.environment import environment
from benchmarks.faults import crowds, recoveries
from benchmarks.instructions import instructions
from benchmarks.page import PAGE, refresh
from benchmarks.report import report
from benchmarks.results import Results
from benchmarks.rounds import (
    BY_HAND,
    CHILD_HIT,
    CORE,
    HIT,
    JOINED,
    LOCAL_WAY,
    MISS,
    PLAIN_WAY,
    READING_WAY,
    WRAPPER_HIT,
    Effort,
    Way,
    in_a_row,
    run_rounds,
)
from benchmarks.timeline import timeline

_ROWS = tuple(in_a_row(way) for way in (PLAIN_WAY, LOCAL_WAY, READING_WAY, HIT, MISS, WRAPPER_HIT, CHILD_HIT))


RAW = "raw.json"
"""The file of the figures, in the directory of the report."""


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
        (CORE, Effort(concurrency=50, jobs=50, rounds=3, budget=20)),
    ),
    stock=(),
    misses=10,
    hits=500,
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
        (_ROWS, Effort(concurrency=1, jobs=1, rounds=5, budget=80)),
        ((*CORE, *BY_HAND), Effort(concurrency=1, jobs=8, rounds=7, budget=50)),
        ((*CORE, *BY_HAND), Effort(concurrency=50, jobs=75, rounds=5, budget=240)),
        (
            (PLAIN_WAY, MISS, HIT, JOINED, *BY_HAND),
            Effort(concurrency=200, jobs=200, rounds=2, budget=90),
        ),
    ),
    stock=(
        (_ROWS, Effort(concurrency=1, jobs=1, rounds=2, budget=40)),
        ((*CORE, *BY_HAND), Effort(concurrency=1, jobs=5, rounds=3, budget=30)),
        ((*CORE, *BY_HAND), Effort(concurrency=50, jobs=50, rounds=2, budget=60)),
        (
            (PLAIN_WAY, MISS, HIT, JOINED, *BY_HAND),
            Effort(concurrency=200, jobs=200, rounds=2, budget=120),
        ),
    ),
    misses=25,
    hits=5_000,
    keys=1_000,
    callers=(1_000,),
    sizes=(0, 10_000, 100_000, 500_000),
    trials=2,
    stickies=(1.0, 10.0),
    crowd=200,
    peer_rounds=3,
    peer_jobs=200,
)


async def run(scale: Scale, names: Sequence[str], directory: Path, out: Path) -> Results:
    """Run everything, one part after the other, and say what is being run. A part that fails is left out."""
    results = Results(
        machine=f"{os.cpu_count()} cores, shared", started=datetime.now(UTC).isoformat(timespec="minutes")
    )
    book = _Book(results=results, raw=out / RAW)
    async with bench(directory, lifted=True) as lifted:
        await _tables(book, lifted, scale.lifted, server="lifted")
        with book.part("counts"):
            results.counts = await count(lifted)
        with book.part("the timeline of a miss"):
            results.timeline = await timeline(lifted, misses=scale.misses)
        await _grow(book, lifted, scale)
        with book.part("killed workers"):
            results.recoveries = await recoveries(lifted, trials=scale.trials, stickies=scale.stickies)
        if scale.crowd:
            with book.part("more new keys than slots"):
                results.crowds = await crowds(lifted, keys=scale.crowd, slots=scale.crowd // 2, patience=20.0)
    if scale.stock:
        async with bench(directory, lifted=False) as stock:
            await _tables(book, stock, scale.stock, server="stock")
    if scale is FULL:
        with book.part("instructions"):
            results.instructions = await instructions()
    if names:
        with book.part(f"peers: {', '.join(names)}"):
            results.peers = await peers.run(
                names, directory=directory, rounds=scale.peer_rounds, jobs=scale.peer_jobs
            )
    return results


async def _tables(
    book: "_Book", bench: Bench, tables: Sequence[tuple[Sequence[Way], Effort]], *, server: str
) -> None:
    for ways, effort in tables:
        with book.part(f"{server} server, jobs of {ways[0].calls}, {effort.concurrency} at a time"):
            book.results.tables.append(await run_rounds(bench, ways, effort, server=server))


async def _grow(book: "_Book", bench: Bench, scale: Scale) -> None:
    results = book.results
    with book.part("many hits on one key"):
        results.past_hits = await growth.past_hits(bench, hits=scale.hits)
    for number in scale.callers:
        with book.part("many callers of one key"):
            results.callers.append(await growth.callers(bench, number=number, pause=1.0))
    if scale.sizes:
        with book.part("payloads"):
            results.sizes = await growth.sizes(bench, each=scale.sizes, times=3)
    if scale.keys:
        with book.part("many keys"):
            results.keys_held = await growth.keys_held(bench, keys=scale.keys, steps=3)


@dataclass(frozen=True, kw_only=True)
class _Book:
    """Keeps what is found out, part by part, so that a run that is cut short has not been for nothing."""

    results: Results
    raw: Path

    @contextmanager
    def part(self, what: str) -> Generator[None]:
        """Do one part, and write all that is known after it."""
        print(f"{datetime.now(UTC):%H:%M:%S} {what}", file=sys.stderr, flush=True)
        try:
            yield
        except (RPCError, RuntimeError, TimeoutError, WorkflowFailureError) as error:
            self.results.failed.append(f"{what}: {error!r}")
            print(f"left out: {error!r}", file=sys.stderr, flush=True)
        _write(self.results, self.raw)


def _write(results: Results, raw: Path) -> None:
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_text(json.dumps(dataclasses.asdict(results), indent=1) + "\n")


async def plot(raw: Path, directory: Path) -> str:
    """Draw the raw figures. Return what to tell about it."""
    try:
        python = await environment()
    except RuntimeError as error:
        return f"no plot: {error}"
    process = await asyncio.create_subprocess_exec(
        str(python),
        "-m",
        "benchmarks.plot",
        str(raw),
        str(directory),
        stdin=DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    if code := await process.wait():
        return f"no plot: drawing ended with {code}"
    return f"plots: {directory / 'ratios.png'}, {directory / 'timeline.png'}"


def main() -> None:
    """Read the command line, run, and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the core of it, in two minutes")
    parser.add_argument(
        "--peers", default="", metavar="NAMES", help=f"also run other systems: {','.join(peers.NAMES)}"
    )
    parser.add_argument("--plot", action="store_true", help="draw the figures even after a quick run")
    parser.add_argument(
        "--out", type=Path, default=Path("build/benchmarks"), help="directory for report, figures and plots"
    )
    parser.add_argument(
        "--from",
        dest="raw",
        type=Path,
        help="report the figures in this file; run nothing, or only the peers",
    )
    parser.add_argument("--page", action="store_true", help="put the report into docs/performance.md")
    options = parser.parse_args()
    names = [name for name in str(options.peers).split(",") if name]
    if unknown := set(names) - set(peers.NAMES):
        parser.error(f"no such peers: {', '.join(sorted(unknown))}")
    out: Path = options.out
    scale = QUICK if options.quick else FULL
    results = _go_on(options.raw, scale, names) if options.raw else _run(scale, names, out)
    _write(results, out / RAW)
    text = report(results)
    (out / "report.md").write_text(text)
    print(f"\n{text}\nreport: {out / 'report.md'}\nfigures: {out / RAW}")
    if options.plot or options.page or not options.quick:
        print(asyncio.run(plot(out / RAW, out)))
    if options.page:
        refresh(text, out)
        print(f"page: {PAGE}")


def _run(scale: Scale, names: Sequence[str], out: Path) -> Results:
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
        return asyncio.run(run(scale, names, Path(directory), out))


def _go_on(raw: Path, scale: Scale, names: Sequence[str]) -> Results:
    """Return earlier figures, with new ones of some peers."""
    results = _read(raw)
    if names:
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
            others = [peer for peer in results.peers if peer.name not in names]
            results.peers = others + asyncio.run(
                peers.run(names, directory=Path(directory), rounds=scale.peer_rounds, jobs=scale.peer_jobs)
            )
    return results


def _read(raw: Path) -> Results:
    return TypeAdapter(Results).validate_json(raw.read_bytes())


if __name__ == "__main__":
    main()
