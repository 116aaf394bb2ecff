"""Retries by the key's own workflow: as the service does them."""

from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.common import RetryPolicy
from temporalio.converter import DataConverter
from temporalio.exceptions import ActivityError

from dedupe.key.retries import next_delay, policy_of
from dedupe.model.messages import Plan, Start
from dedupe.model.names import NO_ANSWERS, TOO_LARGE

SECOND = timedelta(seconds=1)


def failed(**info: Any) -> ActivityError:
    """Return the error of an activity that has failed."""
    cause = Failure(message="down", application_failure_info=ApplicationFailureInfo(**info))
    failure = Failure(message="Activity task failed", cause=cause)
    failure.activity_failure_info.activity_type.name = "effect"
    converter = DataConverter.default
    error = converter.failure_converter.from_failure(failure, converter.payload_converter)
    assert isinstance(error, ActivityError)
    return error


def delay(error: ActivityError, *, number: int = 1, **plan: Any) -> timedelta | None:
    """Return when the next attempt is due, in a policy of one second, doubled up to ten."""
    policy = plan.pop("retry_policy", RetryPolicy(initial_interval=SECOND, maximum_interval=10 * SECOND))
    return next_delay(
        error, Plan(task_queue="q", retry_policy=policy, **plan), number=number, elapsed=60 * SECOND
    )


def test_intervals_grow_up_to_the_longest() -> None:
    """By the coefficient, no further than the policy says, or else to a hundred times the first."""
    found = [delay(failed(type="Down"), number=number) for number in (1, 2, 3, 4, 5, 5_000)]
    assert found == [SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND, 10 * SECOND, 10 * SECOND]
    assert delay(failed(), number=50, retry_policy=None) == 100 * SECOND


def test_the_error_may_say_when() -> None:
    """As a rate limit does."""
    error = failed(type="Busy", next_retry_delay={"seconds": 7})
    assert delay(error) == 7 * SECOND


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (failed(non_retryable=True), {}),
        (failed(type="Refused"), {"retry_policy": RetryPolicy(non_retryable_error_types=["Refused"])}),
        (failed(type=TOO_LARGE), {}),
        (failed(), {"retry_policy": RetryPolicy(maximum_attempts=1)}),
        (failed(), {"schedule_to_close_timeout": 61 * SECOND}),
    ],
    ids=["non-retryable", "of a type that is not retried", "too large", "the last", "no time left"],
)
def test_what_is_not_attempted_again(error: ActivityError, options: dict[str, Any]) -> None:
    """As the service has it."""
    assert delay(error, **options) is None


def test_the_policy_that_the_service_gets() -> None:
    """Time-outs end what is to be held; where the service does not know them, it makes one attempt."""
    plan = Plan(task_queue="q", retry_policy=RetryPolicy(maximum_attempts=5, non_retryable_error_types=["A"]))
    start = Start(key="k", activity="effect", idempotency_key="i")
    assert policy_of(start, plan).non_retryable_error_types == ["A", TOO_LARGE]
    held = policy_of(start.model_copy(update={"hold": True}), plan)
    assert held.non_retryable_error_types == ["A", TOO_LARGE, *NO_ANSWERS]
    assert held.maximum_attempts == 5
    alone = policy_of(start.model_copy(update={"hold": True, "closes_when_settled": True}), plan)
    assert alone.maximum_attempts == 1
