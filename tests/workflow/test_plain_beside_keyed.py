"""The same job with `workflow.execute_activity` and with a new key: what a user sees has to be the same.

This is what the project means by "as an undeduplicated call would".
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import pytest
from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.client import (
    Client,
    OutboundInterceptor,
    StartWorkflowInput,
    WorkflowHandle,
)
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.common import RawValue, RetryPolicy
from temporalio.contrib.pydantic import PydanticPayloadConverter, pydantic_data_converter
from temporalio.converter import (
    ActivitySerializationContext,
    DataConverter,
    DefaultFailureConverter,
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor, Worker

import dedupe
from tests.support.ground import Ground
from tests.support.servers import with_plugins
from tests.support.waiting import until

SECONDS = timedelta(seconds=1)


class Order(BaseModel, frozen=True):
    """An argument that interceptors read."""

    tenant: str
    number: int = 7


class Ask(BaseModel, frozen=True):
    """What a job is to call, and whether with a key."""

    key: str | None
    activity: str
    arguments: list[Any] = []
    attempts: int = 1


class Told(BaseModel, frozen=True):
    """How a call ended, as its job sees it."""

    result: Any = None
    errors: list[tuple[str, str, str, str]] = []
    """From the outermost to the first cause: class, type, message and details."""


@workflow.defn
class Beside:
    """Makes one call, plain or with a key."""

    @workflow.run
    async def run(self, ask: Ask) -> Told:
        """Return how the call ended."""
        execute: Callable[..., Awaitable[Any]] = workflow.execute_activity
        if ask.key is not None:
            execute = functools.partial(dedupe.execute_activity, deduplication_key=ask.key)
        try:
            result = await execute(
                ask.activity,
                args=ask.arguments,
                start_to_close_timeout=10 * SECONDS,
                schedule_to_close_timeout=30 * SECONDS,
                retry_policy=RetryPolicy(initial_interval=0.1 * SECONDS, maximum_attempts=ask.attempts),
            )
        except FailureError as error:
            return Told(errors=_chain(error))
        return Told(result=result)


def _chain(error: BaseException | None) -> list[tuple[str, str, str, str]]:
    chain: list[tuple[str, str, str, str]] = []
    while error is not None:
        kind, details = (
            (error.type or "", str(error.details)) if isinstance(error, ApplicationError) else ("", "")
        )
        chain.append((type(error).__name__, kind, getattr(error, "message", str(error)), details))
        error = error.__cause__
    return chain


@dataclass
class Seen:
    """What the activities of a test saw."""

    of: list[Any] = field(default_factory=list[Any])

    @activity.defn(name="greet")
    async def greet(self, order: Order) -> str:
        """Return a greeting."""
        info = activity.info()
        self.of.append((order, info.attempt, info.activity_type, info.workflow_type))
        return f"hello {order.tenant}"

    @activity.defn(name="refuse")
    async def refuse(self, order: Order) -> str:
        """Fail."""
        self.of.append(activity.info().attempt)
        raise ApplicationError(f"not {order.tenant}", {"number": order.number}, type="Refused")

    @activity.defn(name="wait")
    async def wait(self, order: Order) -> str:
        """Wait for ever."""
        self.of.append(order.tenant)
        while True:
            activity.heartbeat()
            await asyncio.sleep(0.05)

    @activity.defn(name="later")
    async def later(self, order: Order) -> str:
        """Leave the result to somebody else."""
        self.of.append(order.tenant)
        activity.raise_complete_async()


@dataclass(kw_only=True)
class Bench:
    """A worker, and what the two calls of a test have in common."""

    ground: Ground
    client: Client
    """With the plugin, and what the test configures."""
    seen: Seen = field(default_factory=Seen)
    interceptors: Sequence[Interceptor] = ()

    async def start(self, ask: Ask) -> WorkflowHandle[Beside, Told]:
        """Start a job."""
        return await self.client.start_workflow(
            Beside.run, ask, id=f"beside-{uuid4()}", task_queue=self.ground.task_queue
        )

    async def both(self, name: str, *arguments: Any, attempts: int = 1) -> tuple[Told, Told, list[Any]]:
        """Call an activity plain and with a new key.

        Returns:
            How the plain call ended, how the keyed one did, and what the keyed one's activity saw, which
            is what the plain one's saw.
        """
        ask = Ask(key=None, activity=name, arguments=list(arguments), attempts=attempts)
        async with self.worker():
            plain = await (await self.start(ask)).result()
            by_plain, self.seen.of = self.seen.of, []
            with_key = ask.model_copy(update={"key": str(uuid4())})
            async with asyncio.timeout(20):
                keyed = await (await self.start(with_key)).result()
                assert self.seen.of == by_plain
                if not keyed.errors:
                    assert await (await self.start(with_key)).result() == keyed
                    assert self.seen.of == by_plain
        self.seen.of = []
        return plain, keyed, by_plain

    def worker(self) -> Worker:
        """Return a worker with all activities."""
        seen = self.seen
        return Worker(
            self.client,
            task_queue=self.ground.task_queue,
            workflows=[Beside],
            activities=[seen.greet, seen.refuse, seen.wait, seen.later],
            interceptors=self.interceptors,
        )


def bench(ground: Ground, *, interceptors: Sequence[Interceptor] = (), **client: Any) -> Bench:
    """Return a bench on a ground, whose client has further settings."""
    return Bench(
        ground=ground,
        client=with_plugins(ground.server, ground.plugin, **client),
        interceptors=interceptors,
    )


ORDER = Order(tenant="acme").model_dump()


async def test_a_result(real: Ground) -> None:
    """A call that works."""
    plain, keyed, seen = await bench(real).both("greet", ORDER)
    assert keyed == plain == Told(result="hello acme")
    assert seen == [(Order(tenant="acme"), 1, "greet", "Beside")]


@pytest.mark.parametrize("attempts", [1, 3])
async def test_a_failure(real: Ground, attempts: int) -> None:
    """A call that fails, after one attempt and after three."""
    plain, keyed, seen = await bench(real).both("refuse", ORDER, attempts=attempts)
    assert keyed == plain
    assert keyed.errors[-1] == ("ApplicationError", "Refused", "not acme", "({'number': 7},)")
    assert seen == list(range(1, attempts + 1))


async def test_a_stack_trace(real: Ground) -> None:
    """It shows no more frames of ours than that of an activity without a key does."""
    made = bench(real)
    async with made.worker():
        traces = [await _stack_trace(made, key) for key in (None, str(uuid4()))]
    plain, keyed = ([line for line in trace if line.startswith("  File")] for trace in traces)
    ours = Path(dedupe.__file__).parent.as_posix()
    assert [line for line in keyed if ours not in line] == [line for line in plain if ours not in line]
    assert len(keyed) <= len(plain)
    assert "in refuse" in keyed[-1]


async def _stack_trace(made: Bench, key: str | None) -> list[str]:
    """Return the lines of the stack trace of a call that fails."""
    job = await made.start(Ask(key=key, activity="refuse", arguments=[ORDER]))
    await job.result()
    history = await job.fetch_history()
    [failed] = [event for event in history.events if event.HasField("activity_task_failed_event_attributes")]
    return failed.activity_task_failed_event_attributes.failure.stack_trace.splitlines()


async def test_arguments_that_do_not_decode(real: Ground) -> None:
    """The one attempt that the call has fails, and not another of ours."""
    plain, keyed, seen = await bench(real).both("greet", {"tenant": ["no text"]})
    assert keyed.errors
    assert keyed.errors == plain.errors
    assert seen == []


async def test_an_activity_that_is_not_registered(real: Ground) -> None:
    """A name that nobody knows fails as it does without a key."""
    plain, keyed, _ = await bench(real).both("nobody", ORDER)
    assert [error[:2] for error in keyed.errors] == [error[:2] for error in plain.errors]


class _ReadsTenant(Interceptor):
    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _TenantInbound(next)


class _TenantInbound(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        assert input.args[0].tenant == "acme"
        return await self.next.execute_activity(input)


async def test_an_activity_interceptor_that_reads_the_arguments(real: Ground) -> None:
    """It sees the user's activities, and no others."""
    plain, keyed, _ = await bench(real, interceptors=[_ReadsTenant()]).both("greet", ORDER)
    assert keyed == plain == Told(result="hello acme")


