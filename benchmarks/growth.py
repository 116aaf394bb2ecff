"""How the cost grows: with hits on one key, keys held, and bytes of payload."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from benchmarks.bench import DEDUPED, LOCAL, PLAIN, Bench
from benchmarks.work import Work

_ROW = 100
_FILL = 50
"""Calls that a job makes at once to fill the server with keys."""


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
class HeldPoint:
    """Hits while so many keys are held, each beside something that has nothing to do with keys."""

    keys: int
    """Keys held."""
    hits: list[float]
    """Seconds of a hit, one for each sample."""
    floors: list[float]
    """Seconds of a no-op local activity, measured right before or after each hit."""


@dataclass(frozen=True, kw_only=True)
class KeysHeld:
    """What keys cost while they are held."""

    points: list[HeldPoint]
    disk: float
    """Bytes of the server's database per key, jobs included."""


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


async def keys_held(bench: Bench, *, keys: int, steps: int, samples: int) -> KeysHeld:
    """Hold more and more keys, and time hits in between: a hundred in a row for each sample.

    The bench's server must be a fresh one, which holds no keys yet.
    """
    hot = f"bench-{uuid4()}"
    await bench.run(DEDUPED, Work(key=hot))
    await _pair(bench, hot, hit_first=True)  # warm
    points: list[HeldPoint] = []
    before = bench.server.stored()
    for step in range(steps + 1):
        held = keys * step // steps
        if step:
            await _fill(bench, held - keys * (step - 1) // steps)
        pairs = [await _pair(bench, hot, hit_first=bool(sample % 2)) for sample in range(samples)]
        points.append(
            HeldPoint(keys=held + 1, hits=[hit for hit, _ in pairs], floors=[floor for _, floor in pairs])
        )
    return KeysHeld(points=points, disk=(bench.server.stored() - before) / keys)


async def _pair(bench: Bench, key: str, *, hit_first: bool) -> tuple[float, float]:
    """Return the seconds of a hit and of a no-op local activity, each a hundred in a row in one job."""
    ways = {DEDUPED: Work(key=key, calls=_ROW), LOCAL: Work(calls=_ROW)}
    order = (DEDUPED, LOCAL) if hit_first else (LOCAL, DEDUPED)
    seconds = {job: await bench.run(job, ways[job]) / _ROW for job in order}
    return seconds[DEDUPED], seconds[LOCAL]


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
