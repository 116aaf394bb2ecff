"""Jobs of the fault tests: each makes the deduplicated calls that its input asks for."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, JsonValue
from temporalio import workflow
from temporalio.common import RetryPolicy

from dedupe import execute_activity
from dedupe.job.calls import CallOptions
from tests.integration.effect_file import Task


class FleetCall(BaseModel, frozen=True):
    """One deduplicated call."""

    key: str
    task: Task | None = None
    argument: JsonValue = None
    """The activity's argument where it is not `task`."""
    activity: str = "effect"
    start_to_close: timedelta = timedelta(minutes=2)
    heartbeat: timedelta | None = timedelta(seconds=3)
    reconcile: str | None = None
    """The activity that finds out what became of an attempt that gave no answer."""


@workflow.defn
class CallJob:
    """Makes one deduplicated call, and returns its answer."""

    @workflow.run
    async def run(self, call: FleetCall) -> Any:
        """Return what the activity returned."""
        return await _make(call)


@workflow.defn
class CallsJob:
    """Makes many deduplicated calls, one after the other."""

    @workflow.run
    async def run(self, call: FleetCall, times: int) -> list[Any]:
        """Make the call `times` times, and return the different answers."""
        return _different([await _make(call) for _ in range(times)])


@workflow.defn
class FanJob:
    """Makes many deduplicated calls at the same time."""

    @workflow.run
    async def run(self, calls: list[FleetCall]) -> list[Any]:
        """Make all calls, and return the different answers."""
        return _different(await asyncio.gather(*map(_make, calls)))


def _different(answers: Iterable[Any]) -> list[Any]:
    return list({str(answer): answer for answer in answers}.values())


async def _make(call: FleetCall) -> Any:
    options = CallOptions(
        deduplication_key=call.key,
        start_to_close_timeout=call.start_to_close,
        heartbeat_timeout=call.heartbeat,
        retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=100), backoff_coefficient=1),
    )
    if call.reconcile is not None:
        options["reconcile"] = call.reconcile
    argument = call.argument if call.task is None else call.task
    return await execute_activity(call.activity, argument, **options)