class _Merging(PayloadCodec):
    """Puts all payloads of a message into one."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        merged = Payload(metadata={"encoding": b"binary/merged"})
        for payload in payloads:
            data = payload.SerializeToString()
            merged.data += len(data).to_bytes(4, "big") + data
        return [merged]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        found: list[Payload] = []
        for payload in payloads:
            if payload.metadata.get("encoding") != b"binary/merged":
                found.append(payload)
                continue
            data = payload.data
            while data:
                size = int.from_bytes(data[:4], "big")
                found.append(Payload.FromString(data[4 : 4 + size]))
                data = data[4 + size :]
        return found


async def test_a_codec_that_merges_payloads(real: Ground) -> None:
    """A codec may return fewer payloads than it was given."""
    converter = replace(real.server.data_converter, payload_codec=_Merging())
    plain, keyed, _ = await bench(real, data_converter=converter).both("greet", ORDER)
    assert keyed == plain == Told(result="hello acme")


async def test_an_operator_completes_the_pending_activity(real: Ground) -> None:
    """The job takes the operator's value, and so does the next call with the key."""
    tools = bench(real)
    async with tools.worker():
        key = str(uuid4())
        told: list[Told] = []
        for each in (None, key):
            job = await tools.start(Ask(key=each, activity="wait", arguments=[ORDER]))
            await until(lambda: _is_waiting(tools.seen), what="the activity")
            pending = await _pending(job)
            await real.client.get_async_activity_handle(
                workflow_id=job.id, run_id=job.result_run_id, activity_id=pending
            ).complete("by hand")
            told.append(await job.result())
            tools.seen.of.clear()
        again = await (await tools.start(Ask(key=key, activity="wait", arguments=[ORDER]))).result()
    assert told == [Told(result="by hand")] * 2
    assert again == Told(result="by hand")
    assert tools.seen.of == []


