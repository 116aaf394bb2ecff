"""Failures reach a call as they would without a key."""

from datetime import datetime, timedelta

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError

from dedupe import KeyState
from tests.support.ground import Ground, Grounds
from tests.support.scripts import Call, returned
from tests.workflow.failures import WAYS, Fields, Look, RaiseAfterAll, fail

_LARGEST = 2 * 1024 * 1024
"""Bytes that the service takes of a payload, with its metadata: 36 of a text."""


@pytest.mark.parametrize("how", WAYS)
async def test_a_failure_is_what_a_plain_call_would_raise(ground: Ground, how: str) -> None:
    """The error of a deduplicated call, fresh or recorded, raised or returned, has the activity, the retry
    state, and the whole chain of causes of an undeduplicated one.
    """
    async with ground.worker(workflows=[Look], activities=[fail]):
        plain, *deduplicated = await ground.run(Look.run, how)
    assert deduplicated == [plain] * 3


async def test_a_skipped_failure_can_be_raised_after_all(ground: Ground) -> None:
    """`FailedResult.error` is the error itself: raised, it fails the job as an undeduplicated call would."""
    async with ground.worker(workflows=[RaiseAfterAll], activities=[fail]):
        for _ in range(2):
            with pytest.raises(WorkflowFailureError) as caught:
                await ground.run(RaiseAfterAll.run)
            error = caught.value.cause
            assert isinstance(error, ActivityError)
            assert error.activity_type == "fail"
            assert isinstance(error.cause, ApplicationError)
            assert (error.cause.type, error.cause.message) == ("Never", "never")


async def test_a_failed_result_says_all(ground: Ground) -> None:
    """A failed result names key, activity, type, message and time, and whether it was recorded before."""
    async with ground.worker(workflows=[Fields], activities=[fail]):
        fresh = await ground.run(Fields.run)
        reused = await ground.run(Fields.run)
    known = {"key": "key", "activity": "fail", "type": "Outer", "message": "outer", "error": "ActivityError"}
    assert fresh | known | {"reused": False} == fresh
    assert reused | known | {"reused": True} == reused
    failed_at = datetime.fromisoformat(fresh["failed_at"])
    closed_at = (await ground.jobs[0].describe()).close_time
    assert closed_at is not None
    assert datetime.fromisoformat(fresh["before"]) <= failed_at <= closed_at
    assert datetime.fromisoformat(reused["failed_at"]) == failed_at


async def test_a_failure_as_large_as_the_service_takes_is_told(real: Ground) -> None:
    """Fresh, waited for and recorded; though it is too large to travel as text."""
    real.effects.then(ApplicationError("no", "d" * 1_700_000, type="Big", non_retryable=True))
    async with real.worker():
        [[fresh, joined]] = await real.script([Call(skip_failure=True)] * 2)
        recorded = await real.call(Call(skip_failure=True))
    assert [end.failed for end in (fresh, joined, recorded)] == ["Big"] * 3
    assert [end.message for end in (fresh, joined, recorded)] == ["no"] * 3
    assert recorded.reused
    assert len(real.effects.attempts) == 1


async def test_a_result_too_large_to_record_takes_effect_once_a_call(real: Ground) -> None:
    """It settles the key as failed, whatever the retry policy: another attempt would only have its effect."""
    real.effects.then(*["r" * 3_000_000] * 2, "small")
    async with real.worker():
        ends = [await real.call(Call(attempts=0)) for _ in range(2)]
        assert [(ended.error, ended.type) for ended in ends] == [("ActivityError", "PayloadsTooLarge")] * 2
        assert len(real.effects.attempts) == 2
        assert await real.call(Call(attempts=0)) == returned("small")
    # The effect happened, so a provider is asked with the same key again.
    assert len(set(real.effects.idempotency_keys)) == 1


async def test_a_result_too_large_to_be_told_is_an_error(real_grounds: Grounds) -> None:
    """A delegated result that fits into the record, but not, with its mark, into an answer, leaves nobody
    waiting.
    """
    ground = real_grounds(wait_slice=timedelta(seconds=1), in_place=False)
    ground.effects.then("r" * (_LARGEST - 36))
    async with ground.worker():
        told, recorded = [await ground.call(Call(attempts=0)) for _ in range(2)]
        record = await ground.keys.get("key")
    assert [(end.error, end.activity, end.type) for end in (told, recorded)] == [
        ("ActivityError", "effect", "PayloadsTooLarge")
    ] * 2
    assert record is not None
    assert record.state is KeyState.SUCCEEDED
    assert len(ground.effects.attempts) == 1


async def test_an_unknown_activity_type_fails_for_all(ground: Ground) -> None:
    """An activity that no worker has is a failure as any other, and the key can be executed again."""
    async with ground.worker():
        ended = await ground.call(Call(activity="nobody-has-it"))
        record = await ground.keys.get("key")
    assert (ended.error, ended.activity) == ("ActivityError", "nobody-has-it")
    assert record is not None
    assert record.state is KeyState.FAILED


async def test_the_idempotency_key_stays_after_a_time_out(ground: Ground) -> None:
    """After a time-out the effect may have happened: the next generation keeps the idempotency key."""
    gate = ground.effects.close()
    second = timedelta(seconds=1)
    async with ground.worker():
        ended = await ground.call(Call(start_to_close_timeout=second))
        assert (ended.error, ended.type) == ("ActivityError", "START_TO_CLOSE")
        gate.set()
        assert await ground.call() == returned("argument")
    assert ground.effects.generations == [1, 2]
    assert len(set(ground.effects.idempotency_keys)) == 1


async def test_the_idempotency_key_moves_on_after_a_definite_failure(ground: Ground) -> None:
    """After an error that the activity flagged as final, the next generation has an idempotency key of its
    own.
    """
    ground.effects.then(
        ApplicationError("no", non_retryable=True), ApplicationError("no", non_retryable=True)
    )
    async with ground.worker():
        for _ in range(3):
            await ground.call()
    assert ground.effects.generations == [1, 2, 3]
    assert len(set(ground.effects.idempotency_keys)) == 3


async def test_the_idempotency_key_stays_after_attempts_ran_out(ground: Ground) -> None:
    """After errors that might have been retried the effect may have happened: the idempotency key stays."""
    ground.effects.then(ApplicationError("no"), ApplicationError("no"))
    async with ground.worker():
        await ground.call(Call(attempts=2))
        assert await ground.call() == returned("argument")
    assert ground.effects.generations == [1, 1, 2]
    assert len(set(ground.effects.idempotency_keys)) == 1


async def test_idempotency_keys_of_different_keys_differ(ground: Ground) -> None:
    """Two keys, and two lives of one key, never share an idempotency key."""
    async with ground.worker():
        await ground.script([Call(key="a"), Call(key="b")])
        assert await ground.keys.forget("a")
        await ground.script([Call(key="a"), Call(key="b")])
    assert len(ground.effects.attempts) == 3
    assert len(set(ground.effects.idempotency_keys)) == 3
    for key in ground.effects.idempotency_keys:
        assert key is not None
        assert len(key) < 50
        assert key.replace("-", "").isalnum()


async def test_the_execution_names_its_key(ground: Ground) -> None:
    """`current_execution()` gives the key as the call gave it, whatever characters it holds."""
    keys = ["plain", "wéird/key:%~ ", "\N{GRINNING FACE}", "x" * 100]
    async with ground.worker():
        await ground.script([Call(key=key) for key in keys])
    assert sorted(attempt.key or "" for attempt in ground.effects.attempts) == sorted(keys)
