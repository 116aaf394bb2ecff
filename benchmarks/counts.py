"""What does not jitter: events, tasks, requests and bytes of one call."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from uuid import uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.client import WorkflowHandle

from benchmarks.bench import CHILD, DEDUPED, LOCAL, PLAIN, WRAPPER, Bench, Job, events_of
from benchmarks.work import Work

_JOBS = 20
_SETTLED = 0.5
"""Seconds in which the last requests of a job have arrived."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """What one job of one call comes to, and each further call in the same job."""

    name: str
    job_events: int
    key_events: int
    workflow_tasks: int
    """Of job and key together."""
    activity_tasks: int
    job_transitions: int
    """How often the service wrote the job's state."""
    key_transitions: int
    job_bytes: int
    key_bytes: int
    requests: dict[str, float]
    """Requests to the server by kind, mean over some jobs."""
    further_events: float
    """Events, of job and key, that each further call in the same job adds."""

    @property
    def events(self) -> int:
        """Events of job and key."""
        return self.job_events + self.key_events


async def count(bench: Bench) -> list[Count]:
    """Count every way."""
    return [
        await _count(bench, name, job, held=held)
        for name, job, held in (
            ("plain activity", PLAIN, False),
            ("local activity", LOCAL, False),
            ("miss", DEDUPED, False),
            ("hit", DEDUPED, True),
            ("wrapper, miss", WRAPPER, False),
            ("wrapper, hit", WRAPPER, True),
            ("child, miss", CHILD, False),
            ("child, hit", CHILD, True),
        )
    ]


async def _count(bench: Bench, name: str, job: Job, *, held: bool) -> Count:
    works = [Work(key=f"bench-{uuid4()}") for _ in range(_JOBS)]
    if held:
        works = [works[0]] * _JOBS
        await bench.run(job, works[0])
    await asyncio.sleep(_SETTLED)
    before = await bench.server.requests()
    await bench.run_all(job, works[1:], concurrency=1)
    await asyncio.sleep(_SETTLED)
    requests = await bench.server.requests()
    handle = await _done(bench, job, works[0])
    key = bench.key(works[0].key) if job is DEDUPED else bench.client.get_workflow_handle(works[0].key)
    keys = [] if held or job in {PLAIN, LOCAL} else [key]
    histories = [await events_of(workflow) for workflow in [handle, *keys]]
    kinds = Counter(event.event_type for history in histories for event in history)
    job_info, *key_infos = [await _info(workflow) for workflow in [handle, *keys]]
    return Count(
        name=name,
        job_events=len(histories[0]),
        key_events=sum(map(len, histories[1:])),
        workflow_tasks=kinds[EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED],
        activity_tasks=kinds[EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED],
        job_transitions=job_info.state_transition_count,
        key_transitions=sum(info.state_transition_count for info in key_infos),
        job_bytes=job_info.history_size_bytes,
        key_bytes=sum(info.history_size_bytes for info in key_infos),
        requests={
            kind: sent / (_JOBS - 1)
            for kind, number in sorted(requests.items())
            if (sent := number - before[kind]) >= _JOBS / 2
        },
        further_events=await _further(bench, job, held=held),
    )


async def _further(bench: Bench, job: Job, *, held: bool) -> float:
    """Return the events of a job of eleven calls beyond those of a job of one, per call."""
    further = 10
    key = f"bench-{uuid4()}"
    if held:
        await bench.run(job, Work(key=key))
    events: list[int] = []
    for calls in (1, 1 + further):
        work = Work(key=key if held else f"{key}-{calls}", calls=calls, fresh=not held)
        events.append(len(await events_of(await _done(bench, job, work))))
        if not held and job not in {PLAIN, LOCAL}:
            for call in range(calls):
                name = work.key_of(call)
                workflow = bench.key(name) if job is DEDUPED else bench.client.get_workflow_handle(name)
                events[-1] += len(await events_of(workflow))
    return (events[1] - events[0]) / further


async def _done(bench: Bench, job: Job, work: Work) -> WorkflowHandle[object, None]:
    handle = await bench.start(job, work)
    await handle.result()
    return handle


async def _info(workflow: WorkflowHandle[object, None]) -> WorkflowExecutionInfo:
    return (await workflow.describe()).raw_description.workflow_execution_info
