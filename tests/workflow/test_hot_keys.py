"""Many at once: a job of many hits, and a key that many join. No cost is their number times a payload."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError

import dedupe
from dedupe.messages import ATTACH, RERUN
from tests.support.ground import Ground, Grounds
from tests.support.histories import markers, signals
from tests.support.messages import join, told
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


async def test_a_call_that_waits_for_many_slices_leaves_the_key_as_it_is(
    real_grounds: Grounds,
) -> None:
    """It looks again after each of them, and what it tells the key is the same message each time."""
    ground = real_grounds(wait_slice=timedelta(seconds=1))
    gate = ground.effects.close()
    async with ground.worker():
        owner = await ground.start_script(Call())
        await ground.effects.seen(1)
        waiting = await ground.start_script(Call())
        await until(lambda: _is_in_attempt(waiting, 5))
        assert signals(await ground.key_workflow().fetch_history()) in (
            [ATTACH],
            [ATTACH, ATTACH],  # the owner's, too
        )
        gate.set()
        assert await waiting.result() == await owner.result() == [[returned("argument")]]


async def _is_in_attempt(job: WorkflowHandle[Any, Any], attempt: int) -> bool:
    description = await job.describe()
    return any(each.attempt >= attempt for each in description.raw_description.pending_activities)


async def test_many_that_execute_a_failure_again_ask_once(real: Ground) -> None:
    """Their arguments are in the message, up to 2 MB each; all but the first would be for nothing."""
    real.effects.then(ApplicationError("no", non_retryable=True))
    async with real.worker():
        await real.call()
        gate = real.effects.close()
        job = await real.start_script([Call()] * 20)
        await until(lambda: _have_joined(real, 20))
        gate.set()
        assert await job.result() == [[returned("argument")] * 20]
    assert signals(await real.key_workflow().fetch_history()).count(RERUN) == 1
    assert real.effects.generations == [1, 2]


async def _have_joined(ground: Ground, claims: int) -> bool:
    return signals(await ground.key_workflow().fetch_history()).count(ATTACH) >= claims


async def test_large_arguments_are_fingerprinted_once(real: Ground) -> None:
    """A task in which that takes two seconds is given up by the SDK, and so is every one that follows it."""
    gate = real.effects.close()
    large = list(range(200_000))  # 1.4 MB
    async with real.worker():
        job = await real.start_script(Call(argument=large, on_mismatch="raise"))
        await real.effects.seen(1)
        await join(real, 150, fingerprint="another")
        real.effects.gate = None
        gate.set()
        async with asyncio.timeout(30):
            assert await job.result() == [[returned(large)]]


async def test_a_large_failure_is_encoded_once(real: Ground) -> None:
    """As above, for what those are told who join a key that has failed at length."""
    real.effects.then(ApplicationError("no", "x" * 1_300_000, non_retryable=True))
    async with real.worker():
        assert (await real.call()).error == "ActivityError"
        await join(real, 600, skip_failure=True)
        async with asyncio.timeout(30):
            assert await real.call() == returned("argument")


async def test_those_who_join_late_are_told_together(real: Ground) -> None:
    """Claims that join a settled key at once are told in batches, as those are that had waited for it."""
    async with real.worker():
        await real.call()
    await join(real, 300, ago=timedelta(hours=1))
    async with real.worker():
        await told(real)
    assert len(markers(await real.key_workflow().fetch_history())) == 1 + 3
