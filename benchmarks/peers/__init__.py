"""Peers: systems other than Temporal, on the same job, each against its own plain step as the floor.

Each is a module of its own that runs by itself in the benchmark's own environment (`environment`) and prints
JSON. A peer that cannot be installed or started here is skipped, visibly.
"""

import asyncio
import json
import os
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.environment import environment

NAMES = ("dbos", "powertools", "restate")
_LONGEST = 150.0


@dataclass(frozen=True, kw_only=True)
class PeerLap:
    """What one way took in one round."""

    latency: float
    rate: float


@dataclass(frozen=True, kw_only=True)
class Peer:
    """What a peer's own plain step, miss and hit took, in rounds."""

    name: str
    version: str = ""
    skipped: str | None = None
    """Why it was not run; None if it was."""
    laps: dict[str, list[PeerLap]] = field(default_factory=dict[str, list[PeerLap]])
    """By way: plain, miss, hit, and the same with "row of" before them."""

    def rate_ratio(self, way: str) -> float | None:
        """Return the throughput of a way relative to the plain step's, median over the rounds."""
        return self._ratio(way, "plain", "rate")

    def row_ratio(self, way: str) -> float | None:
        """Return the time of one call of a row in one job relative to the plain step's."""
        return self._ratio(f"row of {way}", "row of plain", "latency")

    def _ratio(self, way: str, floor: str, what: str) -> float | None:
        pairs = zip(self.laps.get(way, []), self.laps.get(floor, []), strict=False)
        ratios = sorted(float(getattr(mine, what) / getattr(its, what)) for mine, its in pairs)
        return ratios[len(ratios) // 2] if ratios else None


async def run(names: Sequence[str], *, directory: Path, rounds: int, jobs: int) -> list[Peer]:
    """Run some peers, one after the other."""
    try:
        python = await environment()
    except RuntimeError as error:
        return [Peer(name=name, skipped=str(error)) for name in names]
    return [await _run(python, name, directory, rounds=rounds, jobs=jobs) for name in names]


async def _run(python: Path, name: str, directory: Path, *, rounds: int, jobs: int) -> Peer:
    work = directory / f"peer-{name}"
    work.mkdir(exist_ok=True)
    with (directory / f"{name}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            str(python),
            "-m",
            f"benchmarks.peers.{name}_peer",
            str(work),
            f"--rounds={rounds}",
            f"--jobs={jobs}",
            stdout=PIPE,
            stderr=log,
            stdin=DEVNULL,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(_LONGEST):
            output, _ = await process.communicate()
    except TimeoutError:
        process.terminate()
        await process.wait()
        return Peer(name=name, skipped=f"not done after {_LONGEST:.0f} s")
    if process.returncode:
        return Peer(name=name, skipped=_last_line(directory / f"{name}.log"))
    found = json.loads(output.splitlines()[-1])
    return Peer(
        name=name,
        version=found["version"],
        laps={
            way: [PeerLap(latency=latency, rate=rate) for latency, rate in laps]
            for way, laps in found["laps"].items()
        },
    )


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it ended without a word"
