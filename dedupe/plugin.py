"""The plugin: wiring only.

On a client it reaches every worker built from it, and `Replayer(plugins=[...])`. It adds to each worker the
interceptors, the peek and the claim, and runs beside it one embedded worker on the task queue where the
workflows of the keys live.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import timedelta
from typing import Any, cast

from temporalio import activity
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.converter import DataConverter
from temporalio.plugin import SimplePlugin
from temporalio.worker import (
    ReplayerConfig,
    Worker,
    WorkerConfig,
    WorkflowRunner,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from dedupe.claim import Claim, Claims
from dedupe.farewell import Farewell
from dedupe.interceptor import CallSettings, DedupeInterceptor
from dedupe.key_handle import KeyHandle
from dedupe.key_server import CallerHeadersInterceptor, KeyServer, serving
from dedupe.key_workflow import KeyWorkflow
from dedupe.keys import Keyspace
from dedupe.messages import CLAIM, PEEK, ClaimInput, Peek, decode
from dedupe.peek import Peeks
from dedupe.preparation import LONGEST_TIME, is_name
from dedupe.takeover import TakeoverInterceptor
from dedupe.timeskipping import claim_with_time_skipped, is_time_skipping

DEFAULT_TASK_QUEUE = "dedupe"
DEFAULT_WAIT_SLICE = timedelta(minutes=1)
DEFAULT_CACHED_KEYS = 500


class DedupePlugin(SimplePlugin):
    """Lets the jobs of a worker call activities with a deduplication key.

    `Client.connect(..., plugins=[DedupePlugin(organization="acme", project="web")])`. Give it to the client,
    or to each worker.
    """

    def __init__(
        self,
        *,
        organization: str,
        project: str,
        task_queue: str = DEFAULT_TASK_QUEUE,
        serve: bool = True,
        key_secret: bytes | str | None = None,
        wait_slice: timedelta = DEFAULT_WAIT_SLICE,
        max_cached_keys: int = DEFAULT_CACHED_KEYS,
    ) -> None:
        """Configure deduplication.

        Args:
            organization: Who shares the keys of `Scope.ORGANIZATION`.
            project: Who shares the keys of `Scope.PROJECT`.
            task_queue: Where the workflows of all keys of the namespace live. Keys outlive job queues, so
                keep it. All workers that serve it need the same payload codec.
            serve: Whether each process also serves that task queue. If not, another process has to.
            key_secret: Replaces keys by their HMAC-SHA256 under it, for keys that hold personal data:
                workflow ids are not covered by payload codecs. Another secret makes other keys.
            wait_slice: The longest a waiting call goes without looking for itself, should it never be told.
            max_cached_keys: How many workflows of keys each process keeps in memory.

        Raises:
            InvalidKeyspaceError: Organization, project or secret is empty.
            ValueError: Another setting is none that can be used.
        """
        super().__init__("dedupe.DedupePlugin")
        if not timedelta(0) < wait_slice <= LONGEST_TIME:
            raise ValueError(f"wait_slice is {wait_slice}, give a positive one below 100 years")
        if max_cached_keys < 0:
            raise ValueError(f"max_cached_keys is {max_cached_keys}, give 0 or more")
        if not is_name(task_queue):
            raise ValueError(f"task_queue is {task_queue!r:.80}, give a name that the service takes")
        self.keyspace = Keyspace(
            organization=organization,
            project=project,
            key_secret=key_secret.encode() if isinstance(key_secret, str) else key_secret,
        )
        self.task_queue = task_queue
        self._serve = serve
        self._wait_slice = wait_slice
        self._max_cached_keys = max_cached_keys

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """Add the interceptors, the peek and the claim to a worker that runs jobs.

        A worker without activities of its own polls for none: it would take those of others off its queue.

        Raises:
            ValueError: The worker's task queue is that of the keys, or it has another plugin with other keys.
        """
        if _serves_keys(config):
            return config
        if config.get("task_queue") == self.task_queue:
            raise ValueError(
                f"task queue {self.task_queue!r} is where the workflows of keys live: "
                "give the worker another, or DedupePlugin(task_queue=...)"
            )
        present = _job_activities(config)
        if present is not None:
            present.plugin.require_same(self)
            return config
        client = config.get("client")
        if client is None:
            return config
        activities = _JobActivities(self, client, alone=not config.get("activities"))
        if activities.alone:
            config["no_remote_activities"] = True
        config["activities"] = [*config.get("activities", []), *activities.both]
        config["interceptors"] = [
            *config.get("interceptors", []),
            self._interceptor(
                client.data_converter,
                claim_task_queue=self.task_queue if config.get("no_remote_activities") else None,
            ),
            TakeoverInterceptor(client),
            activities.farewell,
        ]
        config["workflow_runner"] = _passing_through(config.get("workflow_runner", SandboxedWorkflowRunner()))
        return config

    def require_same(self, other: "DedupePlugin") -> None:
        """Check that a worker which has this plugin may go without another.

        Raises:
            ValueError: The other one means other keys.
        """
        if (self.keyspace, self.task_queue) != (other.keyspace, other.task_queue):
            raise ValueError(
                "the worker and its client have different DedupePlugins: give one of them to either"
            )

    def configure_replayer(self, config: ReplayerConfig) -> ReplayerConfig:
        """Make the histories of jobs, and of keys, replayable."""
        converter = config.get("data_converter", DataConverter.default)
        config["workflows"] = [*config.get("workflows", []), KeyWorkflow]
        config["interceptors"] = [
            *config.get("interceptors", []),
            self._interceptor(converter, claim_task_queue=None),
            CallerHeadersInterceptor(),
        ]
        config["workflow_runner"] = _passing_through(config.get("workflow_runner", SandboxedWorkflowRunner()))
        return config

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """Run the worker, and beside it the one that serves the keys.

        Raises:
            ValueError: Another plugin added activities after this one had seen none.
            Exception: The service could not be asked, or the worker that serves the keys failed.
        """
        activities = _job_activities(worker.config(active_config=True))
        if activities is None or activities.plugin is not self:
            await next(worker)
            return
        async with AsyncExitStack() as stack:
            try:
                _check_late_activities(worker, activities)
                activities.skips_time = await is_time_skipping(worker.client)
                serving_keys = self._serving(worker.client, activities)
                server = await stack.enter_async_context(serving_keys) if self._serve else None
            except BaseException:
                await _begin_and_end(worker, next)
                raise
            if server is None:
                await next(worker)
            else:
                await server.run_beside(worker, next)
                await activities.farewell.say()

    async def serve_keys(self, client: Client) -> None:
        """Serve the workflows of keys, and no jobs, until cancelled: for a process of its own.

        What it has begun is done when this returns. Where processes of jobs are not to serve keys beside
        them, they have `serve=False`, and one or more processes do this. They need no activities of jobs.

        Raises:
            Exception: The service could not be asked, or the worker failed.
        """
        activities = _JobActivities(self, client, alone=True)
        activities.skips_time = await is_time_skipping(client)
        async with self._serving(client, activities) as server:
            await server.ended()

    def _serving(
        self, client: Client, activities: "_JobActivities"
    ) -> AbstractAsyncContextManager[KeyServer]:
        return serving(
            client,
            task_queue=self.task_queue,
            max_cached_keys=self._max_cached_keys,
            activities=[activities.claim],
        )

    def _interceptor(self, converter: DataConverter, *, claim_task_queue: str | None) -> DedupeInterceptor:
        return DedupeInterceptor(
            CallSettings(
                keyspace=self.keyspace,
                wait_slice=self._wait_slice,
                failure_converter=converter.failure_converter,
                claim_task_queue=claim_task_queue,
            )
        )


class _JobActivities:
    """Peek and claim as one worker registers them, and what it remembers of the activities of keys.

    On the time-skipping server peek and claim go another way.
    """

    def __init__(self, plugin: DedupePlugin, client: Client, *, alone: bool) -> None:
        self.plugin = plugin
        self.farewell = Farewell(client)
        self.alone = alone
        self.both: Sequence[Callable[..., Any]] = [self.peek, self.claim]
        self.skips_time = False
        self._peeks = Peeks()
        self._claims = Claims(task_queue=plugin.task_queue)

    @activity.defn(name=PEEK)
    async def peek(self, message: RawValue) -> RawValue:
        peek = decode(Peek, message.payload)
        key = KeyHandle(client=activity.client(), key_id=peek.question.key_id)
        run_id = activity.info().workflow_run_id or ""
        return await self._peeks.peek(peek, key, run_id=run_id, skips_time=self.skips_time)

    @activity.defn(name=CLAIM)
    async def claim(self, message: RawValue, arguments: RawValue) -> RawValue:
        received = decode(ClaimInput, message.payload)
        claim = Claim.of(received.question, received.plan, arguments.payload)
        if self.skips_time:
            return RawValue(await claim_with_time_skipped(claim, task_queue=self.plugin.task_queue))
        return RawValue(await self._claims.claim(claim, received.sighting))


def _serves_keys(config: WorkerConfig) -> bool:
    return KeyWorkflow in config.get("workflows", [])


def _activities(config: WorkerConfig) -> Sequence[object]:
    return cast("Sequence[object]", config.get("activities", []))


def _job_activities(config: WorkerConfig) -> _JobActivities | None:
    """Return what a plugin added to a worker."""
    if _serves_keys(config):
        return None
    owners = (getattr(function, "__self__", None) for function in _activities(config))
    return next((owner for owner in owners if isinstance(owner, _JobActivities)), None)


def _check_late_activities(worker: Worker, added: _JobActivities) -> None:
    registered = _activities(worker.config(active_config=True))
    if added.alone and len(registered) > len(added.both):
        raise ValueError(
            "a plugin added activities after DedupePlugin, which saw none and had the worker poll for none: "
            "give them to the worker itself, or give it DedupePlugin after that plugin"
        )


async def _begin_and_end(worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
    """Let a worker that cannot run begin, and end at once: leaving its `async with` waits for its end."""
    await asyncio.gather(worker.shutdown(), next(worker), return_exceptions=True)


def _passing_through(runner: WorkflowRunner) -> WorkflowRunner:
    """Let workflows use this package as it is: its classes are compared across the sandbox's border."""
    if not isinstance(runner, SandboxedWorkflowRunner):
        return runner
    return dataclasses.replace(runner, restrictions=runner.restrictions.with_passthrough_modules("dedupe"))
