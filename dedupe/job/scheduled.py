"""What a call schedules: the activities of its steps, with the options that the call gave.

Everything here is a function of the call and of what it was told to do next.
"""

import dataclasses
from datetime import timedelta

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue, RetryPolicy
from temporalio.worker import StartActivityInput, StartLocalActivityInput

from dedupe.job.request import Call
from dedupe.model.messages import Claim, Execute, Inquiry, Message, Order, Reconcile, Settle, Wait
from dedupe.model.names import CLAIM, MARK, NO_ANSWERS, RECORD, TOO_LARGE, TWIN
from dedupe.model.outcome import timed
from dedupe.model.payloads import encode, pack_with

_CLAIM_HEARTBEAT = timedelta(seconds=3)
_RECORD_TIMEOUT = timedelta(seconds=20)
"""Of one attempt."""
_RECORD_ATTEMPTS = 15
"""A bound on their number, since the SDK (1.35) begins a further attempt of a local activity that timed out
however long the whole may take."""
_OVERHEAD = 600
"""Bytes, about, that an activity of ours takes in a message beside its arguments."""
_OVER = timedelta(milliseconds=1)
"""What is left of a call that is over: its next activity times out as the call would."""


def size_of(call: Call, *, arguments: bool = True) -> int:
    """Return how many bytes, about, an activity of a call takes in the message of a workflow task."""
    return _OVERHEAD + (sum(payload.ByteSize() for payload in call.payloads) if arguments else 0)


def twin(call: Call, execute: Execute, *, activity_id: str) -> StartActivityInput:
    """Return the twin of the call's activity, which executes in place."""
    return dataclasses.replace(
        call.input,
        activity=f"{TWIN}{call.question.activity}",
        args=call.arguments,
        activity_id=activity_id,
        headers={
            **call.input.headers,
            MARK: _header(Order.to_execute(call.question, execute, ttl=call.ttl), b"order"),
        },
        schedule_to_close_timeout=_remaining(call, first=execute.asked_at is None),
        # The key is not this call's alone: what executes runs on, and is recorded.
        cancellation_type=workflow.ActivityCancellationType.ABANDON,
        summary=call.summary,
        retry_policy=_retry_policy(call),
        ret_type=RawValue,
    )


def inquiry(call: Call, held: Reconcile, *, activity_id: str) -> StartActivityInput:
    """Return the activity that finds out what became of a held execution."""
    asked = Inquiry(
        key_id=call.question.key_id, idempotency_key=held.idempotency_key, generation=held.generation
    )
    return dataclasses.replace(
        call.input,
        activity=call.reconcile or "",
        args=call.arguments,
        activity_id=activity_id,
        task_queue=None,
        headers={**call.input.headers, MARK: _header(asked, b"inquiry")},
        schedule_to_close_timeout=_remaining(call, first=False),
        summary=call.summary,
        ret_type=RawValue,
    )


def claim(
    call: Call,
    wait: Wait,
    *,
    activity_id: str,
    is_delegated: bool,
    task_queue: str | None,
    wait_slice: timedelta,
) -> StartActivityInput:
    """Return the claim that waits for the outcome, and begins the execution where it is delegated."""
    given = call.input
    message = Claim(
        question=call.question,
        plan=call.plan if is_delegated else None,
        ttl=call.ttl,
        asked_at=wait.asked_at,
        waited_for=wait.run_id,
        reconcile_at=wait.reconcile_at,
    )
    return StartActivityInput(
        activity=CLAIM,
        args=[pack_with(message, call.packed.payload) if is_delegated else encode(message)],
        activity_id=activity_id,
        task_queue=task_queue,
        schedule_to_close_timeout=_remaining(call, first=wait.asked_at is None),
        schedule_to_start_timeout=None,
        start_to_close_timeout=wait_slice,
        heartbeat_timeout=min(_CLAIM_HEARTBEAT, wait_slice),
        retry_policy=RetryPolicy(
            initial_interval=timedelta(milliseconds=100),
            maximum_interval=timedelta(seconds=10),
            non_retryable_error_types=[TOO_LARGE],
        ),
        cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
        headers=given.headers,
        disable_eager_execution=given.disable_eager_execution,
        versioning_intent=given.versioning_intent,
        summary=call.summary,
        event_groups=given.event_groups,
        priority=given.priority,
        arg_types=None,
        ret_type=RawValue,
    )


def record(call: Call, settle: Settle, outcome: Payload) -> StartLocalActivityInput:
    """Return the local activity that records an end which the job has learned of."""
    at = workflow.now() if call.ttl is not None else None
    return StartLocalActivityInput(
        activity=RECORD,
        args=[pack_with(settle, timed(outcome, at))],
        activity_id=None,
        schedule_to_close_timeout=None,
        schedule_to_start_timeout=None,
        start_to_close_timeout=_RECORD_TIMEOUT,
        retry_policy=RetryPolicy(
            initial_interval=timedelta(milliseconds=100),
            maximum_interval=timedelta(seconds=10),
            maximum_attempts=_RECORD_ATTEMPTS,
        ),
        local_retry_threshold=None,
        cancellation_type=workflow.ActivityCancellationType.ABANDON,
        headers={},
        summary=None,
        arg_types=None,
        ret_type=RawValue,
    )


def _header(message: Message, kind: bytes) -> Payload:
    header = encode(message).payload
    header.metadata[MARK] = kind
    return header


def _remaining(call: Call, *, first: bool) -> timedelta | None:
    """Return how long the call may still take; all of it for its first activity."""
    whole = call.input.schedule_to_close_timeout
    if whole is None or first:
        return whole
    return max(whole - (workflow.now() - call.question.called_at), _OVER)


def _retry_policy(call: Call) -> RetryPolicy | None:
    """Return the call's retry policy; where unknown outcomes are held, without retries of attempts that ended
    without an answer: the attempt that follows one would find the same, later.
    """
    policy = call.input.retry_policy
    if not call.question.hold:
        return policy
    policy = policy or RetryPolicy()
    return dataclasses.replace(
        policy, non_retryable_error_types=[*(policy.non_retryable_error_types or ()), *NO_ANSWERS]
    )
