"""One test's own part of a server: its names, its workers, its effects, its jobs."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowHistory,
)
from temporalio.exceptions import FailureError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Interceptor, Worker

from dedupe import DedupeKeys, DedupePlugin, KeyState, Scope
from dedupe.model.keys import Keyspace
from dedupe.model.names import CLAIM, PEEK, RECORD, TWIN
from dedupe.record.handle import KeyHandle
from tests.support.effects import Effects
from tests.support.histories import has_run, keys_of, markers, replay, scheduled, types
from tests.support.scripts import Call, Ended, OtherScript, Parents, Script
from tests.support.servers import with_plugins
from tests.support.waiting import LONG, until

PROJECT = "web"
_LONG_UNCACHED = timedelta(seconds=90)
"""`LONG` where no workflow is cached: there the SDK loses tasks with local activities, ten seconds each."""

_NO_ARGUMENT: Any = object()


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
    interceptors: list[Interceptor] = field(default_factory=list[Interceptor])
    """Of its workers, beside those of the client."""
    max_cached_workflows: int = 100
    project: str = PROJECT
    key_secret: str | None = None
    others: "list[Ground]" = field(default_factory=list)

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
        """Return another ground of the same organization, served by the same workflows of keys.

        It is closed, and replayed, with this one.
        """
        shared: dict[str, Any] = {"organization": self.organization, "key_queue": self.key_queue}
        ground = Ground.on(self.server, skips_time=self.skips_time, **{**shared, **settings})
        self.others.append(ground)
        return ground

    @property
    def _patience(self) -> timedelta:
        return LONG if self.max_cached_workflows else _LONG_UNCACHED

    @property
    def keys(self) -> DedupeKeys:
        """The keys of this ground."""
        return DedupeKeys(
            self.client,
            organization=self.organization,
            project=self.project,
            key_secret=self.key_secret,
        )

    async def state(self, key: str = "key") -> KeyState | None:
        """Return the state of a key; None where nothing is recorded."""
        record = await self.keys.get(key)
        return None if record is None else record.state

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

    def key_handle(self, key: str = "key") -> KeyHandle:
        """Return the handle through which a key is read and acquired."""
        return KeyHandle(client=self.server, key_id=self.key_id(key))

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
            "interceptors": self.interceptors,
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
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                ends: list[list[Ended]] = await handle.result()
        except WorkflowFailureError as error:
            if isinstance(error.cause, FailureError) and error.cause.failure is not None:
                error.add_note(error.cause.failure.stack_trace)
            raise
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

    def miss_of(self, activity: str = "effect") -> str:
        """Return the type of the activity that a call of a new key schedules in its job."""
        return CLAIM if self.skips_time else f"{TWIN}{activity}"

    async def assert_miss(
        self, job: int | WorkflowHandle[Any, Any] = -1, *, activity: str = "effect", fails: bool = False
    ) -> None:
        """Assert that the job's only call was one marker, and one activity: that is the miss of a new key.

        Where it fails in place, a second marker holds what the job has recorded.
        """
        history = await self.history(job)
        assert scheduled(history) == [self.miss_of(activity)]
        assert markers(history) == ([PEEK, RECORD] if fails and not self.skips_time else [PEEK])
        assert not set(types(history)) & {
            EventType.EVENT_TYPE_TIMER_STARTED,
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
            EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,
        }

    async def claiming(
        self, claims: int, job: int | WorkflowHandle[Any, Any] = -1, *, owner: bool = False
    ) -> None:
        """Wait until a job has so many claims open.

        Args:
            claims: How many.
            job: The job.
            owner: Whether the call that executes is one of them. It has no claim where it executes in place.
        """
        handle = self.jobs[job] if isinstance(job, int) else job
        least = claims - (owner and not self.skips_time)

        async def under_way() -> bool:
            pending = (await handle.describe()).raw_description.pending_activities
            return [each.activity_type.name for each in pending].count(CLAIM) >= least

        await until(under_way, what=f"{least} claims")

    async def ended(self, calls: int, job: WorkflowHandle[Any, Any]) -> None:
        """Wait until so many calls of a script have ended."""

        async def are_done() -> bool:
            done: int = await job.query(Script.done)
            return done >= calls

        await until(are_done, what=f"the end of {calls} calls")

    async def reached(self, state: KeyState, key: str = "key") -> None:
        """Wait until a key has come to this state."""

        async def is_there() -> bool:
            return await self.state(key) is state

        await until(is_there, what=f"the state {state} of {key!r}")

    async def closed(self, key: str = "key", *, run_id: str | None = None, within: timedelta = LONG) -> None:
        """Wait until a key's workflow has closed, or one run of it."""
        handle = self.server.get_workflow_handle(self.key_id(key), run_id=run_id)

        async def has_closed() -> bool:
            return (await handle.describe()).close_time is not None

        await until(has_closed, within=within, what=f"the end of {handle.id}")

    async def replay(self) -> int:
        """Replay the histories of all jobs and of all keys they named; return how many those are."""
        beside = sum([await other.replay() for other in self.others])
        jobs = [await job.fetch_history() for job in self.jobs]
        codec = self.client.data_converter.payload_codec
        keys: list[WorkflowHistory] = []
        for key_id in dict.fromkeys([key for history in jobs for key in await keys_of(history, codec)]):
            try:
                keys.append(await self.server.get_workflow_handle(key_id).fetch_history())
            except RPCError as error:
                if error.status != RPCStatusCode.NOT_FOUND:
                    raise
        known: dict[str, Any] = {"workflows": self.workflows, "client": self.client, "plugin": self.plugin}
        await replay(jobs, interceptors=self.interceptors, **known)
        await replay([key for key in keys if has_run(key)], **known)
        return len(jobs) + len(keys) + beside

    async def close(self) -> None:
        """End the jobs that are still open."""
        for job in self.jobs:
            if (await job.describe()).status == WorkflowExecutionStatus.RUNNING:
                await job.terminate("the test is over")
        for other in self.others:
            await other.close()


Grounds = Callable[..., Ground]
"""Makes grounds; what it takes are the settings of `Ground.on`."""
