"""Faults: a worker killed inside an effect, and more waiting wrappers than there are activity slots."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

from temporalio.client import WorkflowHandle
from temporalio.service import RPCError

from benchmarks.bench import CHILD, DEDUPED, PLAIN, WRAPPER, Bench, Job
from benchmarks.processes import start_worker
from benchmarks.work import Work

HEARTBEAT = 3.0
_PATIENCE = 120.0


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """From `kill -9` of the worker inside the effect, and an immediate restart, to the answer."""

    name: str
    sticky: float
    """The job worker's sticky queue time-out in seconds; the SDK's default is 10."""
    seconds: list[float]
    """One per trial, from the kill to the job's end."""


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """New keys at once, as many as twice the activity slots."""

    name: str
    keys: int
    slots: int
    answered: int
    seconds: float
    """Until all were answered, or the patience was over."""


async def recoveries(bench: Bench, *, trials: int, stickies: Sequence[float]) -> list[Recovery]:
    """Kill the worker inside the effect of each way. The bench's own worker is stopped first."""
    await bench.worker.stop()
    found: list[Recovery] = []
    for sticky in stickies:
        for name, job in (
            ("plain activity", PLAIN),
            ("miss", DEDUPED),
            ("wrapper, miss", WRAPPER),
            ("child, miss", CHILD),
        ):
            seconds = [await _recovery(bench, job, sticky=sticky) for _ in range(trials)]
            found.append(Recovery(name=name, sticky=sticky, seconds=seconds))
    return found


async def crowds(bench: Bench, *, keys: int, slots: int, patience: float) -> list[Crowd]:
    """Ask for new keys at once from a worker with fewer activity slots. No other worker may be running."""
    worker = await start_worker(
        "benchmarks.worker",
        bench.server.address,
        f"--by-hand-slots={slots}",
        log=bench.directory / "worker.log",
    )
    try:
        return [
            await _crowd(bench, name, job, keys=keys, slots=slots, patience=patience)
            for name, job in (("miss", DEDUPED), ("wrapper, miss", WRAPPER))
        ]
    finally:
        await worker.kill()


async def _crowd(bench: Bench, name: str, job: Job, *, keys: int, slots: int, patience: float) -> Crowd:
    began = time.perf_counter()
    handles = [await bench.start(job, Work(key=f"bench-{uuid4()}")) for _ in range(keys)]
    tasks = [asyncio.create_task(handle.result()) for handle in handles]
    done, pending = await asyncio.wait(tasks, timeout=patience)
    seconds = time.perf_counter() - began
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    if pending:
        await asyncio.gather(*map(_terminate, handles))
    return Crowd(name=name, keys=keys, slots=slots, answered=len(done), seconds=seconds)


async def _recovery(bench: Bench, job: Job, *, sticky: float) -> float:
    gate = bench.directory / f"gate-{uuid4()}"
    work = Work(key=f"bench-{uuid4()}", gate=str(gate), heartbeat=HEARTBEAT)
    async with _worker(bench, sticky):
        await bench.run(job, replace(work, key=f"{work.key}-warm", gate=""))
        handle = await bench.start(job, work)
        await bench.executing(_executes(bench, job, work, handle))
        await asyncio.sleep(HEARTBEAT / 2)
        killed = time.perf_counter()
    gate.touch()
    async with _worker(bench, sticky), asyncio.timeout(_PATIENCE):
        await handle.result()
        return time.perf_counter() - killed


def _executes(
    bench: Bench, job: Job, work: Work, handle: WorkflowHandle[object, None]
) -> WorkflowHandle[object, None]:
    """Return the workflow that runs the effect."""
    if job is PLAIN:
        return handle
    return bench.key(work.key) if job is DEDUPED else bench.client.get_workflow_handle(work.key)


@asynccontextmanager
async def _worker(bench: Bench, sticky: float) -> AsyncGenerator[None]:
    """Run a worker until the block ends, and kill it then."""
    worker = await start_worker(
        "benchmarks.worker",
        bench.server.address,
        f"--sticky-timeout={sticky}",
        log=bench.directory / "worker.log",
    )
    try:
        yield
    finally:
        await worker.kill()


async def _terminate(handle: WorkflowHandle[object, None]) -> None:
    with contextlib.suppress(RPCError):  # it is done
        await handle.terminate()
