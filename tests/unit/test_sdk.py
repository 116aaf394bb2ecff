"""The SDK's inside, as `dedupe.sdk` relies on it: each of these tests fails when a new SDK is different."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.common import RawValue
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    Worker,
    WorkflowOutboundInterceptor,
)

from dedupe import sdk
from dedupe.execution.current import Execution
from dedupe.execution.twins import AsyncTwin, InProcess, Twin, name_of, twin_of

_SOON = timedelta(seconds=10)


@activity.defn(name="send")
async def send(to: str) -> str:
    """Send, asynchronously."""
    return to


@activity.defn
def charge(amount: int) -> int:
    """Charge, blocking."""
    return amount


@activity.defn(dynamic=True)
async def anything(arguments: Sequence[RawValue]) -> None:
    """Take any type."""
    del arguments


class Outer(ClientInterceptor, Interceptor):
    """An interceptor of the client."""


class Ours(Interceptor):
    """The interceptor that is to come first."""


def test_an_activity_has_a_definition() -> None:
    """The SDK leaves an activity's definition where this package looks for it."""
    definition = sdk.definition_of(send)
    assert definition is not None
    assert (definition.name, definition.is_async) == ("send", True)
    assert sdk.definition_of(object()) is None
    assert (sdk.name_of(send), sdk.name_of(charge), sdk.name_of("other")) == ("send", "charge", "other")


def test_a_twin_is_defined_as_its_original() -> None:
    """A twin is an activity to the SDK, of the same types, under a name of its own."""
    twin, blocking = twin_of(send), twin_of(charge)
    assert isinstance(twin, AsyncTwin)
    assert isinstance(blocking, Twin)
    definition: Any = sdk.definition_of(twin)
    assert dataclasses.replace(definition, name="send", fn=send) == sdk.definition_of(send)
    assert (definition.name, name_of(twin), name_of(blocking)) == ("dedupe:send", "send", "charge")
    assert twin_of(anything) is None
    assert twin_of(len) is None


def test_a_twin_can_be_pickled() -> None:
    """Process pools take a twin, and a function that is bound to its execution."""
    twin = twin_of(charge)
    assert twin is not None
    make, arguments = twin.__reduce__()
    assert make(*arguments).original is charge
    execution = Execution(key="order-7", generation=1, idempotency_key="k-1")
    bound = InProcess(charge, execution)
    make, arguments = bound.__reduce__()
    assert make(*arguments)(7) == 7


async def test_an_activity_interceptor_can_be_put_first(real_client: Client) -> None:
    """A worker holds the interceptors of its activities where this package reorders them."""
    config = real_client.config()
    config["interceptors"] = [Outer()]
    worker = Worker(
        Client(**config),
        task_queue=f"sdk-{uuid4()}",
        activities=[charge],
        activity_executor=ThreadPoolExecutor(1),
        interceptors=[Ours()],
    )
    inner: Any = worker
    assert [type(each) for each in inner._activity_worker._interceptors] == [Outer, Ours]
    sdk.put_outermost(worker, Ours)
    assert [type(each) for each in inner._activity_worker._interceptors] == [Ours, Outer]


async def test_a_running_activity_can_be_kept_from_being_cancelled(real_client: Client) -> None:
    """What cancels a running activity, and why, is found at the end of its interceptors."""
    found: list[sdk.Cancellation | None] = []

    class Inbound(ActivityInboundInterceptor):
        async def execute_activity(self, input: ExecuteActivityInput) -> Any:
            cancellation = sdk.cancellation_of(self)
            found.append(cancellation)
            assert cancellation is not None
            assert cancellation.details is None
            cancellation.cancel = cancellation.cancel
            return await self.next.execute_activity(input)

    class Finds(Interceptor):
        def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
            return Inbound(next)

    queue = f"sdk-{uuid4()}"
    async with Worker(
        real_client, task_queue=queue, workflows=[Sends], activities=[send], interceptors=[Finds()]
    ):
        sent = await real_client.execute_workflow(Sends.run, "you", id=queue, task_queue=queue)
    assert sent == "you"
    assert len(found) == 1
    assert found[0] is not None


@workflow.defn
class Sends:
    """Sends once, past all protection."""

    @workflow.run
    async def run(self, to: str) -> str:
        """See the class."""
        handle: workflow.ActivityHandle[str] = workflow.start_activity(
            "send", to, result_type=str, start_to_close_timeout=_SOON
        )
        if not sdk.is_scheduled(handle):
            return "the SDK's own handle is not recognized"
        sdk.silence(handle)
        return await handle


def test_an_interceptor_can_be_put_next_to_the_sdk() -> None:
    """Outbound interceptors are chained by an attribute that can be set."""

    class Last(WorkflowOutboundInterceptor):
        def __init__(self) -> None:
            pass  # as the SDK's own, it has no next

    class Wraps(WorkflowOutboundInterceptor):
        pass

    last = Last()
    first = WorkflowOutboundInterceptor(WorkflowOutboundInterceptor(last))
    assert sdk.innermost(first, Wraps) is first
    assert isinstance(first.next.next, Wraps)
    assert first.next.next.next is last


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"{}", b"\xff", b'{"traceparent": 7}', b'{"traceparent": "7"}']
)
def test_what_another_propagator_writes_is_no_trace(data: bytes) -> None:
    """It fails no call. `test_traces` has the SDK's own."""
    assert sdk.traceparent_in({"_tracer-data": Payload(data=data)}) is None
