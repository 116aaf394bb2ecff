"""What does not jitter: events, tasks, requests and bytes of one call."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.client import WorkflowHandle

from benchmarks.bench import CHILD, DEDUPED, LOCAL, LOOK, PLAIN, WRAPPER, Bench, Job, events_of
from benchmarks.work import Work

_JOBS = 10
_WORKFLOW_TASK = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
_ACTIVITY_TASK = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
_SETTLED = 1.5
"""Seconds in which the last requests of a job have arrived; the server publishes its counts once a second."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """What one job of one call comes to, and each further call in the same job.

    For a call that joins an execution the key's part is what the call adds to it.
    """

    name: str
    job_events: int
    key_events: float
    workflow_tasks: float
    """Of job and key together."""
    activity_tasks: int
    job_transitions: int
    """How often the service wrote the job's state."""
    key_transitions: float
    job_bytes: int
    key_bytes: float
    requests: dict[str, float]
    """Requests to the server by kind, mean over some jobs."""
    further_events: float | None = None
    """Events, of job and key, that each further call in the same job adds; None where not counted."""

    @property
    def events(self) -> float:
        """Events of job and key."""
        return self.job_events + self.key_events


_OURS = (
    ("plain activity", PLAIN, False),
    ("local activity", LOCAL, False),
    ("miss", DEDUPED, False),
    ("hit", DEDUPED, True),
)
_BY_HAND = (
    ("wrapper, miss", WRAPPER, False),
    ("wrapper, hit", WRAPPER, True),
    ("child, miss", CHILD, False),
    ("child, hit", CHILD, True),
)


async def count(bench: Bench, *, by_hand: bool) -> list[Count]:
    """Count ours and its floors, and maybe the ways written by hand."""
    ours = [await _count(bench, name, job, held=held) for name, job, held in _OURS]
    ours.append(await _count_joined(bench))
    others = [await _count(bench, name, job, held=held) for name, job, held in _BY_HAND if by_hand]
    return [*ours, *others]


async def _count_joined(bench: Bench) -> Count:
    """Count what a call adds that finds the key executing, where others come one after another."""
    alone, joined = await _gather(bench, joiners=0), await _gather(bench, joiners=_JOBS)
    job = joined.jobs[-1]
    kinds = _kinds(await events_of(job))
    info = await _info(job)
    return Count(
        name="joined",
        job_events=info.history_length,
        key_events=(joined.key.history_length - alone.key.history_length) / _JOBS,
        workflow_tasks=kinds[_WORKFLOW_TASK] + (joined.key_tasks - alone.key_tasks) / _JOBS,
        activity_tasks=kinds[_ACTIVITY_TASK],
        job_transitions=info.state_transition_count,
        key_transitions=(joined.key.state_transition_count - alone.key.state_transition_count) / _JOBS,
        job_bytes=info.history_size_bytes,
        key_bytes=(joined.key.history_size_bytes - alone.key.history_size_bytes) / _JOBS,
        requests=_each(joined.requests, alone.requests, jobs=_JOBS),
    )


@dataclass(frozen=True, kw_only=True)
class _Gathered:
    """A key that some calls have joined, at rest."""

    jobs: list[WorkflowHandle[object, None]]
    """Those that joined."""
    key: WorkflowExecutionInfo
    key_tasks: int
    requests: Counter[str]
    """From before the first joined until all had their answer."""


async def _gather(bench: Bench, *, joiners: int) -> _Gathered:
    gate = bench.directory / f"gate-{uuid4()}"
    work = Work(key=f"bench-{uuid4()}", gate=str(gate))
    key = bench.key(work.key)
    owner = await bench.start(DEDUPED, work)
    await bench.acquired(work.key)
    await asyncio.sleep(_SETTLED)
    before, looks = await bench.server.requests(), Counter(bench.looks)
    jobs: list[WorkflowHandle[object, None]] = []
    for number in range(joiners):
        jobs.append(await bench.start(DEDUPED, work))
        await bench.waited_for(work.key, callers=number + 1)
    gate.touch()
    for job in [owner, *jobs]:
        await job.result()
    await asyncio.sleep(_SETTLED)
    requests = await bench.server.requests() - before
    requests[LOOK] -= bench.looks[LOOK] - looks[LOOK]
    return _Gathered(
        jobs=jobs,
        key=await _info(key),
        key_tasks=_kinds(await events_of(key))[_WORKFLOW_TASK],
        requests=requests,
    )


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
    kinds = _kinds(event for history in histories for event in history)
    job_info, *key_infos = [await _info(workflow) for workflow in [handle, *keys]]
    return Count(
        name=name,
        job_events=len(histories[0]),
        key_events=sum(map(len, histories[1:])),
        workflow_tasks=kinds[_WORKFLOW_TASK],
        activity_tasks=kinds[_ACTIVITY_TASK],
        job_transitions=job_info.state_transition_count,
        key_transitions=sum(info.state_transition_count for info in key_infos),
        job_bytes=job_info.history_size_bytes,
        key_bytes=sum(info.history_size_bytes for info in key_infos),
        requests=_each(requests, before, jobs=_JOBS - 1),
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


def _each(after: Counter[str], before: Counter[str], *, jobs: int) -> dict[str, float]:
    """Return the requests per job, without kinds that most jobs did not make."""
    return {
        kind: sent / jobs
        for kind, number in sorted(after.items())
        if (sent := number - before[kind]) >= jobs / 2
    }


def _kinds(events: Iterable[HistoryEvent]) -> Counter[EventType.ValueType]:
    return Counter(event.event_type for event in events)


async def _done(bench: Bench, job: Job, work: Work) -> WorkflowHandle[object, None]:
    handle = await bench.start(job, work)
    await handle.result()
    return handle


async def _info(workflow: WorkflowHandle[object, None]) -> WorkflowExecutionInfo:
    return (await workflow.describe()).raw_description.workflow_execution_info
