"""Local activities that time out: the SDK raises that as another error when it replays the history."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, Worker

from dedupe import DedupeKeys, DedupePlugin, interceptor, settle
from dedupe.key_handle import KeyHandle
from tests.integration.effect_file import EffectFile, FileEffects, Gate, Task
from tests.integration.jobs import CallJob, FleetCall
from tests.support.waiting import until

_SHORT = timedelta(milliseconds=200)
_AT_REST = {
    EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
    EventType.EVENT_TYPE_MARKER_RECORDED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
}


async def _never(*_args: object, **_options: object) -> Any:
    await asyncio.Event().wait()


async def test_a_job_whose_peek_timed_out_replays(
    running_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peek that was too slow leaves the decision to the claim, also when the job's history is replayed."""
    monkeypatch.setattr(interceptor, "_PEEK_TIMEOUT", _SHORT)
    monkeypatch.setattr(KeyHandle, "glance", _never)
    client, project = await _connect(running_server, tmp_path)

    async with _worker(client, project, tmp_path):
        answer = await _execute(client, project)

    job = await client.get_workflow_handle(project).fetch_history()
    await Replayer(
        workflows=[CallJob],
        plugins=[DedupePlugin(organization="acme", project=project)],
        data_converter=pydantic_data_converter,
    ).replay_workflow(job)
    assert answer["attempt"] == 1


async def test_a_key_whose_settling_timed_out_keeps_its_record(
    running_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that could not tell its claims in time goes on holding its record, also on another worker."""
    client, project = await _connect(running_server, tmp_path)
    key = client.get_workflow_handle(f"proj:acme/{project}:k")

    async def has(event_type: "EventType.ValueType") -> bool:
        return any(event.event_type == event_type for event in (await key.fetch_history()).events)

    with monkeypatch.context() as slow:
        slow.setattr(
            workflow, "execute_local_activity", _with_short_timeouts(workflow.execute_local_activity)
        )
        slow.setattr(settle, "_tell", _never)
        async with _worker(client, project, tmp_path):
            answer = await _execute(client, project)
            await until(lambda: has(EventType.EVENT_TYPE_MARKER_RECORDED), what="the end of the settling")

    other, _ = await _connect(running_server, tmp_path, project=project)
    async with _worker(other, project, tmp_path):
        await key.signal("wake-up")
        await until(lambda: _is_idle(client, key.id), what="the end of the signal's task")
        record = await DedupeKeys(other, organization="acme", project=project).get("k")

    assert (await key.describe()).status == WorkflowExecutionStatus.RUNNING
    assert record is not None
    assert record.idempotency_key == answer["idempotency_key"]


def _with_short_timeouts(execute: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def execute_shortly(*args: Any, **options: Any) -> Any:
        timeouts = {"start_to_close_timeout": _SHORT, "schedule_to_close_timeout": 2 * _SHORT}
        return await execute(*args, **{**options, **timeouts})

    return execute_shortly


async def _connect(address: str, folder: Path, *, project: str = "") -> tuple[Client, str]:
    project = project or f"{folder.name}-{uuid4()}"
    plugin = DedupePlugin(
        organization="acme",
        project=project,
        task_queue=f"keys-{project}",
        wait_slice=timedelta(seconds=2),
    )
    return await Client.connect(address, data_converter=pydantic_data_converter, plugins=[plugin]), project


def _worker(client: Client, project: str, folder: Path) -> Worker:
    effects = FileEffects(EffectFile(folder / "effects.jsonl"), Gate(folder / "gate"))
    return Worker(client, task_queue=project, workflows=[CallJob], activities=[effects.effect])


async def _execute(client: Client, project: str) -> Any:
    return await client.execute_workflow(
        CallJob.run, FleetCall(key="k", task=Task(name="k")), id=project, task_queue=project
    )


async def _is_idle(client: Client, workflow_id: str) -> bool:
    """Return whether a workflow has no task to do, and none that fails."""
    last = [event async for event in client.get_workflow_handle(workflow_id).fetch_history_events()][-1]
    return last.event_type in _AT_REST
