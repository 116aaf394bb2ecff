"""Records whose time is over, beside all else that may happen to a key."""

from datetime import timedelta

import pytest
from temporalio.exceptions import ApplicationError

from tests.support.ends import is_open
from tests.support.ground import Ground, Grounds
from tests.support.scripts import Call, returned
from tests.support.waiting import until

SECOND = timedelta(seconds=1)


async def test_a_record_answers_nobody_once_its_time_is_over(real_grounds: Grounds) -> None:
    """Though nobody serves the keys, so that its workflow is still open: readers judge by their own clock."""
    ground = real_grounds(serve=False)
    async with ground.worker():
        assert await ground.call(Call(argument="old", ttl=SECOND)) == returned("old")
        await until(lambda: _has_expired(ground))
        assert await is_open(ground.server, ground.key_id())
        assert not await ground.keys.forget("key")
        assert await ground.call(Call(argument="new")) == returned("new")
    assert ground.effects.generations == [1, 1]
    assert len(set(ground.effects.idempotency_keys)) == 2


async def test_after_a_downtime_no_record_answers_whose_time_is_over(real_grounds: Grounds) -> None:
    """The first worker to come has jobs waiting for it."""
    ground = real_grounds()
    keys = [f"key-{number}" for number in range(20)]
    async with ground.worker():
        await ground.script([Call(key=key, argument="old", ttl=SECOND) for key in keys])

    async def all_have_expired() -> bool:
        return all([await _has_expired(ground, key) for key in keys])

    await until(all_have_expired)
    job = await ground.start_script([Call(key=key, argument="new") for key in keys])
    async with ground.worker():
        assert await job.result() == [[returned("new")] * 20]


@pytest.mark.parametrize("slots", [100, 3], ids=["follow", "come back"])
async def test_a_record_that_runs_out_before_it_is_read_answers_all_who_waited(
    real: Ground, slots: int
) -> None:
    """Those who waited for an execution have its result, though they look when it is kept no more."""
    gate = real.effects.close()
    async with real.worker(max_concurrent_activities=slots):
        owner = await real.start_script(Call(argument="first", ttl=SECOND / 10))
        await real.effects.seen(1)
        other = await real.start_script([Call()] * 3)
        await real.claiming(3)
        gate.set()
        assert await owner.result() == [[returned("first")]]
        assert await other.result() == [[returned("first")] * 3]
        await until(lambda: _has_expired(real))
        assert await real.call(Call(argument="second")) == returned("second")
    assert real.effects.arguments == ["first", "second"]


async def test_jobs_that_call_as_a_failure_expires_execute_once(real: Ground) -> None:
    """Whether they find the failure or nothing: one of them executes, and the others share that."""
    real.effects.then(ApplicationError("no", non_retryable=True))
    async with real.worker():
        await real.call(Call(ttl=SECOND))
        jobs = [
            await real.start_script(Call(argument=number, after=number * SECOND / 5)) for number in range(10)
        ]
        [first, *others] = [await job.result() for job in jobs]
    assert others == [first] * 9
    assert len(real.effects.attempts) == 2


async def _has_expired(ground: Ground, key: str = "key") -> bool:
    return await ground.keys.get(key) is None