async def _is_waiting(seen: Seen) -> bool:
    return bool(seen.of)


async def _pending(job: WorkflowHandle[Any, Any]) -> str:
    described = (await job.describe()).raw_description
    [pending] = described.pending_activities
    return pending.activity_id


class _House(ClientInterceptor):
    """Gives each workflow that is started a time to live, and its id a prefix."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _HouseOutbound(next)


class _HouseOutbound(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        input.execution_timeout = 20 * SECONDS
        input.id = f"house-{input.id}"
        return await super().start_workflow(input)


async def test_a_client_interceptor_of_the_house(real: Ground) -> None:
    """What it does to workflows that are started, it does to jobs, and not to keys."""
    tools = bench(real)
    tools.client = with_plugins(real.server, real.plugin, interceptors=[_House()])
    plain, keyed, _ = await tools.both("greet", ORDER)
    assert keyed == plain == Told(result="hello acme")


@activity.defn
async def fail() -> str:
    """Fail."""
    raise ApplicationError("not acme", {"number": 7}, type="Refused")


@workflow.defn
class Returns:
    """Returns the failure that it skipped, by itself and inside of a list."""

    @workflow.run
    async def run(self) -> list[dedupe.FailedResult]:
        """See the class."""
        failed = await dedupe.execute_activity(
            fail,
            deduplication_key="returned",
            skip_failure=True,
            start_to_close_timeout=10 * SECONDS,
            retry_policy=RetryPolicy(maximum_attempts=1),
        )
        assert isinstance(failed, dedupe.FailedResult)
        assert failed.error.cause is not None
        return [failed, failed]


class _Refusing(PydanticPayloadConverter):
    """Refuses to encode some arguments, and says so to the job."""

    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        if "refused" in values:
            raise ApplicationError("this is not to leave the house", type="Secret", non_retryable=True)
        return super().to_payloads(values)


async def test_a_payload_converter_that_refuses(real: Ground) -> None:
    """Its error is the job's, whole."""
    converter = replace(DataConverter.default, payload_converter_class=_Refusing)
    plain, keyed, _ = await bench(real, data_converter=converter).both("greet", "refused")
    assert keyed == plain
    assert keyed.errors[-1] == ("ApplicationError", "Secret", "this is not to leave the house", "()")


