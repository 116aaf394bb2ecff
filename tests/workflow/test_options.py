"""The options of a call reach the execution, as they would reach a plain activity."""

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import ActivityTaskScheduledEventAttributes, HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import ActivityError

import dedupe
from tests.support.ground import Ground, Grounds

OPTIONS: dict[str, Any] = {
    "schedule_to_close_timeout": timedelta(hours=4),
    "schedule_to_start_timeout": timedelta(hours=3),
    "start_to_close_timeout": timedelta(hours=2),
    "heartbeat_timeout": timedelta(hours=1),
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=3),
        backoff_coefficient=1.5,
        maximum_interval=timedelta(minutes=7),
        maximum_attempts=5,
        non_retryable_error_types=["Refused"],
    ),
    "summary": "a summary",
    "priority": Priority(priority_key=2, fairness_key="tenant", fairness_weight=1.5),
}


@workflow.defn
class WithOptions:
    """Makes a call with all options, plain or with a key."""

    @workflow.run
    async def run(self, key: str | None) -> None:
        """See the class."""
        if key is None:
            await workflow.execute_activity("effect", "argument", **OPTIONS)
        else:
            await dedupe.execute_activity("effect", "argument", deduplication_key=key, **OPTIONS)


def _scheduled(history: WorkflowHistory) -> HistoryEvent:
    [event] = [
        event for event in history.events if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    ]
    return event


def _cleared(event: HistoryEvent) -> ActivityTaskScheduledEventAttributes:
    """Return what was scheduled, but for what is different each time."""
    attributes = event.activity_task_scheduled_event_attributes
    for different in ("activity_id", "workflow_task_completed_event_id", "use_workflow_build_id"):
        attributes.ClearField(different)
    return attributes


async def test_every_option_reaches_the_execution(real: Ground) -> None:
    """In place the activity is scheduled as a plain one, but for its type, and for a header that names
    its key.
    """
    async with real.worker(workflows=[WithOptions]):
        await real.run(WithOptions.run, None)
        plain = _scheduled(await real.history())
        await real.run(WithOptions.run, "key")
        ours = _scheduled(await real.history())
    expected, executed = _cleared(plain), _cleared(ours)
    assert executed.activity_type.name == "dedupe:effect"
    executed.activity_type.name = "effect"
    del executed.header.fields["dedupe"]
    assert executed == expected
    assert ours.user_metadata.summary == plain.user_metadata.summary


async def test_every_option_reaches_a_delegated_execution(real_grounds: Grounds) -> None:
    """The key's own workflow schedules it as a plain one, but for one error more that ends it."""
    ground = real_grounds(in_place=False)
    async with ground.worker(workflows=[WithOptions]):
        await ground.run(WithOptions.run, None)
        plain = _scheduled(await ground.history())
        await ground.run(WithOptions.run, "key")
        ours = _scheduled(await ground.key_workflow().fetch_history())
    expected, executed = _cleared(plain), _cleared(ours)
    assert executed.retry_policy.non_retryable_error_types == ["Refused", "PayloadsTooLarge"]
    del executed.retry_policy.non_retryable_error_types[1:]
    assert executed == expected
    assert ours.user_metadata.summary == plain.user_metadata.summary


@workflow.defn
class Elsewhere:
    """Calls an activity on a task queue that nobody polls."""

    @workflow.run
    async def run(self, queue: str, schedule_to_start: float | None, whole: float) -> str:
        """Call it, and say how the call timed out."""
        try:
            await dedupe.execute_activity(
                "effect",
                "argument",
                deduplication_key="key",
                task_queue=queue,
                schedule_to_start_timeout=None
                if schedule_to_start is None
                else timedelta(seconds=schedule_to_start),
                schedule_to_close_timeout=timedelta(seconds=whole),
            )
        except ActivityError as error:
            timeout = getattr(error.cause, "type", None)
            return getattr(timeout, "name", repr(error.cause))
        return "it was executed"


async def test_the_schedule_to_start_timeout_is_that_of_the_call_that_executes(real: Ground) -> None:
    """It fails the execution for all who wait; that of a call that joins says nothing about the execution."""
    async with real.worker(workflows=[Elsewhere]):
        job = await real.start(Elsewhere.run, args=["nobody", None, 60.0])
        await real.claiming(1, job=job)
        assert await real.run(Elsewhere.run, args=["nobody", 0.5, 2.0]) == "SCHEDULE_TO_CLOSE"
        await job.terminate()
    other = real.beside(project="other")
    async with other.worker(workflows=[Elsewhere]):
        job = await other.start(Elsewhere.run, args=["nobody", 3.0, 60.0])
        await other.claiming(1, job=job)
        joined = await other.start(Elsewhere.run, args=["nobody", None, 60.0])
        assert [await job.result(), await joined.result()] == ["SCHEDULE_TO_START"] * 2
