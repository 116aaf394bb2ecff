"""Crowds: a job of many hits, and a key that many want at once."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError

import dedupe
from tests.support.ground import Ground, Grounds
from tests.support.scripts import Call, returned
from tests.support.waiting import until


@workflow.defn
class ManyHits:
    """Makes the same call again and again."""

    @workflow.run
    async def run(self, calls: int, at_once: bool) -> int:  # noqa: FBT001 - a workflow's input
        """Return the length of all results; all of them would be too long for one."""
        if at_once:
            return sum(await asyncio.gather(*(self._length() for _ in range(calls))))
        return sum([await self._length() for _ in range(calls)])

    async def _length(self) -> int:
        result: str = await dedupe.execute_activity(
            "effect", "", deduplication_key="key", start_to_close_timeout=timedelta(seconds=60)
        )
        return len(result)


@pytest.mark.parametrize(
    ("calls", "length", "at_once"), [(200, 31_000, True), (200, 31_000, False), (1_000, 5_000, False)]
)
async def test_a_job_may_hit_as_often_as_it_likes(
    real: Ground, *, calls: int, length: int, at_once: bool
) -> None:
    """All answers of one workflow task travel together; more than 4 MB of them would end the job."""
    real.effects.then("x" * length)
    async with real.worker(workflows=[ManyHits]):
        await real.call()
        assert await real.run(ManyHits.run, args=[calls, at_once]) == calls * length
    assert len(real.effects.attempts) == 1


async def test_a_call_that_waits_for_many_slices_leaves_the_key_as_it_is(real_grounds: Grounds) -> None:
    """It looks again after each of them, and tells the key nothing."""
    ground = real_grounds(wait_slice=timedelta(seconds=1))
    gate = ground.effects.close()
    async with ground.worker():
        owner = await ground.start_script(Call())
        await ground.effects.seen(1)
        waiting = await ground.start_script(Call())
        await until(lambda: _is_in_attempt(waiting, 5))
        assert len((await ground.key_workflow().fetch_history()).events) == 1
        gate.set()
        assert await waiting.result() == await owner.result() == [[returned("argument")]]


async def _is_in_attempt(job: WorkflowHandle[Any, Any], attempt: int) -> bool:
    description = await job.describe()
    return any(each.attempt >= attempt for each in description.raw_description.pending_activities)


@pytest.mark.parametrize("failing", [False, True], ids=["new", "failed before"])
async def test_a_crowd_executes_once(real: Ground, *, failing: bool) -> None:
    """Many more calls than may follow the key, in one job and in many: one executes, and all have its
    result.
    """
    if failing:
        real.effects.then(ApplicationError("no", non_retryable=True))
    async with real.worker(max_concurrent_activities=20):
        if failing:
            assert (await real.call()).error == "ActivityError"
        gate = real.effects.close()
        crowd = await real.start_script([Call()] * 60)
        jobs = [await real.start_script(Call()) for _ in range(20)]
        await real.effects.seen(1 + failing)
        gate.set()
        assert await crowd.result() == [[returned("argument")] * 60]
        assert [await job.result() for job in jobs] == [[[returned("argument")]]] * 20
    assert real.effects.generations == [*([1] if failing else []), 1 + failing]
    assert len((await real.key_workflow().fetch_history()).events) == 2


async def test_a_large_failure_answers_all_who_ask(real: Ground) -> None:
    """It fits into no marker together with others: each has it through a claim."""
    real.effects.then(ApplicationError("no", "x" * 1_300_000, type="Large", non_retryable=True))
    async with real.worker():
        await real.call()
        [ends] = await real.script([Call(skip_failure=True)] * 20)
    assert {end.failed for end in ends} == {"Large"}
    assert len(real.effects.attempts) == 1
