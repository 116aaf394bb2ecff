"""The key server: the embedded worker on whose task queue the workflows of all keys live.

It executes what is delegated, and ends keys whose records have expired. Keys that are executed in place do
without. One per client and process, shared by all workers built from that client: it starts with the first of
them and stops after the last, so that what they wait for is served until they have drained.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.service import ServiceClient
from temporalio.worker import (
    Interceptor,
    StartActivityInput,
    UnsandboxedWorkflowRunner,
    Worker,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from dedupe.key.workflow import CALLER_HEADERS, DelegatedKey, InPlaceKey
from dedupe.sdk import innermost

_STICKY_TIMEOUT = timedelta(milliseconds=500)
"""How long a workflow task waits for the process that has the key's workflow cached. After `kill -9` of that
process the key's next step is late by this much."""


@asynccontextmanager
async def serving(
    client: Client, *, task_queue: str, max_cached_keys: int, activities: Sequence[Callable[..., Any]]
) -> AsyncGenerator["KeyServer"]:
    """Keep the keys of a client's namespace served: by the server that runs already, or a new one.

    Raises:
        ValueError: The one that runs already has another data converter.
    """
    places = _SLOTS.setdefault(asyncio.get_running_loop(), WeakKeyDictionary())
    slots = places.setdefault(client.service_client, {})
    slot = slots.setdefault((client.namespace, task_queue), _Slot())
    async with slot.changing:
        if slot.server is None or slot.server.has_ended:
            slot.server = KeyServer(
                client, task_queue=task_queue, max_cached_keys=max_cached_keys, activities=activities
            )
        if not slot.server.reads_as(client.data_converter):
            raise ValueError(
                f"this process serves task queue {task_queue!r} for a client with another data converter, "
                "which cannot read this one's keys: give both the same, or DedupePlugin(task_queue=...)"
            )
        slot.users += 1
        server = slot.server
    try:
        yield server
    finally:
        await asyncio.shield(slot.leave())


class KeyServer:
    """The embedded worker, running."""

    def __init__(
        self,
        client: Client,
        *,
        task_queue: str,
        max_cached_keys: int,
        activities: Sequence[Callable[..., Any]],
    ) -> None:
        """Start it."""
        self._converter = client.data_converter
        self._worker = Worker(
            client,
            task_queue=task_queue,
            workflows=[InPlaceKey, DelegatedKey],
            activities=activities,
            interceptors=[CallerHeadersInterceptor()],
            # The workflow is ours and is proved deterministic by replay; a sandbox for each key would cost
            # each miss several milliseconds of CPU.
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_cached_workflows=max_cached_keys,
            sticky_queue_schedule_to_start_timeout=_STICKY_TIMEOUT,
        )
        self._running = asyncio.create_task(self._worker.run(), name="dedupe key server")

    def reads_as(self, converter: DataConverter) -> bool:
        """Return whether this reads what another converter writes, as far as their types can tell."""
        mine, other = self._converter, converter
        return (mine.payload_converter_class, mine.failure_converter_class, type(mine.payload_codec)) == (
            other.payload_converter_class,
            other.failure_converter_class,
            type(other.payload_codec),
        )

    async def run_beside(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """Run a worker of jobs until it ends. Should the embedded worker fail, stop it, and fail as well.

        Raises:
            Exception: What the embedded worker failed of.
        """
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

    @property
    def has_ended(self) -> bool:
        """Whether it serves no longer: it failed, while workers that use it still drain."""
        return self._running.done()

    async def ended(self) -> None:
        """Wait until the embedded worker ends.

        Raises:
            Exception: What it failed of.
        """
        await asyncio.wait({self._running})
        self._running.result()

    async def stop(self) -> None:
        """Drain and end. Does not raise what it failed of: `run_beside` does."""
        if not self._running.done():
            await self._worker.shutdown()
        await asyncio.wait({self._running})


class _Slot:
    """Where the server of one namespace and task queue is, and how many use it."""

    def __init__(self) -> None:
        self.changing = asyncio.Lock()
        self.server: KeyServer | None = None
        self.users = 0

    async def leave(self) -> None:
        """Stop the server after its last user. Whoever comes meanwhile waits, and gets a new one."""
        async with self.changing:
            self.users -= 1
            if self.users == 0 and self.server is not None:
                server, self.server = self.server, None
                await server.stop()


# The one state of a module: the SDK takes only one worker per client and task queue, whoever asks for it.
_SLOTS: WeakKeyDictionary[
    asyncio.AbstractEventLoop, WeakKeyDictionary[ServiceClient, dict[tuple[str, str], _Slot]]
] = WeakKeyDictionary()


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
        super().init(innermost(outbound, _KeyOutbound))


class _KeyOutbound(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        callers = {name: Payload.FromString(data) for name, data in CALLER_HEADERS.get().items()}
        input.headers = {**input.headers, **callers}
        return self.next.start_activity(input)
