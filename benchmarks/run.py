"""A run: everything, one part after the other, each written down as soon as it is known."""

import asyncio
import os
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from temporalio.client import WorkflowFailureError
from temporalio.service import RPCError

from benchmarks import crowds, growth, peers
from benchmarks.bench import Bench, bench
from benchmarks.counts import count
from benchmarks.faults import recoveries
from benchmarks.instructions import instructions
from benchmarks.results import Results
from benchmarks.rounds import Effort, Way, run_rounds
from benchmarks.scale import Scale
from benchmarks.timeline import timeline


def run(scale: Scale, names: Sequence[str], *, raw: Path) -> Results:
    """Run everything, and some peers. A part that fails is left out, and the results say so."""
    results = Results(
        machine=f"{os.cpu_count()} cores, shared", started=datetime.now(UTC).isoformat(timespec="minutes")
    )
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
        asyncio.run(_run(_Book(results=results, raw=raw), scale, names, Path(directory)))
    return results


def run_peers(results: Results, scale: Scale, names: Sequence[str]) -> None:
    """Put new figures of some peers into the results of an earlier run."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
        found = asyncio.run(
            peers.run(names, directory=Path(directory), rounds=scale.peer_rounds, jobs=scale.peer_jobs)
        )
    results.peers = [peer for peer in results.peers if peer.name not in names] + found


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
        self.results.write(self.raw)


async def _run(book: _Book, scale: Scale, names: Sequence[str], directory: Path) -> None:
    results = book.results
    async with bench(directory, lifted=True) as lifted:
        await _tables(book, lifted, scale.lifted, server="lifted")
        with book.part("counts"):
            results.counts = await count(lifted, by_hand=scale.count_by_hand)
        with book.part("the timeline of a miss"):
            results.timeline = await timeline(lifted, misses=scale.misses)
        await _grow(book, lifted, scale)
        # From here on the bench's own worker is stopped.
        with book.part("killed workers"):
            results.recoveries = await recoveries(lifted, trials=scale.trials, stickies=scale.stickies)
        if scale.new_keys:
            with book.part("more new keys than slots"):
                results.new_keys = await crowds.new_keys(
                    lifted,
                    keys=scale.new_keys,
                    slots=scale.new_keys // 2,
                    patience=scale.new_keys_patience,
                )
    if scale.keys:
        await _hold(book, scale, Path(tempfile.mkdtemp(dir=directory)))
    if scale.stock:
        async with bench(directory, lifted=False) as stock:
            await _tables(book, stock, scale.stock, server="stock")
    if scale.instructions:
        with book.part("instructions"):
            results.instructions = await instructions()
    if names:
        with book.part(f"peers: {', '.join(names)}"):
            results.peers = await peers.run(
                names, directory=directory, rounds=scale.peer_rounds, jobs=scale.peer_jobs
            )


async def _tables(
    book: _Book, bench: Bench, tables: Sequence[tuple[Sequence[Way], Effort]], *, server: str
) -> None:
    for ways, effort in tables:
        with book.part(f"{server} server, jobs of {ways[0].calls}, {effort.concurrency} at a time"):
            book.results.tables.append(await run_rounds(bench, ways, effort, server=server))


async def _grow(book: _Book, bench: Bench, scale: Scale) -> None:
    results = book.results
    with book.part("many hits on one key"):
        results.past_hits = await growth.past_hits(bench, hits=scale.past_hits)
    if scale.callers:
        with book.part("many callers of one key"):
            results.callers = await crowds.callers(bench, number=scale.callers, rounds=scale.caller_rounds)
    if scale.sizes:
        with book.part("payloads"):
            results.sizes = await growth.sizes(bench, each=scale.sizes, times=3)


async def _hold(book: _Book, scale: Scale, directory: Path) -> None:
    """Hold keys on a server that holds no others."""
    async with bench(directory, lifted=True) as fresh:
        with book.part("many keys"):
            book.results.keys_held = await growth.keys_held(
                fresh, keys=scale.keys, steps=scale.key_steps, samples=scale.key_samples
            )
