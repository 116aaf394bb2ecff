"""What the page of a job says of its calls, in the Web UI."""

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError

import dedupe
from tests.support.ground import Ground
from tests.support.scripts import Call


async def page_of(job: WorkflowHandle[Any, Any]) -> str:
    """Return the current details that the Web UI shows."""
    metadata: WorkflowMetadata = await job.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    return metadata.current_details


@workflow.defn
class Describing:
    """A job with details of its own."""

    @workflow.run
    async def run(self, details: str) -> list[str]:
        """Set them between two calls; return what they were before and after each."""
        seen = [workflow.get_current_details()]
        for key in ("first", "second"):
            await dedupe.execute_activity(
                "effect", "argument", deduplication_key=key, start_to_close_timeout=timedelta(seconds=10)
            )
            seen.append(workflow.get_current_details())
            workflow.set_current_details(details)
            seen.append(workflow.get_current_details())
        return seen


async def test_the_page_of_a_job_says_how_its_calls_were_answered(cached_or_not: Ground) -> None:
    """Key, activity, answer, and whose execution it was; also once the job has ended."""
    ground = cached_or_not
    ground.effects.then(ApplicationError("no funds", type="Declined"))
    async with ground.worker():
        await ground.call(Call(key="failing"))
        await ground.call(Call(key="`code`\nof two lines"))
        await ground.script(
            Call(key="failing", skip_failure=True), Call(key="`code`\nof two lines"), Call(key="new")
        )
        first, _, last = ground.jobs
        assert await page_of(first) == ("Calls with a deduplication key:\n\n- `failing`: `effect`, failed")
        assert await page_of(last) == (
            "Calls with a deduplication key:\n\n"
            f"- `failing`: `effect`, failed, executed by `{first.id}`\n"
            f"- `'code' of two lines`: `effect`, reused, executed by `{ground.jobs[1].id}`\n"
            "- `new`: `effect`, executed"
        )


async def test_the_page_shows_the_latest_calls(ground: Ground) -> None:
    """And how many there were."""
    async with ground.worker():
        await ground.script([Call(key=f"key-{number}") for number in range(15)], [Call() for _ in range(8)])
        head, _, *lines = (await page_of(ground.jobs[0])).splitlines()
    assert head == "The last 20 of 23 calls with a deduplication key:"
    assert len(lines) == 20
    assert lines[-1].startswith("- `key`: `effect`, ")


async def test_a_long_key_is_cut(ground: Ground) -> None:
    """So that a page of twenty stays a page."""
    async with ground.worker():
        await ground.call(Call(key="k" * 900))
        assert await page_of(ground.jobs[0]) == (
            f"Calls with a deduplication key:\n\n- `{'k' * 100}…`: `effect`, executed"
        )


async def test_details_of_the_users_own_stay(ground: Ground) -> None:
    """A job that says something itself says that alone."""
    details = "step 2 of 3"
    async with ground.worker(workflows=[Describing]):
        seen = await ground.run(Describing.run, details)
        assert await page_of(ground.jobs[0]) == details
    ours = "Calls with a deduplication key:\n\n- `first`: `effect`, executed"
    assert seen == ["", ours, details, details, details]
