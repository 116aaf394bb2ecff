"""Jobs that are started from outside, with the Temporal CLI."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory

from dedupe import DedupePlugin
from dedupe.model.names import CLAIM, PEEK, TWIN
from tests.integration.effect_file import Moment
from tests.integration.fleet import ORGANIZATION, Fleet, answers_of, fleet
from tests.integration.jobs import CallJob
from tests.support.histories import replay
from tests.support.servers import binary


@pytest.fixture
async def workers(running_server: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """One worker against the session's server."""
    async with fleet(running_server, tmp_path) as started:
        await started.start()
        yield started


def _start(workers: Fleet, name: str) -> "subprocess.Popen[bytes]":
    """Begin `temporal workflow start` for a job that calls key `k`."""
    call = {"key": "k", "task": {"name": "k", "pause": "before the effect"}}
    return subprocess.Popen(
        [
            binary("temporal"),
            "workflow",
            "start",
            f"--address={workers.client.service_client.config.target_host}",
            f"--task-queue={workers.task_queue}",
            f"--workflow-id={workers.project}/{name}",
            "--type=CallJob",
            f"--input={json.dumps(call)}",
        ],
        stdout=subprocess.DEVNULL,
    )


async def test_three_jobs_started_at_once_by_the_cli(workers: Fleet) -> None:
    """Of three jobs at once one executes and all get its result; a fourth one later needs no claim."""
    ids = [f"{workers.project}/{name}" for name in ("first", "second", "third")]
    for starting in [_start(workers, name) for name in ("first", "second", "third")]:
        assert await asyncio.to_thread(starting.wait) == 0
    jobs = [workers.client.get_workflow_handle(id_) for id_ in ids]
    await workers.waiting(2, jobs)
    workers.gate.open()
    answers = await answers_of(jobs)
    assert await asyncio.to_thread(_start(workers, "fourth").wait) == 0
    fourth = workers.client.get_workflow_handle(f"{workers.project}/fourth")
    answers += await answers_of([fourth])

    assert answers == [answers[0]] * 4
    assert len(workers.effects.entries(Moment.DONE)) == 1
    histories = [await job.fetch_history() for job in jobs]
    commands = [_commands(history) for history in histories]
    assert all(command[0] == PEEK for command in commands)
    # Those that find the key taken wait for it: at their first look, or when they would have executed.
    ends = sorted(command[-1] for command in commands)
    assert ends == [CLAIM, CLAIM, f"{TWIN}effect"]
    assert _commands(await fourth.fetch_history()) == [PEEK]
    key = await workers.client.get_workflow_handle(workers.key_id("k")).fetch_history()
    assert [event.event_type for event in key.events] == [
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
    ]
    await replay(
        [*histories, await fourth.fetch_history()],
        workflows=[CallJob],
        client=workers.client,
        plugin=DedupePlugin(organization=ORGANIZATION, project=workers.project),
    )


def _commands(history: WorkflowHistory) -> list[str]:
    """Return what a job asked its server for: markers of local activities, activities, and anything else."""
    names: list[str] = []
    for event in history.events:
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                names.append(event.activity_task_scheduled_event_attributes.activity_type.name)
            case EventType.EVENT_TYPE_MARKER_RECORDED:
                data = event.marker_recorded_event_attributes.details["data"].payloads[0].data
                names.append(json.loads(data)["activity_type"])
            case (
                EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
                | EventType.EVENT_TYPE_TIMER_STARTED
                | EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES
            ):
                names.append(EventType.Name(event.event_type))
            case _:
                pass
    return names
