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
from benchmarks.figures import Figure
from benchmarks.peers.laps import PLAIN, ROW_OF

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
    """By way: plain, miss, hit, and the same with `ROW_OF` before them, a hundred in a row in one job."""

    def figure(self, way: str, what: str) -> Figure:
        """Return one figure of a way: an attribute of `PeerLap`."""
        return Figure.of(self._each(way, what))

    def ratio(self, way: str, what: str) -> Figure:
        """Return one figure of a way relative to the plain step's, round by round."""
        floor = ROW_OF + PLAIN if way.startswith(ROW_OF) else PLAIN
        return Figure.of_ratios(self._each(way, what), self._each(floor, what))

    def _each(self, way: str, what: str) -> list[float]:
        return [float(getattr(lap, what)) for lap in self.laps[way]]


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
