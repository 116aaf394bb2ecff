"""An activity that starts a job, which asks for the key of the execution that has started it."""

import asyncio
from datetime import timedelta

import pytest
from temporalio import activity, workflow
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

import dedupe
from tests.support.ground import Ground


@activity.defn
async def starts(jobs: list[str]) -> str:
    """Start the first of some jobs, hand it the others, and return how it ended."""
    job, *others = jobs
    client, info = activity.client(), activity.info()
    try:
        ended: object = await client.execute_workflow(
            job, others, id=f"{info.workflow_run_id}-{job}", task_queue=info.task_queue
        )
    except WorkflowFailureError as error:
        failure: BaseException = error
        while failure.__cause__ is not None:
            failure = failure.__cause__
        return failure.message if isinstance(failure, ApplicationError) else repr(failure)
    return str(ended)


async def _call(jobs: list[str], key: str) -> str:
    return await dedupe.execute_activity(
        starts, jobs, deduplication_key=key, start_to_close_timeout=timedelta(seconds=30)
    )


@workflow.defn
class Outer:
    """Has a job started, under the key "outer"."""

    @workflow.run
    async def run(self, jobs: list[str]) -> str:
        """Call the activity."""
        return await _call(jobs, "outer")


@workflow.defn
class Middle:
    """Has another job started, under the key "middle"."""

    @workflow.run
    async def run(self, jobs: list[str]) -> str:
        """Call the activity."""
        return await _call(jobs, "middle")


@workflow.defn
class Parent:
    """Has a child of its own run a job, after it has begun anew."""

    @workflow.run
    async def run(self, jobs: list[str]) -> str:
        """Go on, then start the child."""
        if not workflow.info().continued_run_id:
            workflow.continue_as_new(jobs)
        return str(await workflow.execute_child_workflow(jobs[0], jobs[1:], id=f"{workflow.info().run_id}-c"))


@workflow.defn
class Plain:
    """Calls nothing that has a key."""

    @workflow.run
    async def run(self, jobs: list[str]) -> str:
        """Return."""
        return f"plain {jobs}"


WORKFLOWS = [Outer, Middle, Parent, Plain]


@pytest.mark.parametrize(
    "way",
    [["Outer"], ["Middle", "Outer"], ["Parent", "Outer"], ["Parent", "Parent", "Middle", "Outer"]],
    ids="-".join,
)
@pytest.mark.parametrize("in_place", [True, False], ids=["in-place", "delegated"])
async def test_a_call_inside_its_own_execution_is_refused(
    ground: Ground, way: list[str], *, in_place: bool
) -> None:
    """It is refused at once, however many jobs lie between; the execution learns of it and goes on."""
    ground = ground.beside(in_place=in_place)
    async with ground.worker(workflows=WORKFLOWS, activities=[starts]):
        ended = await asyncio.wait_for(ground.run(Outer.run, way), 20)
    assert "'outer' is invalid: its job was started by the execution of this very key" in ended


async def test_another_key_inside_an_execution_is_not(ground: Ground) -> None:
    """A job that an execution has started may call what it likes, under other keys."""
    async with ground.worker(workflows=WORKFLOWS, activities=[starts]):
        assert await ground.run(Outer.run, ["Middle", "Plain"]) == "plain []"
        # What has ended is no circle: the record answers.
        assert await ground.run(Middle.run, ["Plain"]) == "plain []"
