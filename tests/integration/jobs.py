"""Jobs and activities of the fault tests: one job makes the deduplicated calls that its input lists."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, JsonValue
from temporalio import activity, workflow
from temporalio.common import Priority, RetryPolicy

from dedupe import FailedResult, Scope, current_execution, execute_activity
from tests.integration.effects import EffectFile, Moment


class Task(BaseModel, frozen=True):
    """What an activity is to do."""

    name: str
    """What the effect is about; it stands in the effect file."""
    work: float = 0
    """Seconds that the attempt takes before its effect."""
    pause: Literal["before the effect", "after the effect"] | None = None
    """Where the first attempt waits for `Gate.open`."""
    pause_always: bool = False
    """Whether later attempts wait as well."""
    failures: int = 0
    """How many attempts fail before one succeeds."""


class Done(BaseModel, frozen=True):
    """What an activity returns: all that tells one execution's answer from another's."""

    name: str
    idempotency_key: str
    generation: int
    attempt: int


class Call(BaseModel, frozen=True):
    """One deduplicated call."""

    key: str
    task: Task | None = None
    argument: JsonValue = None
    """The activity's argument where it is not `task`."""
    activity: str = "effect"
    scope: Scope = Scope.PROJECT
    skip_failure: bool = False
    ttl: timedelta | None = None
    start_to_close: timedelta = timedelta(minutes=2)
    schedule_to_close: timedelta | None = None
    heartbeat: timedelta | None = timedelta(seconds=3)
    maximum_attempts: int = 0
    retry_every: timedelta = timedelta(milliseconds=100)
    task_queue: str | None = None
    priority: int | None = None
    fairness_key: str | None = None
    fairness_weight: float | None = None


@workflow.defn
class CallJob:
    """Makes one deduplicated call, and returns its answer."""

    @workflow.run
    async def run(self, call: Call) -> Any:
        """Return what the activity returned, or of a `FailedResult` its message."""
        return await _make(call)


@workflow.defn
class CallsJob:
    """Makes many deduplicated calls, one after the other."""

    @workflow.run
    async def run(self, call: Call, times: int) -> list[Any]:
        """Make the call `times` times, and return the different answers."""
        return _different([await _make(call) for _ in range(times)])


@workflow.defn
class FanJob:
    """Makes many deduplicated calls at the same time."""

    @workflow.run
    async def run(self, calls: list[Call]) -> list[Any]:
        """Make all calls, and return the different answers."""
        return _different(await asyncio.gather(*map(_make, calls)))


def _different(answers: Iterable[Any]) -> list[Any]:
    return list({str(answer): answer for answer in answers}.values())


async def _make(call: Call) -> Any:
    answer = await execute_activity(
        call.activity,
        call.argument if call.task is None else call.task,
        deduplication_key=call.key,
        deduplication_scope=call.scope,
        deduplication_ttl=call.ttl,
        skip_failure=call.skip_failure,
        start_to_close_timeout=call.start_to_close,
        schedule_to_close_timeout=call.schedule_to_close,
        heartbeat_timeout=call.heartbeat,
        retry_policy=RetryPolicy(
            initial_interval=call.retry_every,
            backoff_coefficient=1,
            maximum_attempts=call.maximum_attempts,
        ),
        task_queue=call.task_queue,
        priority=Priority(
            priority_key=call.priority,
            fairness_key=call.fairness_key,
            fairness_weight=call.fairness_weight,
        ),
    )
    return f"failed: {answer.message}" if isinstance(answer, FailedResult) else answer


class Gate:
    """What paused activities wait for: a file that a test makes."""

    def __init__(self, path: Path) -> None:
        """Use the file at `path`."""
        self._path = path

    def open(self) -> None:
        """Let everything that waits go on."""
        self._path.touch()

    async def passed(self) -> None:
        """Return when the gate is open."""
        while not self._path.exists():
            await asyncio.sleep(0.02)


class Effects:
    """The activities, over one effect file."""

    def __init__(self, file: EffectFile, gate: Gate) -> None:
        """Write effects to `file`, and pause at `gate`."""
        self._file = file
        self._gate = gate

    @activity.defn
    async def effect(self, task: Task) -> Done:
        """Have one effect."""
        info = activity.info()
        self._file.write(Moment.STARTED, task.name)
        beating = asyncio.create_task(_beat(info.heartbeat_timeout))
        try:
            await asyncio.sleep(task.work)
            if info.attempt <= task.failures:
                raise EffectError(task.name)
            await self._pause("before the effect", task)
            self._file.write(Moment.DONE, task.name)
            await self._pause("after the effect", task)
        finally:
            beating.cancel()
        execution = current_execution()
        assert execution is not None
        return Done(
            name=task.name,
            idempotency_key=execution.idempotency_key,
            generation=execution.generation,
            attempt=info.attempt,
        )

    async def _pause(self, point: str, task: Task) -> None:
        if task.pause == point and (task.pause_always or activity.info().attempt == 1):
            self._file.write(Moment.PAUSED, task.name)
            await self._gate.passed()


class EffectError(Exception):
    """The activity did not work this time."""


async def _beat(missed_after: timedelta | None) -> None:
    while missed_after:
        activity.heartbeat()
        await asyncio.sleep(missed_after.total_seconds() / 6)
