"""Records whose time is over, beside all else that may happen to a key."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.exceptions import ApplicationError

import dedupe.settle
from dedupe.messages import FORGET
from tests.support.ground import Ground, Grounds
from tests.support.histories import types
from tests.support.scripts import Call, returned
from tests.support.waiting import until

SECOND = timedelta(seconds=1)


async def test_a_record_answers_nobody_once_its_time_is_over(real_grounds: Grounds) -> None:
    """Though its workflow has not come to close the run, since nobody serves the keys."""
    ground = real_grounds()
    async with ground.worker():
        assert await ground.call(Call(argument="old", ttl=SECOND)) == returned("old")
    beside = ground.beside(serve=False)
    beside.effects = ground.effects
    await until(lambda: _has_expired(ground))
    assert await ground.keys.get("key") is None
    async with beside.worker():
        job = await beside.start_script(Call(argument="new"))
        await beside.claiming(1)
        async with ground.worker():
            assert await job.result() == [[returned("new")]]


async def test_after_a_downtime_no_record_answers_whose_time_is_over(real_grounds: Grounds) -> None:
    """The first worker to come serves the keys as well, and has jobs waiting for it."""
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


@pytest.mark.parametrize("failing", [False, True], ids=["succeeded", "failed"])
async def test_a_forget_beside_the_expiry_ends_one_life(real: Ground, *, failing: bool) -> None:
    """Where both reach the key's workflow in one task, the next call executes, and begins anew."""
    if failing:
        real.effects.then(ApplicationError("no", non_retryable=True))
    async with real.worker():
        await real.call(Call(ttl=SECOND))
    await real.key_workflow().signal(FORGET, {})
    await until(lambda: _has_expired(real))
    async with real.worker():
        assert await real.call() == returned("argument")
    assert real.effects.generations == [1, 1]
    assert len(set(real.effects.idempotency_keys)) == 2


async def test_a_record_that_runs_out_while_it_is_told_reaches_all_who_waited(
    real: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who waited have the result, though it takes longer to tell them than it is kept."""
    tell = dedupe.settle._tell

    async def tell_slowly(client: Any, waiter: Any, reply: Any) -> Any:
        await asyncio.sleep(2)
        return await tell(client, waiter, reply)

    monkeypatch.setattr(dedupe.settle, "_tell", tell_slowly)
    gate = real.effects.close()
    async with real.worker():
        job = await real.start_script([Call(argument="first", ttl=SECOND)] * 3)
        await real.effects.seen(1)
        await real.signalled(2)
        gate.set()
        assert await job.result() == [[returned("first")] * 3]
        await real.closed()
        assert await real.call(Call(argument="second")) == returned("second")
    assert real.effects.arguments == ["first", "second"]


async def test_a_call_that_joins_while_the_record_runs_out_is_answered(real: Ground) -> None:
    """A request to execute a failure again that comes with its expiry is carried out, or made anew; once."""
    real.effects.then(ApplicationError("no", non_retryable=True))
    beside = real.beside(serve=False)
    beside.effects = real.effects
    async with real.worker():
        await real.call(Call(ttl=2 * SECOND))
    async with beside.worker():
        jobs = [await beside.start_script(Call(argument=number)) for number in range(3)]
        for job in jobs:
            await beside.claiming(1, job)
        await until(lambda: _has_expired(real))
        async with real.worker():
            [first, *others] = [await job.result() for job in jobs]
    assert others == [first] * 2
    assert len(real.effects.attempts) == 2


async def _has_expired(ground: Ground, key: str = "key") -> bool:
    history = await ground.key_workflow(key).fetch_history()
    return EventType.EVENT_TYPE_TIMER_FIRED in types(history)
