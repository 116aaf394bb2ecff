"""The plugin: wiring only.

On a client it reaches every worker built from it, and `Replayer(plugins=[...])`. It adds to each worker the
interceptors, the activities that read for jobs and a twin of each activity, and runs beside it one embedded
worker on the task queue where the workflows of the keys live.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import timedelta
from typing import Literal, cast

from temporalio.client import Client, ClientConfig
from temporalio.converter import DataConverter
from temporalio.plugin import SimplePlugin
from temporalio.worker import ReplayerConfig, Worker, WorkerConfig, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from dedupe.claims.activities import JobActivities
from dedupe.execution.interceptor import ExecutionInterceptor
from dedupe.execution.twins import twins_of
from dedupe.execution.within import WithinInterceptor
from dedupe.job.interceptor import DedupeInterceptor
from dedupe.job.limits import LONGEST_TIME, is_name
from dedupe.job.steps import CallSettings
from dedupe.key.server import CallerHeadersInterceptor, KeyServer, serving
from dedupe.key.workflow import DelegatedKey, InPlaceKey
from dedupe.model.keys import Keyspace
from dedupe.reach.job import OrderedCall
from dedupe.record.search import missing
from dedupe.record.timeskipping import is_time_skipping
from dedupe.sdk import put_outermost
from dedupe.telemetry.answers import OnAnswer

DEFAULT_TASK_QUEUE = "dedupe"
DEFAULT_WAIT_SLICE = timedelta(minutes=1)
DEFAULT_CACHED_KEYS = 500
_DEFAULT_ACTIVITY_SLOTS = 100
"""The SDK's, of a worker that says nothing about it."""
_PART_THAT_FOLLOWS = 4
"""The part of a worker's activity slots that claims may hold while they wait."""


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
        in_place: bool = True,
        key_secret: bytes | str | None = None,
        wait_slice: timedelta = DEFAULT_WAIT_SLICE,
        max_cached_keys: int = DEFAULT_CACHED_KEYS,
        search_attributes: bool = False,
        on_mismatch: Literal["reuse", "raise"] = "reuse",
        on_answer: OnAnswer | None = None,
    ) -> None:
        """Configure deduplication.

        Args:
            organization: Who shares the keys of `Scope.ORGANIZATION`.
            project: Who shares the keys of `Scope.PROJECT`.
            task_queue: Where the workflows of all keys of the namespace live. Keys outlive job queues, so
                keep it. All workers that serve it need the same payload codec.
            serve: Whether each process also serves that task queue. If not, another process has to, for
                activities on other task queues than their job's and to end keys that have expired.
            in_place: Whether an activity on its job's own task queue is executed as an activity of the job.
                If not, the key's own workflow schedules it. All workers of a job have to agree.
            key_secret: Replaces keys by their HMAC-SHA256 under it, for keys that hold personal data:
                workflow ids are not covered by payload codecs. Another secret makes other keys.
            wait_slice: The longest a call waits in one attempt of its claim, before another worker may go on.
            max_cached_keys: How many workflows of keys each process keeps in memory.
            search_attributes: Whether keys have the search attributes DedupeKey, DedupeActivity and, once one
                failed or is held, DedupeState. `dedupe search-attributes --add` registers them.
            on_mismatch: What calls mean that do not say: see `CallOptions`. "raise" finds keys that are too
                short, in tests for example.
            on_answer: Called once for each call that was answered, as for an audit of one's own: in the job's
                workflow task, so it must return at once. What it raises is logged.

        Raises:
            InvalidKeyspaceError: Organization, project or secret is empty.
            ValueError: Another setting cannot be used.
        """
        super().__init__("dedupe.DedupePlugin")
        if not timedelta(0) < wait_slice <= LONGEST_TIME:
            raise ValueError(f"wait_slice is {wait_slice}, give a positive one below 100 years")
        if max_cached_keys < 0:
            raise ValueError(f"max_cached_keys is {max_cached_keys}, give 0 or more")
        if on_mismatch not in {"reuse", "raise"}:
            raise ValueError(f'on_mismatch is {on_mismatch!r}, give "reuse" or "raise"')
        if not is_name(task_queue):
            raise ValueError(f"task_queue is {task_queue!r:.80}, give a name that the service takes")
        self.keyspace = Keyspace(
            organization=organization,
            project=project,
            key_secret=key_secret.encode() if isinstance(key_secret, str) else key_secret,
        )
        self.task_queue = task_queue
        self._serve = serve
        self._in_place = in_place
        self._wait_slice = wait_slice
        self._max_cached_keys = max_cached_keys
        self._search_attributes = search_attributes
        self._on_mismatch = on_mismatch
        self._on_answer = on_answer

    def configure_client(self, config: ClientConfig) -> ClientConfig:
        """Have the client tell the jobs it starts within which executions it does."""
        config["interceptors"] = [*config.get("interceptors", []), WithinInterceptor()]
        return config

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """Add the interceptors, the activities that read and the twins to a worker that runs jobs.

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
        present = _added_to(config)
        if present is not None:
            present.require_same(self.keyspace, self.task_queue)
            return config
        client = config.get("client")
        if client is None:
            return config
        twins = twins_of(_activities(config)) if self._in_place else []
        added = JobActivities(
            client,
            plugin=self,
            keyspace=self.keyspace,
            task_queue=self.task_queue,
            twins=twins,
            most_following=_most_following(config),
            alone=not config.get("activities"),
        )
        if added.alone:
            config["no_remote_activities"] = True
        config["activities"] = [*config.get("activities", []), *twins, *added.all]
        grace = config.get("graceful_shutdown_timeout", timedelta())
        config["interceptors"] = [
            *config.get("interceptors", []),
            self._interceptor(
                client.data_converter,
                claim_task_queue=self.task_queue if config.get("no_remote_activities") else None,
            ),
            ExecutionInterceptor(client, task_queue=self.task_queue, grace=grace),
        ]
        if config.get("workflows"):
            config["workflows"] = [*config.get("workflows", []), OrderedCall]
        config["workflow_runner"] = passing_through(config.get("workflow_runner", SandboxedWorkflowRunner()))
        return config

    def configure_replayer(self, config: ReplayerConfig) -> ReplayerConfig:
        """Make the histories of jobs, and of keys, replayable."""
        converter = config.get("data_converter", DataConverter.default)
        config["workflows"] = [*config.get("workflows", []), InPlaceKey, DelegatedKey, OrderedCall]
        config["interceptors"] = [
            *config.get("interceptors", []),
            self._interceptor(converter, claim_task_queue=None),
            CallerHeadersInterceptor(),
        ]
        config["workflow_runner"] = passing_through(config.get("workflow_runner", SandboxedWorkflowRunner()))
        return config

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """Run the worker, and beside it the one that serves the keys.

        Raises:
            ValueError: Another plugin added activities after this one had seen none; or the namespace does
                not have the search attributes.
            Exception: The service could not be asked, or the worker that serves the keys failed.
        """
        added = _added_to(worker.config(active_config=True))
        if added is None or added.plugin is not self:
            await next(worker)
            return
        put_outermost(worker, ExecutionInterceptor)
        async with AsyncExitStack() as stack:
            try:
                _check_late_activities(worker, added)
                await self._use(added, worker.client)
                serving_keys = self._serving(worker.client, added)
                server = await stack.enter_async_context(serving_keys) if self._serve else None
            except BaseException:
                await _begin_and_end(worker, next)
                raise
            if server is None:
                await next(worker)
            else:
                await server.run_beside(worker, next)

    async def serve_keys(self, client: Client) -> None:
        """Serve the workflows of keys, and no jobs, until cancelled: for a process of its own.

        What it has begun is done when this returns. Where processes of jobs are not to serve keys beside
        them, they have `serve=False`, and one or more processes do this. They need no activities of jobs.

        Raises:
            ValueError: The namespace does not have the search attributes.
            Exception: The service could not be asked, or the worker failed.
        """
        added = JobActivities(
            client,
            plugin=self,
            keyspace=self.keyspace,
            task_queue=self.task_queue,
            twins=[],
            most_following=_DEFAULT_ACTIVITY_SLOTS // _PART_THAT_FOLLOWS,
            alone=True,
        )
        await self._use(added, client)
        async with self._serving(client, added) as server:
            await server.ended()

    async def _use(self, added: JobActivities, client: Client) -> None:
        """Take notice of what server it is.

        Raises:
            ValueError: It does not have the search attributes.
            RPCError: It could not be asked.
        """
        skips_time = await is_time_skipping(client)
        added.use(skips_time=skips_time)
        if self._search_attributes and not skips_time and (names := await missing(client)):
            raise ValueError(
                f"namespace {client.namespace!r} has no search attributes {', '.join(names)} of type "
                "Keyword: register them (`dedupe search-attributes --add`), or leave search_attributes out"
            )

    def _serving(self, client: Client, added: JobActivities) -> AbstractAsyncContextManager[KeyServer]:
        return serving(
            client,
            task_queue=self.task_queue,
            max_cached_keys=self._max_cached_keys,
            activities=[added.claim],
        )

    def _interceptor(self, converter: DataConverter, *, claim_task_queue: str | None) -> DedupeInterceptor:
        return DedupeInterceptor(
            CallSettings(
                keyspace=self.keyspace,
                wait_slice=self._wait_slice,
                failure_converter=converter.failure_converter,
                in_place=self._in_place and claim_task_queue is None,
                claim_task_queue=claim_task_queue,
                search_attributes=self._search_attributes,
                on_mismatch=self._on_mismatch,
                on_answer=self._on_answer,
            )
        )


def _serves_keys(config: WorkerConfig) -> bool:
    return DelegatedKey in config.get("workflows", [])


def _activities(config: WorkerConfig) -> Sequence[object]:
    return cast("Sequence[object]", config.get("activities", []))


def _added_to(config: WorkerConfig) -> JobActivities | None:
    """Return what a plugin added to a worker."""
    if _serves_keys(config):
        return None
    owners = (getattr(function, "__self__", None) for function in _activities(config))
    return next((owner for owner in owners if isinstance(owner, JobActivities)), None)


def _most_following(config: WorkerConfig) -> int:
    """Return how many claims of a worker may hold an activity slot while they wait."""
    if config.get("tuner") is not None:  # its slots are not known here
        return 1
    return (config.get("max_concurrent_activities") or _DEFAULT_ACTIVITY_SLOTS) // _PART_THAT_FOLLOWS


def _check_late_activities(worker: Worker, added: JobActivities) -> None:
    registered = _activities(worker.config(active_config=True))
    if added.alone and len(registered) > len(added.all):
        raise ValueError(
            "a plugin added activities after DedupePlugin, which saw none and had the worker poll for none: "
            "give them to the worker itself, or give it DedupePlugin after that plugin"
        )


async def _begin_and_end(worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
    """Let a worker that cannot run begin, and end at once: leaving its `async with` waits for its end."""
    await asyncio.gather(worker.shutdown(), next(worker), return_exceptions=True)


def passing_through(runner: WorkflowRunner) -> WorkflowRunner:
    """Let workflows use this package as it is: its classes are compared across the sandbox's border."""
    if not isinstance(runner, SandboxedWorkflowRunner):
        return runner
    return dataclasses.replace(runner, restrictions=runner.restrictions.with_passthrough_modules("dedupe"))
