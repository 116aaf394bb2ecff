"""The farewell: which keys a worker that has drained waits for, and until when."""

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

from temporalio.api.workflow.v1 import PendingWorkflowTaskInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.service import RPCError, RPCStatusCode

from dedupe.farewell import Farewell

_WITH_TASK = SimpleNamespace(
    raw_description=DescribeWorkflowExecutionResponse(pending_workflow_task=PendingWorkflowTaskInfo())
)
_AT_REST = SimpleNamespace(raw_description=DescribeWorkflowExecutionResponse())


def _farewell(describe: AsyncMock) -> tuple[Farewell, list[str]]:
    """Return a farewell whose service describes workflows so, and the ids that it is asked about."""
    asked: list[str] = []

    def get_workflow_handle(workflow_id: str) -> SimpleNamespace:
        asked.append(workflow_id)
        return SimpleNamespace(describe=describe)

    return Farewell(cast("Any", SimpleNamespace(get_workflow_handle=get_workflow_handle))), asked


def test_what_is_remembered_of_keys_does_not_grow() -> None:
    """A worker executes any number of keys in its life, and remembers the last of them."""
    farewell, _ = _farewell(AsyncMock())
    for number in range(1_100):
        farewell.ended(f"key-{number}")
    assert list(farewell._ended)[::999] == ["key-100", "key-1099"]


async def test_a_worker_that_has_drained_waits_until_its_keys_have_no_task_left() -> None:
    """It asks about the keys that ended in it, again and again, and about no others."""
    describe = AsyncMock(side_effect=[_WITH_TASK, _WITH_TASK, _AT_REST])
    farewell, asked = _farewell(describe)
    await farewell.say()
    assert asked == []
    farewell.ended("key")
    await farewell.say()
    assert asked == ["key"]
    assert describe.await_count == 3


async def test_a_service_that_cannot_be_asked_holds_no_worker() -> None:
    """The farewell is a courtesy: a worker ends without it."""
    describe = AsyncMock(side_effect=RPCError("away", RPCStatusCode.UNAVAILABLE, b""))
    farewell, _ = _farewell(describe)
    farewell.ended("key")
    await farewell.say()
    assert describe.await_count == 1
