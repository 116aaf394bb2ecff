"""Preparation: a call as a job wrote it becomes one that can be sent.

What would otherwise fail a workflow task for ever (options the service refuses, arguments that cannot be
encoded) fails the call here, before anything is scheduled.
"""

import math
from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow
from temporalio.api.common.v1 import RetryPolicy as RetryPolicyProto
from temporalio.common import Priority, RawValue, RetryPolicy
from temporalio.worker import StartActivityInput

from dedupe.calls import Deduplication
from dedupe.errors import InvalidCallError
from dedupe.keys import fingerprint
from dedupe.messages import Plan, Question, cut, pack

LONGEST_TIME = timedelta(days=36_500)
"""Instants and durations beyond it may leave the range of the types that hold them."""
_LONGEST_NAME = 1_000
"""Bytes the service takes of the name of an activity or a task queue, unless it is set up for fewer."""
_LONGEST_FAIRNESS_KEY = 64
"""Bytes the service takes."""
_HIGHEST_PRIORITY_KEY = 2**31 - 1


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
    claim_id: str | None


def prepare(deduplication: Deduplication, input: StartActivityInput, *, claim_id: str | None) -> Call:
    """Return the call that an activity input and its deduplication make.

    Args:
        deduplication: What the job said of the call, beyond a plain one.
        input: The call, as the SDK has it.
        claim_id: Activity id of the claim; None: the SDK gives it one.

    Raises:
        InvalidCallError: It cannot be carried out.
    """
    info = workflow.info()
    key = deduplication.scoped.key
    invalid = _reason_against(deduplication, input, claim_id)
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
            priority=_inherited(input.priority, info.priority),
            summary=None if input.summary is None else cut(input.summary),
            headers={name: payload.SerializeToString() for name, payload in input.headers.items()},
            ttl=deduplication.ttl,
        ),
        arguments=pack(arguments),
        result_type=input.ret_type,
        summary=cut(input.summary or f"{input.activity} · {key}"),
        claim_id=claim_id,
    )


def _reason_against(call: Deduplication, input: StartActivityInput, claim_id: str | None) -> str | None:
    """Return what is wrong with a call that would otherwise fail workflow tasks for ever; None if nothing."""
    timeouts = {
        "schedule_to_close_timeout": input.schedule_to_close_timeout,
        "schedule_to_start_timeout": input.schedule_to_start_timeout,
        "start_to_close_timeout": input.start_to_close_timeout,
        "heartbeat_timeout": input.heartbeat_timeout,
    }
    for name, timeout in timeouts.items():
        if timeout is not None and not _is_time(timeout):
            return f"{name} is {timeout}, give a positive timedelta below 100 years"
    if input.schedule_to_close_timeout is None and input.start_to_close_timeout is None:
        return "it has no time-out, give start_to_close_timeout or schedule_to_close_timeout"
    names = {
        "activity": input.activity,
        "task_queue": input.task_queue,
        "activity_id": claim_id,
    }
    for field, value in names.items():
        if value is not None and not is_name(value):
            return f"{field} {value!r:.80} is not a name that the service takes"
    if call.ttl is not None and not _is_time(call.ttl):
        return (
            f"deduplication_ttl is {call.ttl}, give a positive timedelta below 100 years, "
            "or None to keep the outcome for ever"
        )
    if not isinstance(call.skip_failure, bool):
        return f"skip_failure is {call.skip_failure!r}, give True or False"
    if call.on_mismatch not in {"reuse", "raise"}:
        return f'on_mismatch is {call.on_mismatch!r}, give "reuse" or "raise"'
    return _reason_against_priority(input.priority) or _reason_against_retries(input.retry_policy)


def _is_time(value: object) -> bool:
    return isinstance(value, timedelta) and timedelta(0) < value <= LONGEST_TIME


def _reason_against_priority(priority: Priority) -> str | None:
    key, fairness_key, weight = priority.priority_key, priority.fairness_key, priority.fairness_weight
    if key is not None and not 0 < key <= _HIGHEST_PRIORITY_KEY:
        return f"its priority key is {key}, give a positive one below 2**31"
    if fairness_key is not None and not _fits(fairness_key, _LONGEST_FAIRNESS_KEY):
        return f"its fairness key is no text of at most {_LONGEST_FAIRNESS_KEY} bytes"
    if weight is not None and not (weight > 0 and math.isfinite(weight)):
        return f"its fairness weight is {weight}, give a positive one"
    return None


def _reason_against_retries(policy: RetryPolicy | None) -> str | None:
    if policy is None:
        return None
    for interval in (policy.initial_interval, policy.maximum_interval):
        if interval is not None and interval > LONGEST_TIME:
            return f"its retry policy is refused: an interval is {interval}, give one below 100 years"
    if not math.isfinite(policy.backoff_coefficient):
        return f"its retry policy is refused: the backoff coefficient is {policy.backoff_coefficient}"
    try:
        policy.apply_to_proto(RetryPolicyProto())
    except (ValueError, AttributeError) as error:
        return f"its retry policy is refused: {error}"
    return None


def is_name(name: object) -> bool:
    """Return whether the service takes the name of an activity or a task queue.

    One that it refuses would hold up the key, and with it all callers.
    """
    return (
        isinstance(name, str) and name != "" and _fits(name, _LONGEST_NAME) and not name.startswith("/_sys/")
    )


def _fits(text: str, longest: int) -> bool:
    try:
        return len(text.encode()) <= longest
    except UnicodeEncodeError:
        return False


def _inherited(priority: Priority, job: Priority) -> Priority:
    """Return the call's priority, its gaps filled from the job's, as the service does it for activities."""
    return Priority(
        priority_key=priority.priority_key or job.priority_key,
        fairness_key=priority.fairness_key or job.fairness_key,
        fairness_weight=priority.fairness_weight or job.fairness_weight,
    )
