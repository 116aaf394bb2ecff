"""Several plugins, or several event loops, on one server that skips time."""

import asyncio
import logging
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from dedupe import DedupePlugin
from dedupe.model.messages import Start
from dedupe.model.record import Record
from dedupe.record.handle import KeyHandle
from tests.support.effects import Effects
from tests.support.ground import Ground
from tests.support.scripts import Call, Ended, Script, returned
from tests.support.waiting import until


@workflow.defn
class OnTwoQueues:
    """Makes a call on each of two task queues, at once."""

    @workflow.run
    async def run(self, queues: list[str]) -> list[list[list[Ended]]]:
        """See the class."""
        return list(
            await asyncio.gather(
                *(
                    workflow.execute_child_workflow(
                        Script.run, [[Call(argument=queue)]], id=queue, task_queue=queue
                    )
                    for queue in queues
                )
            )
        )


async def test_two_workers_with_a_plugin_each_execute_again_once(
    skipping: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two claims of a failed key, on workers with a plugin each, one executes, and the other shares."""
    skipping.effects.then(ApplicationError("no", non_retryable=True))
    skipping.workflows.append(OnTwoQueues)
    read, acquire = KeyHandle.read, KeyHandle.acquire
    looks: list[str] = []
    starts: list[Start] = []

    async def read_together(key: KeyHandle, *, now: datetime) -> Record:
        looks.append(key.key_id)
        record = await read(key, now=now)
        await asyncio.sleep(0.3 if len(looks) < 5 else 0)
        return record

    async def start_late(key: KeyHandle, start: Start, **options: Any) -> str | None:
        starts.append(start)
        if len(starts) == 2:
            await until(executed_again)
        return await acquire(key, start, **options)

    async def executed_again() -> bool:
        description = await skipping.key_workflow().describe()
        return len(skipping.effects.attempts) > 1 and description.status != WorkflowExecutionStatus.RUNNING

    def worker(queue: str) -> Worker:
        return Worker(
            skipping.server,
            task_queue=queue,
            workflows=[Script],
            activities=[skipping.effects.effect],
            plugins=[
                DedupePlugin(
                    organization=skipping.organization,
                    project=skipping.project,
                    task_queue=skipping.key_queue,
                )
            ],
        )

    queues = [f"queue-{uuid4()}", f"queue-{uuid4()}"]
    async with skipping.worker():
        assert (await skipping.call()).error == "ActivityError"
        monkeypatch.setattr(KeyHandle, "acquire", start_late)
        monkeypatch.setattr(KeyHandle, "read", read_together)
        async with worker(queues[0]), worker(queues[1]):
            [[[first]], [[other]]] = await skipping.run(OnTwoQueues.run, queues)
    assert first == other
    assert len(skipping.effects.attempts) == 2


def test_one_plugin_serves_one_event_loop_after_the_other(
    skipping_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """As where a plugin is made once in a module, and each test has an event loop of its own."""
    address = skipping_client.service_client.config.target_host
    plugin = DedupePlugin(organization=f"org-{uuid4()}", project="web", task_queue=f"keys-{uuid4()}")

    async def scenario(key: str) -> Any:
        effects = Effects()
        client = await Client.connect(address, data_converter=pydantic_data_converter, plugins=[plugin])
        async with Worker(client, task_queue="jobs", workflows=[Script], activities=[effects.effect]):
            return await client.execute_workflow(
                Script.run, [[Call(key=key)] * 5], id=f"job-{uuid4()}", task_queue="jobs"
            )

    with caplog.at_level(logging.WARNING):
        assert [asyncio.run(scenario(key)) for key in "ab"] == [[[returned("argument")] * 5]] * 2
    assert "event loop" not in caplog.text
