"""Crowds: many callers of one key at once, and more new keys at once than there are activity slots.

What is said to gather is let go only when all of it is there.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from temporalio.client import WorkflowHandle
from temporalio.service import RPCError

from benchmarks.bench import DEDUPED, PLAIN, WRAPPER, Bench, Job
from benchmarks.rounds import Clock, Lap
from benchmarks.work import Work

_QUIET = 10.0
"""Seconds for which a round waits, at the most, for others to leave the machine alone."""


@dataclass(frozen=True, kw_only=True)
class OneKey:
    """Many callers of one key at once."""

    lap: Lap
    """From the first start to the last answer."""
    joined: int
    """Callers that joined the execution which another had begun."""
    executions: int


@dataclass(frozen=True, kw_only=True)
class Callers:
    """Many callers of one key, beside as many plain jobs, in turns. The lists go round by round."""

    callers: int
    plain: list[Lap]
    """An activity each that does nothing."""
    at_once: list[OneKey]
    """The key's effect does nothing, either: those who come after its end find the record."""
    gathered: list[OneKey]
    """The key's effect ends as soon as all callers wait for it."""

    def ratios(self, one_key: list[OneKey]) -> list[float]:
        """Return how many times as long as the plain jobs the callers of one key took, round by round."""
        return [plain.rate / one.lap.rate for plain, one in zip(self.plain, one_key, strict=True)]


@dataclass(frozen=True, kw_only=True)
class NewKeys:
    """Jobs with a new key each that are all there when their worker comes."""

    name: str
    keys: int
    slots: int
    """Activity slots of their worker."""
    answered: int
    seconds: float
    """Since the worker is ready, until all were answered or the patience was over."""


async def callers(bench: Bench, *, number: int, rounds: int) -> Callers:
    """Start many callers of one key, and as many plain jobs, forwards and backwards in turn."""
    found = Callers(callers=number, plain=[], at_once=[], gathered=[])

    async def plain() -> None:
        clock = Clock(bench)
        answers = await bench.run_all(PLAIN, [Work()] * number, concurrency=number)
        found.plain.append(clock.lap(answers, calls=number))

    async def at_once() -> None:
        found.at_once.append(await _one_key(bench, number, gathers=False))

    async def gathered() -> None:
        found.gathered.append(await _one_key(bench, number, gathers=True))

    parts = [at_once, plain, gathered]
    for turn in range(rounds):
        await bench.quiet(patience=_QUIET)
        for part in reversed(parts) if turn % 2 else parts:
            await part()
    return found


async def _one_key(bench: Bench, number: int, *, gathers: bool) -> OneKey:
    gate = bench.directory / f"gate-{uuid4()}"
    work = Work(key=f"bench-{uuid4()}", gate=str(gate))
    if not gathers:
        gate.touch()
    clock = Clock(bench)
    answers = asyncio.create_task(bench.run_all(DEDUPED, [work] * number, concurrency=number))
    if gathers:
        await bench.waited_for(work.key, callers=number - 1)
        gate.touch()
    lap = clock.lap(await answers, calls=number)
    return OneKey(lap=lap, joined=await bench.joined(work.key), executions=await bench.executions(work.key))


async def new_keys(bench: Bench, *, keys: int, slots: int, patience: float) -> list[NewKeys]:
    """Let jobs with new keys gather, then start a worker with fewer activity slots than there are jobs.

    The bench's own worker is stopped first.
    """
    await bench.worker.stop()
    return [
        await _new_keys(bench, name, job, keys=keys, slots=slots, patience=patience)
        for name, job in (("miss", DEDUPED), ("wrapper, miss", WRAPPER))
    ]


async def _new_keys(bench: Bench, name: str, job: Job, *, keys: int, slots: int, patience: float) -> NewKeys:
    works = [Work(key=f"bench-{uuid4()}") for _ in range(keys)]
    handles = await asyncio.gather(*(bench.start(job, work) for work in works))
    async with bench.another_worker(f"--deduped-slots={slots}", f"--by-hand-slots={slots}"):
        began = time.perf_counter()
        answered = await _answered(handles, patience=patience)
        seconds = time.perf_counter() - began
    if answered < keys:
        by_hand = [bench.client.get_workflow_handle(work.key) for work in works]
        await asyncio.gather(*map(_terminate, [*handles, *by_hand]))
    return NewKeys(name=name, keys=keys, slots=slots, answered=answered, seconds=seconds)


async def _answered(handles: Sequence[WorkflowHandle[object, None]], *, patience: float) -> int:
    """Return how many jobs have their answer, as soon as all have or the patience is over."""
    tasks = [asyncio.create_task(handle.result()) for handle in handles]
    done, pending = await asyncio.wait(tasks, timeout=patience)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return sum(task.exception() is None for task in done)


async def _terminate(handle: WorkflowHandle[object, None]) -> None:
    with contextlib.suppress(RPCError):  # it is done, or was never there
        await handle.terminate()
