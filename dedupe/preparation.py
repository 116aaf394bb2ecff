"""Preparation: a call as a job wrote it becomes one that can be sent.

What would otherwise fail a workflow task for ever (options the service refuses, arguments that cannot be
encoded) fails the call here, before anything is scheduled.
"""

from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow
from temporalio.api.common.v1 import RetryPolicy as RetryPolicyProto
from temporalio.common import Priority, RawValue
from temporalio.worker import StartActivityInput

from dedupe.calls import Deduplication
from dedupe.errors import InvalidCallError
from dedupe.keys import fingerprint
from dedupe.messages import Plan, Question, pack

_LONGEST_SUMMARY = 400
"""Bytes the service takes."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One deduplicated call, ready to go."""

    key: str
    """As the job gave it."""
    question: Question
    plan: Plan
    arguments: RawValue
    """Packed."""
    result_type: type | None
    summary: str
    """What the Web UI shows beside the claim."""


def prepare(deduplication: Deduplication, input: StartActivityInput) -> Call:
    """Return the call that an activity input and its deduplication make.

    Raises:
        InvalidCallError: It cannot be carried out.
    """
    info = workflow.info()
    key = deduplication.scoped.key
    invalid = _reason_against(deduplication, input)
    if invalid is not None:
        raise InvalidCallError(activity=input.activity, key=key, reason=invalid)
    try:
        arguments = workflow.payload_converter().to_payloads(input.args) if input.args else []
    except Exception as error:
        raise InvalidCallError(
            activity=input.activity, key=key, reason="its arguments cannot be encoded"
        ) from error
    return Call(
        key=deduplication.key,
        question=Question(
            key_id=deduplication.scoped.format(),
            key=key,
            activity=input.activity,
            skip_failure=deduplication.skip_failure,
            fingerprint=fingerprint(arguments) if deduplication.on_mismatch == "raise" else None,
            called_at=workflow.now(),
        ),
        plan=Plan(
            task_queue=input.task_queue or info.task_queue,
            schedule_to_close_timeout=input.schedule_to_close_timeout,
            schedule_to_start_timeout=input.schedule_to_start_timeout,
            start_to_close_timeout=input.start_to_close_timeout,
            heartbeat_timeout=input.heartbeat_timeout,
            retry_policy=input.retry_policy,
            priority=info.priority if input.priority == Priority.default else input.priority,
            summary=input.summary,
            headers={name: payload.SerializeToString() for name, payload in input.headers.items()},
            ttl=deduplication.ttl,
        ),
        arguments=pack(arguments),
        result_type=input.ret_type,
        summary=_cut(input.summary or f"{input.activity} · {key}"),
    )


def _reason_against(call: Deduplication, input: StartActivityInput) -> str | None:
    """Return what is wrong with a call that would otherwise fail workflow tasks for ever; None if nothing."""
    timeouts = {
        "schedule_to_close_timeout": input.schedule_to_close_timeout,
        "schedule_to_start_timeout": input.schedule_to_start_timeout,
        "start_to_close_timeout": input.start_to_close_timeout,
        "heartbeat_timeout": input.heartbeat_timeout,
    }
    for name, timeout in timeouts.items():
        if timeout is not None and timeout <= timedelta(0):
            return f"{name} is {timeout}, give a positive one"
    if input.schedule_to_close_timeout is None and input.start_to_close_timeout is None:
        return "it has no time-out, give start_to_close_timeout or schedule_to_close_timeout"
    if call.ttl is not None and call.ttl <= timedelta(0):
        return f"deduplication_ttl is {call.ttl}, give a positive one, or None to keep the outcome for ever"
    if call.on_mismatch not in {"reuse", "raise"}:
        return f'on_mismatch is {call.on_mismatch!r}, give "reuse" or "raise"'
    try:
        if input.retry_policy is not None:
            input.retry_policy.apply_to_proto(RetryPolicyProto())
    except ValueError as error:
        return f"its retry policy is refused: {error}"
    return None


def _cut(summary: str) -> str:
    return summary.encode()[:_LONGEST_SUMMARY].decode(errors="ignore")
