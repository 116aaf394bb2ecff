"""How the cost grows: with hits on one key, keys held, callers of one key, and bytes of payload."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from temporalio.api.enums.v1 import EventType

from benchmarks.bench import DEDUPED, PLAIN, Bench, events_of
from benchmarks.work import Work

_ROW = 100
_FILL = 50
"""Calls that a job makes at once to fill the server with keys."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measurement of something that may grow."""

    at: int
    """Keys or bytes so far."""
    seconds: float
    """Of one call."""


@dataclass(frozen=True, kw_only=True)
class PastHits:
    """One hit on a hot key, beside one on a key that nobody has hit before."""

    at: int
    """Hits on the hot key so far."""
    hot: float
    """Seconds of a hit on it."""
    fresh: float
    """Seconds of a hit on the other key, measured right after."""


@dataclass(frozen=True, kw_only=True)
class KeysHeld:
    """What keys cost while they are held."""

    hits: list[Point]
    """One hit, by the number of keys held."""
    memory: list[tuple[int, int]]
    """Keys held, and bytes resident in the worker process."""
    disk: float
    """Bytes of the server's database per key, jobs included."""


@dataclass(frozen=True, kw_only=True)
class Callers:
    """Many callers of one key at once, beside as many plain jobs."""

    callers: int
    plain: float
    """Seconds until all plain jobs are done."""
    deduped: float
    """Seconds until all callers have their answer, the activity's own time not counted."""
    executions: int


@dataclass(frozen=True, kw_only=True)
class Sized:
    """One call with a payload of some size."""

    size: int
    plain: float
    miss: float
    hit: float
    key_bytes: int


async def past_hits(bench: Bench, *, hits: int) -> list[PastHits]:
    """Time hits on one hot key, a hundred in a row and over again, and each time as many on a fresh key."""
    key = f"bench-{uuid4()}"
    await bench.run(DEDUPED, Work(key=key))
    await bench.run(DEDUPED, Work(key=f"{key}-warm", calls=_ROW))
    points: list[PastHits] = []
    for number in range(hits // _ROW):
        fresh = f"{key}-{number}"
        await bench.run(DEDUPED, Work(key=fresh))
        seconds = [await bench.run(DEDUPED, Work(key=each, calls=_ROW)) / _ROW for each in (key, fresh)]
        points.append(PastHits(at=number * _ROW, hot=seconds[0], fresh=seconds[1]))
    return points


async def keys_held(bench: Bench, *, keys: int, steps: int) -> KeysHeld:
    """Hold more and more keys, and time hits in between."""
    hot = f"bench-{uuid4()}"
    await bench.run(DEDUPED, Work(key=hot))
    hits: list[Point] = []
    memory: list[tuple[int, int]] = []
    database = bench.directory / "lifted.db"
    before = _size(database)
    for step in range(steps + 1):
        held = keys * step // steps
        if step:
            await _fill(bench, held - keys * (step - 1) // steps)
        times = [await bench.run(DEDUPED, Work(key=hot, calls=_ROW)) for _ in range(4)]
        hits.append(Point(at=held, seconds=statistics.median(times[1:]) / _ROW))
        memory.append((held, bench.worker.memory()))
    return KeysHeld(hits=hits, memory=memory, disk=(_size(database) - before) / keys)


async def callers(bench: Bench, *, number: int, pause: float) -> Callers:
    """Start many callers of one key whose activity takes a while, and as many plain jobs that do nothing."""
    work = Work(key=f"bench-{uuid4()}", pause=pause)
    began = time.perf_counter()
    await bench.run_all(PLAIN, [Work()] * number, concurrency=number)
    plain = time.perf_counter() - began
    began = time.perf_counter()
    await bench.run_all(DEDUPED, [work] * number, concurrency=number)
    deduped = time.perf_counter() - began
    executions = 0
    for event in await events_of(bench.key(work.key)):
        executions += event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    return Callers(callers=number, plain=plain, deduped=deduped - pause, executions=executions)


async def sizes(bench: Bench, *, each: Sequence[int], times: int) -> list[Sized]:
    """Time calls with payloads of some sizes: five in a row for each figure."""
    row = 5
    sized: list[Sized] = []
    for size in each:
        laps: dict[str, list[float]] = {"plain": [], "miss": [], "hit": []}
        key = f"bench-{uuid4()}"
        await bench.run(DEDUPED, Work(key=key, size=size))
        for number in range(times):
            fresh = Work(key=f"{key}-{number}", size=size, calls=row, fresh=True)
            laps["plain"].append(await bench.run(PLAIN, fresh) / row)
            laps["miss"].append(await bench.run(DEDUPED, fresh) / row)
            laps["hit"].append(await bench.run(DEDUPED, Work(key=key, size=size, calls=row)) / row)
        described = await bench.key(key).describe()
        sized.append(
            Sized(
                size=size,
                plain=statistics.median(laps["plain"]),
                miss=statistics.median(laps["miss"]),
                hit=statistics.median(laps["hit"]),
                key_bytes=described.raw_description.workflow_execution_info.history_size_bytes,
            )
        )
    return sized


async def _fill(bench: Bench, keys: int) -> None:
    jobs = [
        Work(key=f"bench-{uuid4()}", calls=min(_FILL, keys - first), fresh=True, at_once=True)
        for first in range(0, keys, _FILL)
    ]
    await bench.run_all(DEDUPED, jobs, concurrency=2)


def _size(database: Path) -> int:
    return sum(path.stat().st_size for path in database.parent.glob(f"{database.name}*"))
