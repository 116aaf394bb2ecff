"""The clock: the time of the time-skipping server (V1), moved by one hand.

That server counts locks of its time, and skips to whatever comes next as soon as the count is zero, be it the
time-out of a job that has ended, ten years from now. So the count is zero only while a job that the test
awaits has not ended: the first such job unlocks time, and the last one locks it, from inside its worker and
before the server learns of its end.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, cast

from temporalio import workflow
from temporalio.api.testservice.v1 import LockTimeSkippingRequest, UnlockTimeSkippingRequest
from temporalio.client import (
    Interceptor as ClientInterceptor,
)
from temporalio.client import (
    OutboundInterceptor,
    StartWorkflowInput,
    WorkflowHandle,
)
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import (
    ExecuteWorkflowInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)
from temporalio.worker import (
    Interceptor as WorkerInterceptor,
)

_ENDS = "dedupe.testing.ends"
"""Extern function of a job: it is about to end."""
_PATIENCE = 1.0
"""Seconds that a job waits for its end to be known: less than what the SDK takes for a deadlock."""


class Clock:
    """The time of one server."""

    def __init__(self, server: WorkflowEnvironment) -> None:
        """Take over the time of a server, which stands still as long as nobody is awaited."""
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._changing = asyncio.Lock()
        self._awaited: Counter[str] = Counter()
        """By workflow id: how often a job is awaited that has not ended."""
        self._over: set[str] = set()
        """The workflow ids of jobs that have ended, or are about to."""
        self._moves = False

    async def now(self) -> datetime:
        """Return the server's time."""
        return await self._server.get_current_time()

    async def sleep(self, duration: timedelta) -> None:
        """Move time on.

        Raises:
            RuntimeError: A job is awaited, and moves time itself.
        """
        async with self._changing:
            if self._awaited:
                jobs = ", ".join(sorted(self._awaited))
                message = f"time moves by itself while a job is awaited ({jobs}): sleep before, or after"
                raise RuntimeError(message)
            await self._server.sleep(duration)

    @asynccontextmanager
    async def awaited(self, job: str) -> AsyncGenerator[None]:
        """Let time move by what a job waits for, until it ends."""
        async with self._changing:
            self._awaited[job] += 1
            if job in self._over:
                del self._awaited[job]
            await self._move()
        try:
            yield
        finally:
            await asyncio.shield(self._left(job))

    async def _left(self, job: str) -> None:
        """One that awaited a job does so no more."""
        async with self._changing:
            if job in self._awaited:
                self._awaited[job] -= 1
                self._awaited = +self._awaited
            await self._move()

    async def _ended(self, job: str) -> None:
        async with self._changing:
            self._awaited.pop(job, None)
            await self._move()

    async def _move(self) -> None:
        """Let time move, or stand still."""
        moves = bool(self._awaited)
        if moves and not self._moves:
            await self._service.unlock_time_skipping(UnlockTimeSkippingRequest())
        elif self._moves and not moves:
            await self._service.lock_time_skipping(LockTimeSkippingRequest())
        self._moves = moves

    def begins(self, job: str) -> None:
        """Take notice that a job is about to begin; another one of that id may have ended before."""
        self._over.discard(job)

    def ends(self, job: str) -> None:
        """Lock time for a job that is about to end. Called by a workflow task, in a thread of its own."""
        self._over.add(job)  # first: whoever awaits it from now on sees that
        if job in self._awaited:
            asyncio.run_coroutine_threadsafe(self._ended(job), self._loop).result(_PATIENCE)

    @property
    def _service(self) -> Any:
        return self._server.client.test_service


class ClockInterceptor(ClientInterceptor, WorkerInterceptor):
    """Lets time move while a job is awaited through its client, and locks it before the job ends.

    For a client; the workers of the jobs have it from there.
    """

    def __init__(self, clock: Clock) -> None:
        """Use a clock."""
        self._clock = clock

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        """See base class."""
        return _Outbound(next, self._clock)

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """See base class."""
        input.unsafe_extern_functions[_ENDS] = self._clock.ends
        return _Inbound


class _Outbound(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, clock: Clock) -> None:
        super().__init__(next)
        self._clock = clock

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        self._clock.begins(input.id)
        handle = await super().start_workflow(input)
        handle.__class__ = _Handle
        started = cast("_Handle", handle)
        started.clock = self._clock
        return started


class _Handle(WorkflowHandle[Any, Any]):
    clock: Clock | None = None

    async def result(self, **options: Any) -> Any:
        if self.clock is None:
            return await super().result(**options)
        async with self.clock.awaited(self.id):
            return await super().result(**options)


class _Inbound(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        try:
            result = await super().execute_workflow(input)
        except workflow.ContinueAsNewError:
            raise
        except Exception:
            if workflow.info().retry_policy is None:  # otherwise another run may follow, after a while
                _ends()
            raise
        _ends()
        return result


def _ends() -> None:
    ends = cast("Callable[[str], None]", workflow.extern_functions()[_ENDS])
    with workflow.unsafe.sandbox_unrestricted():
        ends(workflow.info().workflow_id)
