"""Limits: what the service takes of a call's options. What it refuses would fail workflow tasks for ever."""

import math
from datetime import timedelta

from temporalio.api.common.v1 import RetryPolicy as RetryPolicyProto
from temporalio.common import Priority, RetryPolicy
from temporalio.worker import StartActivityInput
from temporalio.workflow import ActivityCancellationType

from dedupe.job.calls import Deduplication
from dedupe.sdk import name_of

LONGEST_TIME = timedelta(days=36_500)
"""Instants and durations beyond it may leave the range of the types that hold them."""
_LONGEST_NAME = 1_000
"""Bytes the service takes of the name of an activity or a task queue, unless it is set up for fewer."""
_LONGEST_FAIRNESS_KEY = 64
"""Bytes the service takes."""
_HIGHEST_PRIORITY_KEY = 2**31 - 1


def reason_against(call: Deduplication, input: StartActivityInput) -> str | None:
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
        "activity_id": input.activity_id,
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
    if input.cancellation_type is ActivityCancellationType.WAIT_CANCELLATION_COMPLETED:
        return (
            "cancellation_type is WAIT_CANCELLATION_COMPLETED, leave it out: a cancelled call ends at once, "
            "and the execution goes on for the others"
        )
    return (
        _reason_against_choices(call)
        or _reason_against_priority(input.priority)
        or _reason_against_retries(input.retry_policy)
    )


def _reason_against_choices(call: Deduplication) -> str | None:
    if call.on_mismatch not in {None, "reuse", "raise"}:
        return f'on_mismatch is {call.on_mismatch!r}, give "reuse" or "raise"'
    if call.on_unknown not in {None, "repeat", "hold"}:
        return f'on_unknown is {call.on_unknown!r}, give "repeat" or "hold"'
    if call.reconcile is None:
        return None
    if call.on_unknown == "repeat":
        return 'reconcile is given with on_unknown="repeat", which asks nothing: leave one of them out'
    if not (isinstance(call.reconcile, str) or callable(call.reconcile)) or not is_name(
        name_of(call.reconcile)
    ):
        return f"reconcile is {call.reconcile!r:.80}, give an activity"
    if name_of(call.reconcile) == call.activity:
        return "reconcile is the activity itself: give one that only looks"
    return None


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
