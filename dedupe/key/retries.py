"""Retries of a delegated activity by the key's own workflow, where an unknown outcome is held.

The service does them, but for the time-skipping one, which retries time-outs that the policy excludes. There
each attempt is an activity of its own.
"""

import math
from dataclasses import replace
from datetime import timedelta

from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

from dedupe.model.messages import Plan, Start
from dedupe.model.names import NO_ANSWERS, TOO_LARGE
from dedupe.model.outcome import Failed

_FIRST_INTERVAL = timedelta(seconds=1)
_INTERVALS_AT_MOST = 100
"""What the service takes for the maximum interval where a policy has none, in initial intervals."""


def policy_of(start: Start, plan: Plan) -> RetryPolicy:
    """Return the caller's policy, for which a result that is too large is an end.

    Another attempt would have the effect again, and the same result. Where an unknown outcome is held, so is
    an attempt without an answer.
    """
    policy = plan.retry_policy or RetryPolicy()
    types = [*(policy.non_retryable_error_types or ()), TOO_LARGE, *(NO_ANSWERS if start.hold else ())]
    policy = replace(policy, non_retryable_error_types=types)
    return replace(policy, maximum_attempts=1) if retries_itself(start) else policy


def retries_itself(start: Start) -> bool:
    """Return whether the key's workflow retries its activity, and not the service."""
    return start.hold and start.closes_when_settled


def is_answer(error: ActivityError) -> bool:
    """Return whether the activity itself has failed, and said so: see `Failed.is_answer`."""
    return error.failure is not None and Failed(error.failure).is_answer


def next_delay(error: ActivityError, plan: Plan, *, number: int, elapsed: timedelta) -> timedelta | None:
    """Return when the attempt after a failed one is due; None where it was the last one.

    Args:
        error: What it ended with.
        plan: How the activity is to be executed.
        number: Of the attempt: 1 for the first.
        elapsed: Since the first one was scheduled.
    """
    cause, policy = error.cause, plan.retry_policy or RetryPolicy()
    if not isinstance(cause, ApplicationError) or not is_answer(error) or cause.non_retryable:
        return None
    if cause.type in (policy.non_retryable_error_types or ()):
        return None
    if policy.maximum_attempts and number >= policy.maximum_attempts:
        return None
    first = policy.initial_interval or _FIRST_INTERVAL
    longest = policy.maximum_interval or _INTERVALS_AT_MOST * first
    exponent, most = number - 1, longest / first
    grown = exponent * math.log(policy.backoff_coefficient) < math.log(most)
    delay = cause.next_retry_delay or first * (policy.backoff_coefficient**exponent if grown else most)
    whole = plan.schedule_to_close_timeout
    return None if whole is not None and elapsed + delay >= whole else delay
