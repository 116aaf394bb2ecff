"""What the history of a job says of its calls, seen from outside."""

from datetime import timedelta

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from dedupe import Happened, JobCall, calls_of
from tests.support.ground import Ground, Grounds
from tests.support.scripts import Call
from tests.support.waiting import until


def said(calls: list[JobCall]) -> list[tuple[str, str, str]]:
    """Return which key, which activity, and how."""
    return [(call.key_workflow_id.rpartition(":")[2], call.activity, call.answer) for call in calls]


async def listed(ground: Ground, job: int = -1) -> list[JobCall]:
    """Return the calls of a job."""
    return [call async for call in calls_of(ground.client, ground.jobs[job].id)]


async def test_each_call_and_its_answer(ground: Ground) -> None:
    """Executed, reused and failed, in the order of the answers; plain calls are none."""
    ground.effects.then("one", ApplicationError("no such card", type="Refused", non_retryable=True))
    async with ground.worker():
        await ground.script(
            Call(key="new"),
            Call(key="new"),
            Call(key="refused", activity="other"),
            Call(key="refused", activity="other", skip_failure=True),
            Call(key=None),
        )
        calls = await listed(ground)
    assert said(calls) == [
        ("new", "effect", "executed"),
        ("new", "effect", "reused"),
        ("refused", "other", "failed"),
        ("refused", "other", "failed"),
    ]
    assert "no such card" in (calls[2].detail or "")
    assert "no such card" in (calls[3].detail or "")


async def test_a_call_that_waits_says_for_what(real: Ground) -> None:
    """Its own attempt, or whom it waits for."""
    gate = real.effects.close()
    async with real.worker():
        await real.start_script(Call(argument="owner"))
        await real.effects.seen(1)
        await real.start_script(Call(argument="other"))
        await real.claiming(1)
        assert said(await listed(real, 0)) == [("key", "effect", "pending")]
        assert "attempt 1 runs on worker" in ((await listed(real, 0))[0].detail or "")
        assert said(await listed(real)) == [("key", "effect", "pending")]
        gate.set()
        for job in real.jobs:
            await job.result()
        assert said(await listed(real, 0)) == [("key", "effect", "executed")]
        assert said(await listed(real)) == [("key", "effect", "joined")]


async def test_a_call_whose_key_is_held_says_so(real: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has not failed: it waits for somebody who knows what happened."""
    monkeypatch.setattr("dedupe.claims.claim._TELL_AFTER", timedelta(0))
    real.effects.close()
    async with real.worker():
        await real.start_script(Call(on_unknown="hold", start_to_close_timeout=timedelta(seconds=1)))

        async def is_told() -> bool:
            calls = await listed(real)
            return said(calls) == [("key", "effect", "pending")] and "it is held" in (calls[0].detail or "")

        await until(is_told, what="the story of the held key")
        await real.keys.resolve("key", Happened("told"), force=True)
        await real.jobs[0].result()
        assert said(await listed(real)) == [("key", "effect", "joined")]


async def test_calls_of_a_job_that_gathers(real: Ground) -> None:
    """Known keys come out of one peek, each with its name."""
    async with real.worker():
        await real.script([Call(key=f"k-{number}") for number in range(3)])
        await real.script([Call(key=f"k-{number}") for number in range(3)])
        assert said(await listed(real)) == [(f"k-{number}", "effect", "reused") for number in range(3)]


async def test_what_is_encrypted_is_read_with_the_converter(real_grounds: Grounds) -> None:
    """Hidden keys are shown as their HMAC."""
    ground = real_grounds(key_secret=b"not to be told")
    async with ground.worker():
        await ground.call(Call(key="secret"))
        [call] = await listed(ground)
    assert call.answer == "executed"
    assert "secret" not in call.key_workflow_id


async def test_a_job_that_is_not_there(real: Ground) -> None:
    """The service's word for it."""
    with pytest.raises(RPCError):
        _ = [call async for call in calls_of(real.client, "nobody")]


async def test_a_call_that_failed_again_and_again_shows_the_last_error(real: Ground) -> None:
    """While its next attempt is not due yet."""
    real.effects.then(ApplicationError("the bank says no"))
    async with real.worker():
        await real.start_script(Call(attempts=2, backoff=timedelta(hours=1)))
        await real.effects.seen(1)

        async def fails() -> bool:
            [call] = await listed(real)
            return "the bank says no" in (call.detail or "")

        await until(fails, what="the failure of the first attempt")
