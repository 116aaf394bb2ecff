"""Local activities that time out: the SDK raises that as another error when it replays the history."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus

from dedupe import interceptor, settle
from dedupe.peek import Peeks
from tests.support.ground import Ground, Grounds
from tests.support.histories import types
from tests.support.scripts import returned
from tests.support.waiting import until

_SHORT = timedelta(milliseconds=200)
_AT_REST = {
    EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
    EventType.EVENT_TYPE_MARKER_RECORDED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
}


async def _never(*_args: object, **_options: object) -> Any:
    await asyncio.Event().wait()


async def test_a_job_whose_peek_timed_out_replays(real: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peek that was too slow leaves the decision to the claim, also when the job's history is replayed."""
    monkeypatch.setattr(interceptor, "_PEEK_TIMEOUT", _SHORT)
    monkeypatch.setattr(Peeks, "peek", _never)
    async with real.worker():
        assert await real.call() == returned("argument")
    assert [attempt.attempt for attempt in real.effects.attempts] == [1]
    assert await real.replay() == 2


async def test_a_key_whose_settling_timed_out_keeps_its_record(
    real_grounds: Grounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that could not tell its claims in time goes on holding its record, also on another worker."""
    ground = real_grounds(wait_slice=timedelta(seconds=2))
    key = ground.key_workflow()

    async def is_recorded() -> bool:
        return EventType.EVENT_TYPE_MARKER_RECORDED in types(await key.fetch_history())

    async def is_idle() -> bool:
        return types(await key.fetch_history())[-1] in _AT_REST

    with monkeypatch.context() as slow:
        slow.setattr(
            workflow, "execute_local_activity", _with_short_timeouts(workflow.execute_local_activity)
        )
        slow.setattr(settle, "_tell", _never)
        async with ground.worker():
            assert await ground.call() == returned("argument")
            await until(is_recorded, what="the end of the settling")

    other = ground.beside()
    async with other.worker():
        await key.signal("wake-up")
        await until(is_idle, what="the end of the signal's task")
        record = await ground.keys.get("key")

    assert (await key.describe()).status == WorkflowExecutionStatus.RUNNING
    assert record is not None
    assert [record.idempotency_key] == ground.effects.idempotency_keys


def _with_short_timeouts(execute: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def execute_shortly(*args: Any, **options: Any) -> Any:
        timeouts = {"start_to_close_timeout": _SHORT, "schedule_to_close_timeout": 2 * _SHORT}
        return await execute(*args, **{**options, **timeouts})

    return execute_shortly
