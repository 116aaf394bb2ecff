"""Two things at once, or an answer that comes late: races that each test brings about on purpose."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.client import AsyncActivityHandle
from temporalio.service import RPCError

import dedupe.settle
from dedupe import KeyState
from dedupe.claim import Claim, Claims
from dedupe.messages import FORGET, SETTLE, Sighting
from tests.support.ground import Ground, Grounds
from tests.support.histories import markers, signals, types
from tests.support.scripts import Call, Ended, returned
from tests.support.waiting import until


@activity.defn(name="left-open")
async def left_open(argument: Any) -> Any:
    """Leave the end to somebody else."""
    del argument
    activity.raise_complete_async()


async def left_open_activity(ground: Ground, key: str = "key") -> Any:
    """Return a handle of the key's open activity, as soon as it is left open."""
    history = await ground.key_workflow(key).fetch_history()
    [scheduled] = [
        event.activity_task_scheduled_event_attributes
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    ]
    return ground.server.get_async_activity_handle(
        workflow_id=ground.key_id(key), run_id=None, activity_id=scheduled.activity_id
    )


async def is_left_open(ground: Ground, key: str = "key") -> bool:
    """Return whether the key's activity has been started."""
    record = await ground.keys.get(key)
    if record is None:
        return False
    description = await ground.key_workflow(key).describe()
    return any(each.attempt == 1 and each.last_started_time.seconds > 0 for each in pending(description))


def pending(description: Any) -> Sequence[Any]:
    """Return the pending activities of a workflow."""
    found: Sequence[Any] = description.raw_description.pending_activities
    return found


async def test_an_activity_may_end_without_a_result(real: Ground) -> None:
    """A completion without a payload, as void activities of other languages send, is the result None."""
    async with real.worker(activities=[left_open]):
        job = await real.start_script(Call(activity="left-open"))
        await until(lambda: is_left_open(real))
        await (await left_open_activity(real)).complete()
        assert await job.result() == [[returned(None)]]
        assert await real.call(Call(activity="left-open")) == returned(None)


async def test_a_cancel_beside_a_completion_is_told_and_keeps_the_idempotency_key(real: Ground) -> None:
    """Where an operator's cancel and the activity's end reach the key's workflow at once, its callers hear of
    the cancellation, and the next execution goes on with the same idempotency key.
    """
    async with real.worker(activities=[left_open]):
        job = await real.start_script(Call(activity="left-open"))
        await until(lambda: is_left_open(real))
    record = await real.keys.get("key")
    assert record is not None
    await (await left_open_activity(real)).complete("done")
    await real.key_workflow().cancel()
    async with real.worker(activities=[left_open]):
        [[ended]] = await job.result()
        assert (ended.error, ended.activity) == ("ActivityError", "left-open")
        assert ended.type in {None, "CancelledError"}
        again = await real.start_script(Call(activity="left-open"))
        await until(lambda: is_left_open(real))
        after = await real.keys.get("key")
        assert after is not None
        assert after.idempotency_key == record.idempotency_key
        await (await left_open_activity(real)).complete("again")
        assert await again.result() == [[returned("again")]]


@pytest.mark.parametrize("force", [False, True], ids=["forget", "force"])
async def test_a_forget_beside_a_completion_is_not_lost(grounds: Grounds, *, force: bool) -> None:
    """A key whose success is recorded can be forgotten, though its workflow hears of the forget first."""
    ground = grounds(max_cached_workflows=0)
    async with ground.worker(activities=[left_open]):
        await ground.start_script(Call(activity="left-open"))
        await until(lambda: is_left_open(ground))
    await (await left_open_activity(ground)).complete("done")
    record = await ground.keys.get("key")
    assert record is not None
    assert record.state is KeyState.SUCCEEDED
    forgetting = asyncio.create_task(ground.keys.forget("key", force=force))
    await until(lambda: has_come(ground, FORGET))
    async with ground.worker(activities=[left_open]):
        assert await forgetting
        assert await ground.keys.get("key") is None
        # By force, the job was told to claim again; and where time is skipped, waiting would leap over it.
        if not (force or ground.skips_time):
            assert await ground.jobs[0].result() == [[returned("done")]]
            assert await ground.call() == returned("argument")


async def has_come(ground: Ground, signal: str) -> bool:
    """Return whether the key's workflow has been sent a signal."""
    return signal in signals(await ground.key_workflow().fetch_history())


