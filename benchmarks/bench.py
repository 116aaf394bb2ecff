"""The bench: a server, a worker process, and the client that drives them, each in a process of its own."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from benchmarks.dev_server import DevServer, dev_server
from benchmarks.processes import Running, machine, others, start_worker
from benchmarks.work import BY_HAND_QUEUE, DEDUPED_QUEUE, PLAIN_QUEUE, Work
from benchmarks.worker import ORGANIZATION, PROJECT
from dedupe.keys import Keyspace, Scope
from dedupe.messages import ATTACH, Attach, Start, Waiter, decode

_PATIENCE = 120.0
_LONGEST = 600.0
"""Seconds after which a job, or a crowd of callers, is taken to be stuck."""
_PAUSE = 0.02
_STARTS = 100
"""Requests to start a job that are under way at once."""
_QUIET = 0.3
"""Cores that others may use on a quiet machine."""


Caller = tuple[str, str, str]
"""A call that waits for a key: workflow id and run id of its job, and the id of its claim."""


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

    async def start(self, job: Job, work: Work) -> WorkflowHandle[object, None]:
        """Start one job. A crowd is let in some at a time, as a client that minds its time-outs would."""
        async with self.door:
            return await self.client.start_workflow(
                job.workflow, work, id=f"bench-job-{uuid4()}", task_queue=job.task_queue
            )

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
            while not await _is_executing(workflow):  # noqa: ASYNC110 - it happens in the server
                await asyncio.sleep(_PAUSE)

    async def at_rest(self, workflow: WorkflowHandle[object, None], *, after: int) -> None:
        """Wait until a workflow has more events than so many, and nothing more to do with them.

        Raises:
            TimeoutError: It does not come to rest.
        """
        async with asyncio.timeout(_PATIENCE):
            while True:
                described = (await workflow.describe()).raw_description
                longer = described.workflow_execution_info.history_length > after
                if longer and not described.HasField("pending_workflow_task"):
                    return
                await asyncio.sleep(_PAUSE)

    async def attached(self, key: str, *, callers: int) -> None:
        """Wait until so many callers wait for a key besides the one that began its execution.

        It follows the key's history as that grows, so that a crowd of callers is counted at little cost.

        Raises:
            TimeoutError: They do not.
        """
        owners, asked = set[Caller](), set[Caller]()
        async with asyncio.timeout(_LONGEST):
            history = self.key(key).fetch_history_events(wait_new_event=True)
            while len(asked - owners) < callers:
                await history.fetch_next_page()
                for event in history.current_page or ():
                    owners |= _owners(event)
                    asked |= _asked(event)
                await asyncio.sleep(_PAUSE * (1 + callers // 100))

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


def joiners(events: Iterable[HistoryEvent]) -> set[Caller]:
    """Return the calls that joined an execution, by a key's history. Whoever began it may ask again, too."""
    owners, asked = set[Caller](), set[Caller]()
    for event in events:
        owners |= _owners(event)
        asked |= _asked(event)
    return asked - owners


def own_cpu() -> float:
    """Return the CPU seconds that this process has used."""
    used = os.times()
    return used.user + used.system


def _owners(event: HistoryEvent) -> set[Caller]:
    """Return the call that began a key's execution, if this event says so."""
    if event.event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
        return set()
    start = decode(Start, event.workflow_execution_started_event_attributes.input.payloads[0])
    return set(map(_caller, start.waiters))


def _asked(event: HistoryEvent) -> set[Caller]:
    """Return the call that asks to be told of the end, if this event says so."""
    if event.event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
        return set()
    signal = event.workflow_execution_signaled_event_attributes
    return (
        {_caller(decode(Attach, signal.input.payloads[0]).waiter)} if signal.signal_name == ATTACH else set()
    )


def _caller(waiter: Waiter) -> Caller:
    return waiter.workflow_id, waiter.run_id, waiter.activity_id


async def _start_worker(server: DevServer, directory: Path, *arguments: str) -> Running:
    return await start_worker("benchmarks.worker", server.address, *arguments, log=directory / "worker.log")


async def _is_executing(workflow: WorkflowHandle[object, None]) -> bool:
    try:
        described = await workflow.describe()
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return False
        raise
    return bool(described.raw_description.pending_activities)
