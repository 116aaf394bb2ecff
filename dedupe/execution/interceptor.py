"""The activity interceptor: where a twin becomes an attempt of the user's own activity.

It is the outermost, so other interceptors see the user's arguments, headers and function, and what they make
of the result is what is recorded. They do not see the activities that read: those have none of the user's
arguments, and an interceptor that expects some would fail the call.
"""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import TracebackType
from typing import Any

from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from dedupe.execution.attempt import Attempt
from dedupe.execution.current import CURRENT, OUTSIDE, Execution
from dedupe.execution.shield import shielded
from dedupe.execution.sticky import unstick
from dedupe.execution.twins import InProcess, Twin
from dedupe.model.findings import encode_finding, is_finding
from dedupe.model.keys import ScopedKey
from dedupe.model.messages import Inquiry, Order, Owner, Start, earliest
from dedupe.model.names import CLAIM, MARK, NO_ANSWERS, PEEK, RECORD, TWIN
from dedupe.model.payloads import carry, decode, decode_within
from dedupe.record.handle import KeyHandle
from dedupe.sdk import cancellation_of


class ExecutionInterceptor(Interceptor):
    """Executes twins under their keys. All other activities of the user's pass untouched."""

    def __init__(self, client: Client, *, task_queue: str, grace: timedelta) -> None:
        """Create the interceptor for one worker.

        Args:
            client: The worker's: activities that block have none.
            task_queue: Where the workflows of keys live.
            grace: How long the worker, told to stop, leaves its activities be.
        """
        self.client = client
        self.task_queue = task_queue
        self.grace = grace

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """See base class."""
        return _Inbound(next, self)


class _Outbound(ActivityOutboundInterceptor):
    def info(self) -> activity.Info:
        info = self.next.info()
        return dataclasses.replace(
            info,
            activity_type=info.activity_type.removeprefix(TWIN),
            retry_policy=None if info.retry_policy is None else _as_called(info.retry_policy),
        )


def _as_called(policy: RetryPolicy) -> RetryPolicy:
    """Return a retry policy without what is added to it where unknown outcomes are held."""
    types = [*(policy.non_retryable_error_types or ())]
    if types[-len(NO_ANSWERS) :] != [*NO_ANSWERS]:
        return policy
    return dataclasses.replace(policy, non_retryable_error_types=types[: -len(NO_ANSWERS)] or None)


def _from_activity(traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback without our frames above the user's: of a failure the service keeps 4 KB."""
    below = traceback
    while below is not None and below.tb_frame.f_globals.get("__name__", "").startswith("dedupe."):
        below = below.tb_next
    return below or traceback


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, worker: ExecutionInterceptor) -> None:
        super().__init__(next)
        self._worker = worker
        self._info = activity.info()
        self._is_twin = self._info.activity_type.startswith(TWIN)

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        super().init(_Outbound(outbound) if self._is_twin else outbound)

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        if self._info.activity_type in {PEEK, CLAIM, RECORD}:
            return await input.fn(*input.args)
        within = decode_within(input.headers)
        OUTSIDE.set(within)
        if not self._is_twin:
            inquiry = input.headers.get(MARK)
            return await (
                self.next.execute_activity(input) if inquiry is None else self._reconcile(input, inquiry)
            )
        if self._info.attempt > 1:
            await unstick(self._worker.client, self._info)
        order = await self._order(input)
        attempt = self._attempt(order, within)

        async def effect(start: Start) -> Any:
            return await self._within(
                input,
                attempt.key,
                Execution(
                    key=ScopedKey.parse(order.key_id).key,
                    generation=start.generation,
                    idempotency_key=start.idempotency_key,
                ),
            )

        try:
            payload = await attempt.run(effect, encode=attempt.key.encode_result)
        except BaseException as error:
            error.__traceback__ = _from_activity(error.__traceback__)
            raise
        return carry([payload], self._worker.client.data_converter.payload_converter)

    async def _reconcile(self, input: ExecuteActivityInput, header: Payload) -> RawValue:
        """Run an activity that finds out what became of an execution, and return what it found.

        Raises:
            ApplicationError: It returned something else.
        """
        input.headers = {name: value for name, value in input.headers.items() if name != MARK}
        inquiry = decode(Inquiry, await self._unsealed(header))
        key = KeyHandle(client=self._worker.client, key_id=inquiry.key_id)
        finding = await self._within(
            input,
            key,
            Execution(
                key=ScopedKey.parse(inquiry.key_id).key,
                generation=inquiry.generation,
                idempotency_key=inquiry.idempotency_key,
            ),
        )
        if not is_finding(finding):
            raise ApplicationError(
                f"activity {self._info.activity_type!r}, which is to reconcile a deduplication key, returned "
                f"{finding!r:.80}: it has to return Happened(result), DidNotHappen() or StillUnknown()",
                non_retryable=True,
            )
        payload = encode_finding(finding, encode=key.encode_result)
        return carry([payload], self._worker.client.data_converter.payload_converter)

    async def _order(self, input: ExecuteActivityInput) -> Order:
        """Take the order out of the headers.

        Raises:
            ApplicationError: There is none: somebody scheduled the twin by hand.
        """
        headers = dict(input.headers)
        payload = headers.pop(MARK, None)
        input.headers = headers
        if payload is None:
            raise ApplicationError(
                f"{self._info.activity_type!r} is executed by calls with a deduplication key only. "
                "Nothing was executed",
                non_retryable=True,
            )
        return decode(Order, await self._unsealed(payload))

    async def _unsealed(self, header: Payload) -> Payload:
        """Return a header of ours: headers may pass the payload codec, and come to activities as they are."""
        if MARK in header.metadata:
            return header
        [value] = await self._worker.client.data_converter.decode([header], [RawValue])
        payload: Payload = value.payload
        return payload

    def _attempt(self, order: Order, within: frozenset[str]) -> Attempt:
        info = self._info
        return Attempt(
            key=KeyHandle(client=self._worker.client, key_id=order.key_id),
            question=order.question(
                info.activity_type.removeprefix(TWIN), called_at=info.scheduled_time, within=within
            ),
            ttl=order.ttl,
            waited_for=order.waited_for,
            owner=Owner(
                workflow_id=info.workflow_id or "",
                run_id=info.workflow_run_id or "",
                activity_id=info.activity_id,
                workflow_type=info.workflow_type or "",
                task_queue=info.task_queue,
                longest_attempt=info.start_to_close_timeout or info.schedule_to_close_timeout,
            ),
            number=info.attempt,
            asked_at=earliest(order.asked_at, info.scheduled_time),
            now=info.current_attempt_scheduled_time,
            started_at=info.started_time,
            task_queue=self._worker.task_queue,
        )

    async def _within(self, input: ExecuteActivityInput, key: KeyHandle, execution: Execution) -> Any:
        """Run an activity of the user's within an execution."""
        if isinstance(input.fn, Twin):
            input.fn = input.fn.original
        if not isinstance(input.executor, ThreadPoolExecutor | None):
            # Context variables do not reach it: it may run the function in another process.
            input.fn = InProcess(input.fn, execution)
        token = CURRENT.set(execution)
        try:
            with shielded(cancellation_of(self), key, grace=self._worker.grace):
                return await self.next.execute_activity(input)
        finally:
            CURRENT.reset(token)
