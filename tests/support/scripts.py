"""A job that makes the calls it is told to, so that a test reads as a list of calls."""

import asyncio
from datetime import timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

import dedupe
from dedupe import FailedResult, Scope


class Call(BaseModel):
    """One call, as a test writes it."""

    model_config = ConfigDict(frozen=True)

    argument: Any = "argument"
    activity: str = "effect"
    key: str | None = "key"
    """None: a plain call."""
    scope: Scope = Scope.PROJECT
    skip_failure: bool = False
    ttl: timedelta | None = None
    on_mismatch: Literal["reuse", "raise"] = "reuse"
    on_unknown: str | None = None
    reconcile: str | None = None
    start_to_close_timeout: timedelta = timedelta(seconds=60)
    schedule_to_close_timeout: timedelta | None = None
    attempts: int = 1
    backoff: timedelta = timedelta(milliseconds=10)
    activity_id: str | None = None
    after: timedelta | None = None
    """How long the job waits before it makes the call."""
    on: str | None = None
    """Name of the signal on which the job makes the call."""
    cancel_on: str | None = None
    """Name of the signal on which the job cancels the call."""


class Ended(BaseModel):
    """How a call ended."""

    model_config = ConfigDict(frozen=True)

    value: Any = None
    error: str | None = None
    """Class of what was raised."""
    failed: str | None = None
    """`FailedResult.type`, where that was returned."""
    type: str | None = None
    """Type of the cause."""
    message: str | None = None
    """Message of the cause."""
    activity: str | None = None
    reused: bool | None = None
    key: str | None = None


def returned(value: Any) -> Ended:
    """Return the end of a call that returned `value`."""
    return Ended(value=value)


class _Script:
    def __init__(self) -> None:
        self._signals: set[str] = set()
        self._done = 0

    async def _run(self, steps: list[list[Call]]) -> list[list[Ended]]:
        return [await self._step(step) for step in steps]

    async def _step(self, step: list[Call]) -> list[Ended]:
        return list(await asyncio.gather(*(self._call(call) for call in step)))

    async def _call(self, call: Call) -> Ended:
        if call.after is not None:
            await workflow.sleep(call.after)
        if call.on is not None:
            await self._signalled(call.on)
        try:
            handle = _start(call)
            if call.cancel_on is not None:
                await self._signalled(call.cancel_on)
                handle.cancel()
            value = await handle
        except asyncio.CancelledError:
            return Ended(error="CancelledError")
        except FailureError as error:
            return _raised(error)
        finally:
            self._done += 1
        if isinstance(value, FailedResult):
            return Ended(
                failed=value.type,
                type=type(value.error.cause).__name__,
                message=value.message,
                activity=value.activity,
                reused=value.reused,
                key=value.key,
            )
        return Ended(value=value)

    async def _signalled(self, name: str) -> None:
        await workflow.wait_condition(lambda: name in self._signals)


def _start(call: Call) -> "workflow.ActivityHandle[Any]":
    options: dict[str, Any] = {
        "start_to_close_timeout": call.start_to_close_timeout,
        "schedule_to_close_timeout": call.schedule_to_close_timeout,
        "activity_id": call.activity_id,
        "retry_policy": RetryPolicy(
            maximum_attempts=call.attempts, initial_interval=call.backoff, backoff_coefficient=1
        ),
    }
    if call.key is None:
        return workflow.start_activity(call.activity, call.argument, **options)
    if call.on_unknown is not None:
        options["on_unknown"] = call.on_unknown
    if call.reconcile is not None:
        options["reconcile"] = call.reconcile
    return dedupe.start_activity(
        call.activity,
        call.argument,
        deduplication_key=call.key,
        deduplication_scope=call.scope,
        deduplication_ttl=call.ttl,
        skip_failure=call.skip_failure,
        on_mismatch=call.on_mismatch,
        **options,
    )


def _raised(error: FailureError) -> Ended:
    cause = error.cause if isinstance(error, ActivityError) else error
    kind = None
    match cause:
        case ApplicationError():
            kind = cause.type
        case ActivityTimeoutError():
            kind = cause.type.name if cause.type else None
        case _:
            kind = type(cause).__name__
    return Ended(
        error=type(error).__name__,
        type=kind,
        message=cause.message if isinstance(cause, FailureError) else str(cause),
        activity=error.activity_type if isinstance(error, ActivityError) else None,
    )


@workflow.defn
class Script(_Script):
    """Makes the calls of each step at once, one step after the other."""

    @workflow.run
    async def run(self, steps: list[list[Call]]) -> list[list[Ended]]:
        """See the class."""
        return await self._run(steps)

    @workflow.signal
    def signal(self, name: str) -> None:
        """Note a signal that calls may be cancelled on."""
        self._signals.add(name)

    @workflow.query
    def done(self) -> int:
        """Return how many calls have ended."""
        return self._done


@workflow.defn
class OtherScript(_Script):
    """The same as another job."""

    @workflow.run
    async def run(self, steps: list[list[Call]]) -> list[list[Ended]]:
        """See the class."""
        return await self._run(steps)


@workflow.defn
class PacedScript(_Script):
    """The same, with one pause before each step: that of its first call."""

    @workflow.run
    async def run(self, steps: list[list[Call]]) -> list[list[Ended]]:
        """See the class."""
        ends: list[list[Ended]] = []
        for step in steps:
            if step[0].after is not None:
                await workflow.sleep(step[0].after)
            ends.append(await self._step([call.model_copy(update={"after": None}) for call in step]))
        return ends


@workflow.defn
class Parents(_Script):
    """Runs scripts as children, at once."""

    @workflow.run
    async def run(self, scripts: list[list[list[Call]]]) -> list[list[list[Ended]]]:
        """See the class."""
        return list(
            await asyncio.gather(
                *(
                    workflow.execute_child_workflow(
                        Script.run, steps, id=f"{workflow.info().workflow_id}-{number}"
                    )
                    for number, steps in enumerate(scripts)
                )
            )
        )


@workflow.defn
class Plain:
    """Makes one deduplicated call, and lets it fail."""

    @workflow.run
    async def run(self, key: str) -> Any:
        """See the class."""
        return await dedupe.execute_activity(
            "effect", key, deduplication_key=key, start_to_close_timeout=timedelta(seconds=5)
        )
