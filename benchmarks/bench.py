"""The bench: a server, a worker process, and the client that drives them, each in a process of its own."""

import asyncio
import os
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from benchmarks.dev_server import DevServer, dev_server
from benchmarks.processes import Running, machine, others, start_worker
from benchmarks.work import BY_HAND_QUEUE, DEDUPED_QUEUE, PLAIN_QUEUE, Work
from benchmarks.worker import ORGANIZATION, PROJECT
from dedupe.model.keys import Keyspace, Scope
from dedupe.model.names import CLAIM

_PATIENCE = 120.0
_LONGEST = 600.0
"""Seconds after which a job, or a crowd of callers, is taken to be stuck."""
_PAUSE = 0.02
_STARTS = 100
"""Requests to start a job that are under way at once."""
LOOK = "DescribeWorkflowExecution"
"""How the bench looks at a workflow."""
_QUIET = 0.3
"""Cores that others may use on a quiet machine."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A workflow type and the queue it lives on."""

    workflow: str
    task_queue: str


PLAIN = Job(workflow="bench.plain", task_queue=PLAIN_QUEUE)
LOCAL = Job(workflow="bench.local", task_queue=PLAIN_QUEUE)
READING = Job(workflow="bench.reading", task_queue=PLAIN_QUEUE)
APART = Job(workflow="bench.apart", task_queue=PLAIN_QUEUE)
DEDUPED = Job(workflow="bench.deduped", task_queue=DEDUPED_QUEUE)
WRAPPER = Job(workflow="bench.wrapped", task_queue=BY_HAND_QUEUE)
CHILD = Job(workflow="bench.child", task_queue=BY_HAND_QUEUE)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A server, a worker process, and the client that drives them."""

    server: DevServer
    worker: Running
    client: Client
    directory: Path
    door: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_STARTS))
    gated: defaultdict[str, list[WorkflowHandle[object, None]]] = field(
        default_factory=lambda: defaultdict[str, list[WorkflowHandle[object, None]]](list)
    )
    """By key: the jobs whose activity waits at a gate."""
    looks: Counter[str] = field(default_factory=Counter[str])
    """Requests that only the bench itself has made, by kind."""

    async def start(self, job: Job, work: Work) -> WorkflowHandle[object, None]:
        """Start one job. A crowd is let in some at a time, as a client that minds its time-outs would."""
        async with self.door:
            handle = await self.client.start_workflow(
                job.workflow, work, id=f"bench-job-{uuid4()}", task_queue=job.task_queue
            )
        if work.gate:
            self.gated[work.key].append(handle)
        return handle

    async def run(self, job: Job, work: Work) -> float:
        """Run one job and return its seconds.

        Raises:
            TimeoutError: It does not end.
        """
        began = time.perf_counter()
        handle = await self.start(job, work)
        async with asyncio.timeout(_LONGEST):
            await handle.result()
        return time.perf_counter() - began

    async def run_all(self, job: Job, works: Sequence[Work], *, concurrency: int) -> list[float]:
        """Run jobs, so many at a time, and return the seconds of each."""
        slots = asyncio.Semaphore(concurrency)

        async def run(work: Work) -> float:
            async with slots:
                return await self.run(job, work)

        return await asyncio.gather(*(run(work) for work in works))

    def key(self, key: str) -> WorkflowHandle[object, None]:
        """Return the workflow of a key."""
        scoped = Keyspace(organization=ORGANIZATION, project=PROJECT).scoped(key, scope=Scope.PROJECT)
        return self.client.get_workflow_handle(scoped.format())

    async def executing(self, workflow: WorkflowHandle[object, None]) -> None:
        """Wait until an activity of a workflow runs.

        Raises:
            TimeoutError: It does not.
        """
        async with asyncio.timeout(_PATIENCE):
            while not await self._has_activity(workflow):  # noqa: ASYNC110 - it happens in the server
                await asyncio.sleep(_PAUSE)

    async def acquired(self, key: str) -> None:
        """Wait until a call has the key.

        Raises:
            TimeoutError: None does.
        """
        async with asyncio.timeout(_PATIENCE):
            while not await self._is_there(self.key(key)):  # noqa: ASYNC110 - it happens in the server
                await asyncio.sleep(_PAUSE)

    async def waited_for(self, key: str, *, callers: int) -> None:
        """Wait until so many callers wait for a key.

        Each job is asked until it waits, and not again: a crowd of callers is counted at little cost.

        Raises:
            TimeoutError: They do not.
        """
        asked, taken, waiting = deque[WorkflowHandle[object, None]](), 0, 0
        async with asyncio.timeout(_LONGEST):
            while waiting < callers:
                asked.extend(self.gated[key][taken:])
                taken = len(self.gated[key])
                if asked and await self._has_activity(asked[0], CLAIM):
                    asked.popleft()
                    waiting += 1
                else:
                    asked.rotate(-1)
                    await asyncio.sleep(_PAUSE)

    async def quiet(self, *, patience: float) -> None:
        """Wait until others leave the machine alone, but no longer than `patience` seconds."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            own, since = self.cpu(), machine()
            await asyncio.sleep(0.5)
            if others(self.cpu() - own, since) < _QUIET:
                return

    def cpu(self) -> float:
        """Return the CPU seconds that server, worker and this process have used."""
        return self.server.process.cpu() + self.worker.cpu() + own_cpu()

    async def joined(self, key: str) -> int:
        """Count the jobs of a key whose call has waited for the execution of another."""
        histories = await asyncio.gather(*map(events_of, self.gated[key]))
        return sum(any(map(_is_claim, events)) for events in histories)

    async def executions(self, key: str) -> int:
        """Count the executions of a key: each has a run of its workflow."""
        query = f"WorkflowId = '{self.key(key).id}'"
        return (await self.client.count_workflows(query)).count

    async def _described(self, workflow: WorkflowHandle[object, None]) -> DescribeWorkflowExecutionResponse:
        self.looks[LOOK] += 1
        return (await workflow.describe()).raw_description

    async def _has_activity(self, workflow: WorkflowHandle[object, None], name: str | None = None) -> bool:
        try:
            pending = (await self._described(workflow)).pending_activities
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return False
            raise
        return any(name in {None, activity.activity_type.name} for activity in pending)

    async def _is_there(self, workflow: WorkflowHandle[object, None]) -> bool:
        try:
            await self._described(workflow)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return False
            raise
        return True

    @asynccontextmanager
    async def another_worker(self, *arguments: str) -> AsyncGenerator[None]:
        """Run a worker process with options of its own until the block ends, and kill it then."""
        worker = await _start_worker(self.server, self.directory, *arguments)
        try:
            yield
        finally:
            await worker.kill()


@asynccontextmanager
async def bench(directory: Path, *, lifted: bool) -> AsyncGenerator[Bench]:
    """Run a server, with its database in a directory, and a worker process until the block ends."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(dev_server(directory, lifted=lifted))
        worker = await _start_worker(server, directory)
        stack.push_async_callback(worker.stop)
        yield Bench(server=server, worker=worker, client=await server.connect(), directory=directory)


async def events_of(handle: WorkflowHandle[object, None]) -> list[HistoryEvent]:
    """Return the events of a workflow's current run."""
    return [event async for event in handle.fetch_history_events()]


def _is_claim(event: HistoryEvent) -> bool:
    return event.activity_task_scheduled_event_attributes.activity_type.name == CLAIM


def own_cpu() -> float:
    """Return the CPU seconds that this process has used."""
    used = os.times()
    return used.user + used.system


async def _start_worker(server: DevServer, directory: Path, *arguments: str) -> Running:
    return await start_worker("benchmarks.worker", server.address, *arguments, log=directory / "worker.log")
