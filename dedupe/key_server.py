"""The key server: the embedded worker on whose task queue the workflows of all keys live.

One per client and process, shared by all workers built from that client: it starts with the first of them and
stops after the last, so that what they wait for is served until they have drained.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.worker import (
    Interceptor,
    StartActivityInput,
    UnsandboxedWorkflowRunner,
    Worker,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from dedupe.key_workflow import CALLER_HEADERS, KeyWorkflow
from dedupe.settle import settle

_STICKY_TIMEOUT = timedelta(seconds=1)
"""How long a workflow task waits for the process that has the key's workflow cached. After `kill -9` of that
process the key's next step is late by this much."""


class KeyServer:
    """The embedded worker of one client, and who uses it."""

    def __init__(
        self,
        client: Client,
        *,
        task_queue: str,
        max_cached_keys: int,
        activities: Sequence[Callable[..., Any]],
    ) -> None:
        """Create it; it runs while somebody is `using` it."""
        self._worker = Worker(
            client,
            task_queue=task_queue,
            workflows=[KeyWorkflow],
            activities=[settle, *activities],
            interceptors=[CallerHeadersInterceptor()],
            # The workflow is ours and is proved deterministic by replay; a sandbox for each key would cost
            # each miss several milliseconds of CPU.
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_cached_workflows=max_cached_keys,
            sticky_queue_schedule_to_start_timeout=_STICKY_TIMEOUT,
        )
        self._users = 0
        self._running: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nobody uses it."""
        return self._users == 0

    @asynccontextmanager
    async def using(self) -> AsyncGenerator[None]:
        """Keep the worker running."""
        if self._running is None:
            self._running = asyncio.create_task(self._worker.run(), name="dedupe key server")
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if self._users == 0:
                await asyncio.shield(self._stop(self._running))

    async def run_beside(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """Run a worker of jobs until it ends. Should the embedded worker fail, stop it, and fail as well.

        Raises:
            RuntimeError: The embedded worker failed; the cause says why.
        """
        if self._running is None:
            message = "run_beside() outside of using()"
            raise RuntimeError(message)
        jobs = asyncio.ensure_future(next(worker))
        try:
            await asyncio.wait({jobs, self._running}, return_when=asyncio.FIRST_COMPLETED)
            if not jobs.done():
                await worker.shutdown()
        except asyncio.CancelledError:
            jobs.cancel()
            raise
        finally:
            await asyncio.wait({jobs})
        jobs.result()
        if self._running.done():
            self._running.result()

    async def _stop(self, running: asyncio.Task[None]) -> None:
        if not running.done():
            await self._worker.shutdown()
        await asyncio.wait({running})


class CallerHeadersInterceptor(Interceptor):
    """Gives the activity that a key's workflow executes the headers that the call came with."""

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """See base class."""
        del input
        return _KeyInbound


class _KeyInbound(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_KeyOutbound(outbound))


class _KeyOutbound(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        callers = {name: Payload.FromString(data) for name, data in CALLER_HEADERS.get().items()}
        input.headers = {**input.headers, **callers}
        return self.next.start_activity(input)
