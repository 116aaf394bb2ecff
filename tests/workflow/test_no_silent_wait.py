"""A call that waits says for what: in the pages of its own job, and in the log where nothing moves."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import ApplicationError

import dedupe
from dedupe.plugin import DedupePlugin
from tests.support.ground import Ground
from tests.support.scripts import Call, Script
from tests.support.servers import with_plugins
from tests.support.waiting import until


@workflow.defn
class Elsewhere:
    """Calls an activity on another task queue."""

    @workflow.run
    async def run(self, queue: str) -> str:
        """Call it."""
        result: str = await dedupe.execute_activity(
            "effect",
            "argument",
            result_type=str,
            deduplication_key="key",
            task_queue=queue,
            start_to_close_timeout=timedelta(seconds=60),
        )
        return result


async def says(job: WorkflowHandle[object, object], expected: Callable[[str], bool]) -> str:
    """Return what a job's pending activities say, once it is what is expected; within ten seconds or so."""
    said = ""

    async def has() -> bool:
        nonlocal said
        pending = (await job.describe()).raw_description.pending_activities
        details = [payload.data.decode() for each in pending for payload in each.heartbeat_details.payloads]
        said = "\n".join([*(each.last_failure.message for each in pending), *details])
        return expected(said)

    await until(has, within=timedelta(seconds=14), what=f"the story in {said!r}")
    return said


async def test_nobody_has_the_activity(real: Ground, caplog: pytest.LogCaptureFixture) -> None:
    """A task queue without a worker is named."""
    async with real.worker(workflows=[Elsewhere]):
        job = await real.start(Elsewhere.run, "nobody")
        await says(job, lambda said: "attempt 1 waits for a worker of task queue 'nobody'" in said)
        await until(lambda: _logged(caplog, "waits for a worker of task queue 'nobody'"))
        await job.terminate()


async def test_nobody_serves_the_keys(real: Ground, real_client: Client) -> None:
    """The task queue of the keys is named, where the execution is delegated and nobody serves it."""
    plugin = DedupePlugin(
        organization=real.organization, project="web", task_queue=real.key_queue, serve=False
    )
    async with real.worker(workflows=[Elsewhere], client=with_plugins(real_client, plugin)):
        job = await real.start(Elsewhere.run, "nobody")
        said = await says(job, lambda said: f"waits for a worker of task queue '{real.key_queue}'" in said)
        assert "does a process serve the keys?" in said
        await job.terminate()


async def test_attempts_that_fail_are_told_to_those_who_wait(real: Ground) -> None:
    """Who executes, which attempt comes next, and why the last one failed."""
    real.effects.then(ApplicationError("the bank says no"))
    async with real.worker():
        owner = await real.start_script(Call(attempts=3, backoff=timedelta(minutes=1)))
        await real.effects.seen(1)
        joined = await real.start_script(Call())
        said = await says(joined, lambda said: "the last one failed: the bank says no" in said)
        assert f"job '{owner.id}' executes it: attempt 2 is due at " in said
        for job in (owner, joined):
            await job.terminate()


async def test_an_attempt_that_runs_is_told_to_those_who_wait(real: Ground) -> None:
    """The worker that executes is named."""
    gate = real.effects.close()
    async with real.worker():
        await real.start(Script.run, [[Call()]])
        await real.effects.seen(1)
        joined = await real.start_script(Call())
        await says(joined, lambda said: f"attempt 1 runs on worker {real.client.identity}" in said)
        gate.set()
        await joined.result()


async def _logged(caplog: pytest.LogCaptureFixture, words: str) -> bool:
    return words in caplog.text
