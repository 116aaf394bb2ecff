"""Given: keys that a test sets up, as if jobs of another worker had called them before."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from dedupe.job.calls import execute_activity
from dedupe.model.keys import Scope
from dedupe.operate.keys import DedupeKeys
from dedupe.operate.view import KeyState

_JOB = "dedupe.testing.given"
_TASK_QUEUE = "dedupe-testing-given"
_AGES = timedelta(days=3_650)
_PAUSE = 0.01
"""Seconds between two looks at a key."""
_PATIENCE = 30.0
"""Seconds."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """A call that was made before the test."""

    key: str
    activity: str
    task_queue: str
    """Where the activity is scheduled, and nobody executes it until the test says how it ends."""
    scope: Scope
    ttl: float | None
    """Seconds: any converter takes them."""
    hold: bool


@workflow.defn(dynamic=True)
class GivenJob:
    """Makes the call, as a job of any type."""

    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> None:
        """Call the activity."""
        given: Given = workflow.payload_converter().from_payload(args[0].payload, Given)
        await execute_activity(
            given.activity,
            deduplication_key=given.key,
            deduplication_scope=given.scope,
            deduplication_ttl=None if given.ttl is None else timedelta(seconds=given.ttl),
            skip_failure=True,
            on_unknown="hold" if given.hold else "repeat",
            task_queue=given.task_queue,
            start_to_close_timeout=_AGES,
            retry_policy=RetryPolicy(maximum_attempts=1),
        )


class Givens:
    """The keys that one test has set up."""

    def __init__(self, client: Client, keys: DedupeKeys, workers: AsyncExitStack) -> None:
        """Begin with none.

        Args:
            client: With a plugin of the same keyspace, whose calls are not reported.
            keys: The keys of the environment.
            workers: Ends the worker of the jobs.
        """
        self._client = client
        self._keys = keys
        self._workers = workers
        self._runs = False
        self._executing: dict[tuple[str, Scope, str | None], Given] = {}
        self._jobs: dict[tuple[str, Scope, str | None], WorkflowHandle[Any, Any]] = {}

    @property
    def executing(self) -> list[str]:
        """The keys whose activities are yet to end. That server skips no time while an activity is open."""
        return [key for key, _, _ in self._executing]

    async def begin(
        self, key: str, *, activity: str, scope: Scope, job: str | None, ttl: timedelta | None, hold: bool
    ) -> None:
        """Have a job call the activity, and wait until it holds the key."""
        if not self._runs:
            self._runs = True
            await self._workers.enter_async_context(
                Worker(self._client, task_queue=_TASK_QUEUE, workflows=[GivenJob])
            )
        given = Given(
            key=key,
            activity=activity,
            task_queue=f"given-{uuid4()}",
            scope=scope,
            ttl=None if ttl is None else ttl.total_seconds(),
            hold=hold,
        )
        handle = await self._client.start_workflow(
            job or _JOB, given, id=f"given-{uuid4()}", task_queue=_TASK_QUEUE
        )
        await self._until(given, job, lambda state: state is KeyState.EXECUTING)
        self._executing[key, scope, job] = given
        self._jobs[key, scope, job] = handle

    async def finish(
        self, key: str, *, scope: Scope, job: str | None, result: Any, error: BaseException | None
    ) -> None:
        """Execute the activity, which ends as the test says.

        Raises:
            ValueError: No such key was given as executing.
        """
        given = self._executing.pop((key, scope, job), None)
        if given is None:
            message = f"deduplication key {key!r} was not given as executing"
            raise ValueError(message)

        @activity.defn(dynamic=True)
        async def end(args: Sequence[RawValue]) -> Any:
            del args
            if error is None:
                return result
            if isinstance(error, ApplicationError):
                raise error
            raise ApplicationError(str(error), type=type(error).__name__) from error

        async with Worker(self._client, task_queue=given.task_queue, activities=[end]):
            await self._until(given, job, lambda state: state is not KeyState.EXECUTING)
        if given.hold:  # it would be one of those who wait, and might execute
            await self._jobs.pop((key, scope, job)).terminate("it has set the key up")

    async def _until(self, given: Given, job: str | None, is_so: Callable[[KeyState | None], bool]) -> None:
        async with asyncio.timeout(_PATIENCE):
            while True:
                record = await self._keys.get(given.key, scope=given.scope, job=job)
                if is_so(None if record is None else record.state):
                    return
                await asyncio.sleep(_PAUSE)


@asynccontextmanager
async def givens(client: Client, keys: DedupeKeys) -> AsyncGenerator[Givens]:
    """Let a test set keys up, for as long as the block lasts."""
    async with AsyncExitStack() as workers:
        yield Givens(client, keys, workers)
