"""The rounds that every peer runs: the same as ours, in its own process, without anything of Temporal's."""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

CONCURRENCY = 50
IN_A_ROW = 100
PLAIN = "plain"
ROW_OF = "row of "
"""Before the name of a way whose calls are made in a row in one job."""

Call = Callable[[str, int], Awaitable[object]]
"""Runs one job under a name of its own: so many calls with the keys that the way makes of the name."""


@dataclass(frozen=True, kw_only=True)
class Ways:
    """A peer's jobs. A job gets a key, and how many calls to make: the first with that key itself."""

    plain: Call
    miss: Call
    """Each call with a key of its own."""
    hit: Call
    """All calls with the one key."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    directory: Path
    rounds: int
    jobs: int


def options() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=100)
    given = parser.parse_args()
    return Options(directory=given.directory, rounds=given.rounds, jobs=given.jobs)


async def run(ways: Ways, *, rounds: int, jobs: int, version: str) -> None:
    """Run the rounds, after one that does not count, and print what they took."""
    laps: dict[str, list[tuple[float, float]]] = {}
    for number in range(rounds + 1):
        for name, call in ((PLAIN, ways.plain), ("miss", ways.miss), ("hit", ways.hit)):
            lap = await _lap(call, jobs=jobs if number else CONCURRENCY, calls=1, held=name == "hit")
            row = await _lap(call, jobs=1, calls=IN_A_ROW, held=name == "hit")
            if number:
                laps.setdefault(name, []).append(lap)
                laps.setdefault(ROW_OF + name, []).append(row)
    print(json.dumps({"version": version, "laps": laps}), flush=True)


async def _lap(call: Call, *, jobs: int, calls: int, held: bool) -> tuple[float, float]:
    key = str(uuid4())
    if held:
        await call(key, 1)
    slots = asyncio.Semaphore(CONCURRENCY)

    async def timed(number: int) -> float:
        async with slots:
            began = time.perf_counter()
            await call(key if held else f"{key}-{number}", calls)
            return (time.perf_counter() - began) / calls

    began = time.perf_counter()
    latencies = await asyncio.gather(*(timed(number) for number in range(jobs)))
    return statistics.median(latencies), jobs * calls / (time.perf_counter() - began)
