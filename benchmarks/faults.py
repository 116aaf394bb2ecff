"""Faults: from a worker killed inside an effect to the answer."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

from benchmarks.bench import CHILD, DEDUPED, PLAIN, WRAPPER, Bench, Job
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


async def _recovery(bench: Bench, job: Job, *, sticky: float) -> float:
    gate = bench.directory / f"gate-{uuid4()}"
    work = Work(key=f"bench-{uuid4()}", gate=str(gate), heartbeat=HEARTBEAT)
    async with bench.another_worker(f"--sticky-timeout={sticky}"):
        await bench.run(job, replace(work, key=f"{work.key}-warm", gate=""))
        handle = await bench.start(job, work)
        by_hand = bench.client.get_workflow_handle(work.key)
        await bench.executing(handle if job in {PLAIN, DEDUPED} else by_hand)
        await asyncio.sleep(HEARTBEAT / 2)
        killed = time.perf_counter()
    gate.touch()
    async with bench.another_worker(f"--sticky-timeout={sticky}"), asyncio.timeout(_PATIENCE):
        await handle.result()
        return time.perf_counter() - killed