async def test_a_claim_that_comes_back_before_the_run_has_closed_is_told_again(
    real: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key dropped by force tells its callers to claim again. A claim that comes back while the old run
    still closes is told so once more, and does not wait for its wait slice to pass.
    """
    tell = dedupe.settle._tell

    async def tell_slowly(client: Any, waiter: Any, reply: Any) -> Any:
        told = await tell(client, waiter, reply)
        await asyncio.sleep(1)  # as where thousands are told, or the service stalls
        return told

    monkeypatch.setattr(dedupe.settle, "_tell", tell_slowly)
    real.effects.close()
    async with real.worker():
        first = await real.start_script(Call())
        await real.effects.seen(1)
        second = await real.start_script(Call())
        await real.signalled(1)
        await first.terminate()
        real.effects.gate = None
        assert await real.keys.forget("key", force=True)
        async with asyncio.timeout(20):
            assert await second.result() == [[returned("argument")]]


async def test_a_claim_told_too_late_to_claim_again_has_timed_out(
    real: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that is told to claim again, but has no time left for it, times out as its activity would; the
    error says nothing of claims.
    """
    monkeypatch.setattr(dedupe.settle, "_RECLAIM_DELAY", timedelta(minutes=1))
    real.effects.close()
    async with real.worker():
        job = await real.start_script(Call(schedule_to_close_timeout=timedelta(seconds=20)))
        await real.effects.seen(1)
        assert await real.keys.forget("key", force=True)
        [[ended]] = await job.result()
    assert (ended.error, ended.type, ended.activity) == ("ActivityError", "SCHEDULE_TO_CLOSE", "effect")


async def test_a_late_answer_reaches_no_other_call_of_the_same_activity_id(real: Ground) -> None:
    """A job may use an activity id again after a time-out: the late answer to the first call is not taken for
    that of the next.
    """
    gate = real.effects.close()
    async with real.worker(activities=[left_open]):
        job = await real.start_script(
            Call(key="key", activity_id="x", schedule_to_close_timeout=timedelta(seconds=3)),
            Call(key="other", activity_id="x", activity="left-open"),
            Call(key=None, activity_id="x", activity="left-open"),
        )
        await until(lambda: is_left_open(real, "other"))
        gate.set()
        await until(lambda: is_settled(real))
        await (await left_open_activity(real, "other")).complete("other")
        plain = real.server.get_async_activity_handle(workflow_id=job.id, run_id=None, activity_id="x")
        await until(lambda: completed(plain, "plain"))
        [[first], [other], [last]] = await job.result()
    assert (first.error, first.type) == ("ActivityError", "SCHEDULE_TO_CLOSE")
    assert (other, last) == (returned("other"), returned("plain"))


async def is_settled(ground: Ground) -> bool:
    """Return whether the key is settled, and all that waited for it were told."""
    return SETTLE in markers(await ground.key_workflow().fetch_history())


async def completed(activity: AsyncActivityHandle, result: str) -> bool:
    """Complete an activity as soon as it is there."""
    try:
        await activity.complete(result)
    except RPCError:
        return False
    return True


def hold_the_first_claim(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Keep the first claim from looking at its key. Return what says that it is held, and what lets it go."""
    held, released = asyncio.Event(), asyncio.Event()
    claim_key = Claims.claim

    async def claim_late(claims: Claims, claim: Claim, sighting: Sighting) -> Payload:
        if not held.is_set():
            held.set()
            await released.wait()
        return await claim_key(claims, claim, sighting)

    monkeypatch.setattr(Claims, "claim", claim_late)
    return held, released


async def test_a_late_claim_learns_of_an_execution_that_was_cut_off(
    real: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim whose peek saw an unknown key takes up the idempotency key of what was executed meanwhile."""
    held, released = hold_the_first_claim(monkeypatch)
    real.effects.close()
    async with real.worker():
        late = await real.start_script(Call())
        await held.wait()
        cut_off = await real.start_script(Call())
        await real.effects.seen(1)
        await cut_off.terminate()
        await real.key_workflow().terminate()
        real.effects.gate = None
        released.set()
        assert await late.result() == [[returned("argument")]]
    first, second = real.effects.idempotency_keys
    assert first == second


async def test_a_late_claim_keeps_no_idempotency_key_of_a_life_before(
    real: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim whose peek saw an execution cut off does not go on with it if the key was forgotten since."""
    async with real.worker():
        await real.call()
        await real.key_workflow().terminate()
        held, released = hold_the_first_claim(monkeypatch)
        late = await real.start_script(Call())
        await held.wait()
        await real.call()
        assert await real.keys.forget("key")
        released.set()
        assert await late.result() == [[returned("argument")]]
    first, second, third = real.effects.idempotency_keys
    assert first == second != third


async def test_a_conflict_is_told_while_the_key_executes(real: Ground) -> None:
    """Of two activities that race for one new key, the loser fails at once, before the other ends."""
    gate = real.effects.close()
    async with real.worker():
        job = await real.start_script([Call(), Call(activity="other")])

        async def refused() -> bool:
            history = await real.history(job)
            return EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED in types(history)

        await until(refused)
        gate.set()
        ends: list[Ended] = (await job.result())[0]
    assert sorted(str(end.error) for end in ends) == ["DeduplicationConflictError", "None"]
    assert len(real.effects.attempts) == 1
