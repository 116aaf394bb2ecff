"""Rounds: jobs of one way after jobs of the next, over and over, on one server with one worker process.

A figure is the median over the rounds; a ratio is taken inside each round first, so that what disturbs the
machine for a while disturbs both its sides. The rounds go through the ways forwards and backwards in turn.
"""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

from temporalio.converter import PayloadConverter

from benchmarks.bench import APART, CHILD, DEDUPED, LOCAL, PLAIN, READING, WRAPPER, Bench, Job, own_cpu
from benchmarks.figures import Figure
from benchmarks.processes import machine, others
from benchmarks.work import Work
from dedupe.model.messages import Owner, Start
from dedupe.model.outcome import Succeeded
from dedupe.plugin import DEFAULT_TASK_QUEUE
from dedupe.record.handle import KeyHandle

IN_A_ROW = 100
GATHERED = (300, 2_000)
"""New keys that one job asks for at once."""
_FEWEST = 2
"""Rounds that count and are run even when the time is over."""
_SLOTS = 100
"""Activities that a worker executes at once, unless it is told otherwise."""
_WARM = 10
"""Jobs of a lap that does not count, and calls of such a job."""


@dataclass(frozen=True, kw_only=True)
class Lap:
    """What one way took in one round, per call."""

    latency: float
    """Seconds, median over the lap's jobs."""
    rate: float
    """Calls per second, over all of them."""
    worker: float
    """CPU seconds of the worker process."""
    server: float
    """CPU seconds of the server."""
    driver: float
    """CPU seconds of the process that starts the jobs."""
    others: float
    """Cores that other people's processes kept busy meanwhile."""

    @property
    def cpu(self) -> float:
        """CPU seconds in all."""
        return self.worker + self.server + self.driver


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way of making a call, in one state of its key: a row of a table."""

    name: str
    job: Job
    calls: int = 1
    """Calls per job."""
    at_once: bool = False
    """Whether a job makes its calls all at once, not one after the other."""
    held: bool = False
    """Whether the key is settled before the clock starts, so that every call is a hit."""

    async def lap(self, bench: Bench, *, concurrency: int, jobs: int) -> Lap:
        """Run so many jobs, so many at a time."""
        works = [
            Work(key=f"bench-{uuid4()}", calls=self.calls, at_once=self.at_once, fresh=not self.held)
            for _ in range(jobs)
        ]
        if self.held:
            works = [works[0]] * jobs
            await bench.run(self.job, replace(works[0], calls=1))
        clock = Clock(bench)
        times = await bench.run_all(self.job, works, concurrency=concurrency)
        return clock.lap([seconds / self.calls for seconds in times], calls=jobs * self.calls)


@dataclass(frozen=True, kw_only=True)
class Joined(Way):
    """Calls that find the key executing. The latency counts from the end of its activity to the answer."""

    async def lap(self, bench: Bench, *, concurrency: int, jobs: int) -> Lap:
        """Let jobs join one whose activity waits at a gate; open it when all of them wait."""
        del jobs
        gate = bench.directory / f"gate-{uuid4()}"
        work = Work(key=f"bench-{uuid4()}", gate=str(gate))
        owner = await bench.start(self.job, work)
        await bench.acquired(work.key)
        clock = Clock(bench)
        callers = [asyncio.create_task(bench.run(self.job, work)) for _ in range(concurrency)]
        await bench.waited_for(work.key, callers=concurrency)
        opened = time.perf_counter()
        gate.touch()

        async def answered(caller: asyncio.Task[float]) -> float:
            await caller
            return time.perf_counter() - opened

        lap = clock.lap(await asyncio.gather(*map(answered, callers)), calls=concurrency)
        await owner.result()
        return lap


@dataclass(frozen=True, kw_only=True)
class Reading(Way):
    """Jobs that read the history of a held key, as a hit does at the least."""

    async def lap(self, bench: Bench, *, concurrency: int, jobs: int) -> Lap:
        """Run so many jobs, so many at a time."""
        key = f"bench-{uuid4()}"
        await bench.run(DEDUPED, Work(key=key))
        works = [Work(key=bench.key(key).id, calls=self.calls)] * jobs
        clock = Clock(bench)
        times = await bench.run_all(self.job, works, concurrency=concurrency)
        return clock.lap([seconds / self.calls for seconds in times], calls=jobs * self.calls)


@dataclass(frozen=True, kw_only=True)
class Requests(Way):
    """The two requests of a new key, and nothing else: what a miss takes at least, beside its activity."""

    async def lap(self, bench: Bench, *, concurrency: int, jobs: int) -> Lap:
        """Begin and record so many executions: one by one, or as many at a time as a worker has slots."""
        del concurrency, jobs
        slots = asyncio.Semaphore(_SLOTS if self.at_once else 1)
        owner = Owner(workflow_id=f"bench-job-{uuid4()}", run_id=str(uuid4()), activity_id="dedupe~1")

        async def begin_and_record() -> None:
            async with slots:
                name = f"bench-{uuid4()}"
                key = KeyHandle(client=bench.client, key_id=bench.key(name).id)
                start = Start(key=name, activity="effect", idempotency_key=str(uuid4()), owner=owner)
                run_id = await key.acquire(start, task_queue=DEFAULT_TASK_QUEUE, again=False)
                if run_id is None:
                    message = f"somebody holds {name}, a new key"
                    raise RuntimeError(message)
                await key.record(run_id, Succeeded(PayloadConverter.default.to_payload(name)))

        clock, began = Clock(bench), time.perf_counter()
        await asyncio.gather(*(begin_and_record() for _ in range(self.calls)))
        return clock.lap([(time.perf_counter() - began) / self.calls], calls=self.calls)


PLAIN_WAY = Way(name="plain activity", job=PLAIN)
LOCAL_WAY = Way(name="local activity", job=LOCAL)
READING_WAY = Reading(name="local activity that reads", job=READING)
APART_WAY = Way(name="child with the activity", job=APART)
MISS = Way(name="miss", job=DEDUPED)
HIT = Way(name="hit", job=DEDUPED, held=True)
REQUESTS = Requests(name="its two requests", job=DEDUPED)
JOINED = Joined(name="joined", job=DEDUPED)
WRAPPER_MISS = Way(name="wrapper, miss", job=WRAPPER)
WRAPPER_HIT = Way(name="wrapper, hit", job=WRAPPER, held=True)
CHILD_MISS = Way(name="child, miss", job=CHILD)
CHILD_HIT = Way(name="child, hit", job=CHILD, held=True)

CORE = (PLAIN_WAY, APART_WAY, MISS, JOINED, LOCAL_WAY, READING_WAY, HIT)
BY_HAND = (WRAPPER_MISS, WRAPPER_HIT, CHILD_MISS, CHILD_HIT)


def gathered(way: Way, calls: int) -> Way:
    """Return the way with so many calls at once in one job."""
    return replace(way, calls=calls, at_once=True)


def in_a_row(way: Way) -> Way:
    """Return the way with a hundred calls in one job."""
    return replace(way, calls=IN_A_ROW)


@dataclass(frozen=True, kw_only=True)
class Table:
    """The laps of some ways, side by side."""

    server: str
    """"lifted" or "stock"."""
    concurrency: int
    calls: int
    """Calls per job."""
    laps: dict[str, list[Lap]]
    """One per round, by the name of the way."""
    at_once: bool = False
    """Whether a job makes its calls all at once."""

    @property
    def title(self) -> str:
        """What was run."""
        job = (
            "jobs of one call"
            if self.calls == 1
            else f"jobs of {self.calls} calls {'at once' if self.at_once else 'in a row'}"
        )
        return f"{job}, {self.concurrency} at a time, {self.server} server"

    def figure(self, name: str, what: str) -> Figure:
        """Return one figure of a way: an attribute of `Lap`."""
        return Figure.of(self._each(name, what))

    def ratio(self, name: str, what: str, *, to: str = PLAIN_WAY.name) -> Figure:
        """Return one figure of a way relative to another way's, round by round."""
        return Figure.of_ratios(self._each(name, what), self._each(to, what))

    def ratio_to_floor(self, what: str) -> Figure | None:
        """Return one figure of a miss relative to its floor: a plain activity, and the two requests alone."""
        if REQUESTS.name not in self.laps:
            return None
        floor = map(sum, zip(self._each(PLAIN_WAY.name, what), self._each(REQUESTS.name, what), strict=True))
        return Figure.of_ratios(self._each(MISS.name, what), list(floor))

    def _each(self, name: str, what: str) -> list[float]:
        return [float(getattr(lap, what)) for lap in self.laps[name]]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is run for one table."""

    concurrency: int
    jobs: int
    """Jobs per lap."""
    rounds: int
    budget: float
    """Seconds after which no further round begins."""


async def run_rounds(bench: Bench, ways: Sequence[Way], effort: Effort, *, server: str) -> Table:
    """Run rounds of some ways, after one that does not count."""
    laps: dict[str, list[Lap]] = {way.name: [] for way in ways}
    ends = time.monotonic() + effort.budget
    for number in range(effort.rounds + 1):
        if number > _FEWEST and time.monotonic() > ends:
            break
        await bench.quiet(patience=effort.budget / 20)
        for way in ways if number % 2 else reversed(ways):
            if number:
                lap = await way.lap(bench, concurrency=effort.concurrency, jobs=effort.jobs)
                laps[way.name].append(lap)
            else:
                warm = replace(way, calls=min(way.calls, _WARM))
                await warm.lap(bench, concurrency=effort.concurrency, jobs=min(effort.jobs, _WARM))
    return Table(
        server=server,
        concurrency=effort.concurrency,
        calls=ways[0].calls,
        laps=laps,
        at_once=ways[0].at_once,
    )


class Clock:
    """Wall and CPU time since it was made."""

    def __init__(self, bench: Bench) -> None:
        """Start it."""
        self._bench = bench
        self._machine = machine()
        self._worker = bench.worker.cpu()
        self._server = bench.server.process.cpu()
        self._driver = own_cpu()
        self._began = time.perf_counter()

    def lap(self, latencies: Sequence[float], *, calls: int) -> Lap:
        """Return what the calls since its start took."""
        wall = time.perf_counter() - self._began
        worker = self._bench.worker.cpu() - self._worker
        server = self._bench.server.process.cpu() - self._server
        driver = own_cpu() - self._driver
        return Lap(
            latency=statistics.median(latencies),
            rate=calls / wall,
            worker=worker / calls,
            server=server / calls,
            driver=driver / calls,
            others=others(worker + server + driver, self._machine),
        )
