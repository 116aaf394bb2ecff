"""Crowds: many callers of one key at once, and more new keys at once than there are activity slots.

Both gather before anything is let go, so that all of them are there at the same time.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError

from benchmarks.bench import DEDUPED, PLAIN, WRAPPER, Bench, Job, events_of, joiners
from benchmarks.rounds import Clock, Lap
from benchmarks.work import Work

_QUIET = 10.0
"""Seconds for which a round waits, at the most, for others to leave the machine alone."""


@dataclass(frozen=True, kw_only=True)
class OneKey:
    """Many callers of one key, whose effect ends as soon as all of them wait for it."""

    lap: Lap
    """From the first start to the last answer."""
    after: float
    """Seconds from the end of the effect to the last answer."""
    joined: int
    """Callers that joined the execution which another had begun."""
    executions: int
    key_tasks: int
    """Workflow tasks of the key."""


@dataclass(frozen=True, kw_only=True)
class Callers:
    """Many callers of one key, beside as many plain jobs that do nothing, in turns."""

    callers: int
    plain: list[Lap]
    """Round by round."""
    one_key: list[OneKey]
    """The same rounds."""

    @property
    def ratios(self) -> list[float]:
        """How many times as long as the plain jobs the callers of one key took, round by round."""
        return [plain.rate / one.lap.rate for plain, one in zip(self.plain, self.one_key, strict=True)]


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
    plain: list[Lap] = []
    one_key: list[OneKey] = []
    for turn in range(rounds):
        await bench.quiet(patience=_QUIET)
        if turn % 2:
            one_key.append(await _one_key(bench, number))
        plain.append(await _plain(bench, number))
        if not turn % 2:
            one_key.append(await _one_key(bench, number))
    return Callers(callers=number, plain=plain, one_key=one_key)


async def _plain(bench: Bench, number: int) -> Lap:
    clock = Clock(bench)
    return clock.lap(await bench.run_all(PLAIN, [Work()] * number, concurrency=number), calls=number)


async def _one_key(bench: Bench, number: int) -> OneKey:
    gate = bench.directory / f"gate-{uuid4()}"
    work = Work(key=f"bench-{uuid4()}", gate=str(gate))
    key = bench.key(work.key)
    clock = Clock(bench)
    answers = asyncio.create_task(bench.run_all(DEDUPED, [work] * number, concurrency=number))
    await bench.executing(key)
    await bench.attached(work.key, callers=number - 1)
    opened = time.perf_counter()
    gate.touch()
    lap = clock.lap(await answers, calls=number)
    after = time.perf_counter() - opened
    events = await events_of(key)
    kinds = [event.event_type for event in events]
    return OneKey(
        lap=lap,
        after=after,
        joined=len(joiners(events)),
        executions=kinds.count(EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED),
        key_tasks=kinds.count(EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED),
    )


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
