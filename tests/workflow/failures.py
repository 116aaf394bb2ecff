"""Failures of every shape, and a job that looks at them closely."""

import asyncio
from datetime import timedelta
from typing import Any, cast

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

import dedupe
from dedupe import FailedResult


@activity.defn
async def fail(how: str) -> str:
    """Fail in the way that is asked for."""
    match how:
        case "nested":
            try:
                try:
                    raise KeyError("innermost")  # noqa: TRY301
                except KeyError as error:
                    message = "inner"
                    raise ValueError(message) from error
            except ValueError as error:
                message = "outer"
                raise ApplicationError(message, {"detail": [1, None]}, "two", type="Outer") from error
        case "non-retryable":
            message = "never"
            raise ApplicationError(message, type="Never", non_retryable=True)
        case "plain":
            raise LookupError("plain")
        case "details that cannot be encoded":
            message = "details"
            raise ApplicationError(message, object())
        case "a result that cannot be encoded":
            return cast("str", object())
        case "slow":
            await asyncio.sleep(60)
        case _:
            pass
    return how


WAYS = [
    "nested",
    "non-retryable",
    "plain",
    "details that cannot be encoded",
    "a result that cannot be encoded",
    "slow",
]


def describe(error: BaseException | None) -> list[Any]:
    """Return what there is to see of an error and its causes."""
    if error is None:
        return []
    seen: list[Any] = [type(error).__name__]
    if isinstance(error, FailureError):
        seen.append(error.message)
    match error:
        case ApplicationError():
            seen += [error.type, list(error.details), error.non_retryable]
        case ActivityError():
            seen += [error.activity_type, error.retry_state.name if error.retry_state else None]
        case ActivityTimeoutError():
            seen += [error.type.name if error.type else None]
        case _:
            pass
    return [seen, *describe(error.__cause__)]


@workflow.defn
class Look:
    """Calls a failing activity and says what it got: without a key, with one, as a value, and again."""

    @workflow.run
    async def run(self, how: str) -> list[list[Any]]:
        """See the class."""
        options: dict[str, Any] = {
            "start_to_close_timeout": timedelta(seconds=1 if how == "slow" else 20),
            "retry_policy": RetryPolicy(maximum_attempts=2, initial_interval=timedelta(milliseconds=5)),
        }
        keyed: dict[str, Any] = {"deduplication_key": "key", **options}
        looks: list[list[Any]] = []
        try:
            await workflow.execute_activity(fail, how, **options)
        except ActivityError as error:
            looks.append(describe(error))
        try:
            await dedupe.execute_activity(fail, how, **keyed)
        except ActivityError as error:
            looks.append(describe(error))
        for _ in range(2):
            value: Any = await dedupe.execute_activity(fail, how, skip_failure=True, **keyed)
            if isinstance(value, FailedResult):
                looks.append(describe(value.error))
        return looks


@workflow.defn
class RaiseAfterAll:
    """Raises the error of a failure that it had skipped."""

    @workflow.run
    async def run(self) -> None:
        """See the class."""
        value = await dedupe.execute_activity(
            fail,
            "non-retryable",
            deduplication_key="key",
            skip_failure=True,
            start_to_close_timeout=timedelta(seconds=5),
        )
        if isinstance(value, FailedResult):
            raise value.error


@workflow.defn
class Fields:
    """Says what a failed result holds."""

    @workflow.run
    async def run(self) -> dict[str, Any]:
        """See the class."""
        before = workflow.now()
        value = await dedupe.execute_activity(
            fail,
            "nested",
            deduplication_key="key",
            skip_failure=True,
            start_to_close_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(maximum_attempts=1),
        )
        assert isinstance(value, FailedResult)
        return {
            "key": value.key,
            "activity": value.activity,
            "type": value.type,
            "message": value.message,
            "failed_at": value.failed_at,
            "before": before,
            "after": workflow.now(),
            "reused": value.reused,
            "error": type(value.error).__name__,
        }