class _Bound(PydanticPayloadConverter, WithSerializationContext):
    """Marks each payload with the workflow that it belongs to, and reads no other's."""

    def __init__(self, context: SerializationContext | None = None) -> None:
        super().__init__()
        self._context = context

    def with_context(self, context: SerializationContext) -> Self:
        return type(self)(context)

    @property
    def _workflow(self) -> bytes:
        if not isinstance(self._context, WorkflowSerializationContext | ActivitySerializationContext):
            raise TypeError(f"the context is {self._context}")
        return (self._context.workflow_id or "").encode()

    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        payloads = super().to_payloads(values)
        for value, payload in zip(values, payloads, strict=True):
            if not isinstance(value, RawValue):
                payload.metadata["workflow"] = self._workflow
        return payloads

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        for payload in payloads:
            bound = payload.metadata.get("workflow", self._workflow)
            assert bound == self._workflow, f"{bound!r} is read as {self._workflow!r}"
        return super().from_payloads(payloads, type_hints)


BOUND = replace(DataConverter.default, payload_converter_class=_Bound)


async def test_a_payload_converter_with_context(real: Ground) -> None:
    """Payloads are those of the job, with the job's own context, as without a key."""
    tools = bench(real, data_converter=BOUND)
    plain, keyed, _ = await tools.both("greet", ORDER)
    assert keyed == plain == Told(result="hello acme")
    plain, keyed, _ = await tools.both("refuse", ORDER)
    assert keyed == plain
    assert keyed.errors[-1] == ("ApplicationError", "Refused", "not acme", "({'number': 7},)")


class _BoundFailures(DefaultFailureConverter, WithSerializationContext):
    """Converts no failure without a context."""

    context: SerializationContext | None = None

    def with_context(self, context: SerializationContext) -> Self:
        bound = type(self)()
        bound.context = context
        return bound

    def to_failure(self, exception: BaseException, payload_converter: Any, failure: Failure) -> None:
        assert self.context is not None
        super().to_failure(exception, payload_converter, failure)

    def from_failure(self, failure: Failure, payload_converter: Any) -> BaseException:
        assert self.context is not None
        return super().from_failure(failure, payload_converter)


@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_failure_converter_with_context(real: Ground, attempts: int) -> None:
    """It is given one wherever a failure is converted."""
    converter = replace(pydantic_data_converter, failure_converter_class=_BoundFailures)
    plain, keyed, _ = await bench(real, data_converter=converter).both("refuse", ORDER, attempts=attempts)
    assert keyed == plain
    assert keyed.errors[-1] == ("ApplicationError", "Refused", "not acme", "({'number': 7},)")


@pytest.mark.parametrize("converter", [DataConverter.default, pydantic_data_converter, BOUND])
async def test_a_failed_result_travels(real: Ground, converter: DataConverter) -> None:
    """A job can return it, with any converter; its error comes back with type and message."""
    tools = bench(real, data_converter=converter)
    async with Worker(tools.client, task_queue=real.task_queue, workflows=[Returns], activities=[fail]):
        failed, again = await tools.client.execute_workflow(
            Returns.run, id=f"returns-{uuid4()}", task_queue=real.task_queue
        )
        reused, _ = await tools.client.execute_workflow(
            Returns.run, id=f"returns-{uuid4()}", task_queue=real.task_queue
        )
    assert failed == again
    assert reused == replace(failed, reused=True)
    assert (failed.key, failed.activity, failed.type) == ("returned", "fail", "Refused")
    assert (failed.message, failed.reused, failed.failed_at.tzinfo) == ("not acme", False, UTC)
    assert failed.error.activity_type == "fail"
    assert isinstance(failed.error.cause, ApplicationError)
    assert (failed.error.cause.type, failed.error.cause.message) == ("Refused", "not acme")
