"""Calls that cannot be carried out: conflicts, and bad input."""

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from tests.support.ground import Ground
from tests.support.histories import types
from tests.support.scripts import Call, Ended, returned
from tests.workflow.refusals import BAD, KEY_TROUBLE, Bad

SAID_BY_NAME = {
    "activity_id",
    "cancellation_type",
    "deduplication_ttl",
    "heartbeat_timeout",
    "on_mismatch",
    "skip_failure",
    "start_to_close_timeout",
    "task_queue",
}
"""Options that an error about them names as they are written."""


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_fails_the_job_at_once(real: Ground, name: str) -> None:
    """A call that makes no sense fails its job with a clear error; nothing is scheduled or stuck."""
    async with real.worker(workflows=[Bad]):
        with pytest.raises(WorkflowFailureError) as caught:
            await real.run(Bad.run, name)
    error = caught.value.cause
    assert isinstance(error, ApplicationError)
    assert error.non_retryable
    assert error.type == ("InvalidDeduplicationKeyError" if name in KEY_TROUBLE else "InvalidCallError")
    if name not in KEY_TROUBLE:
        assert "'marked-key'" in error.message
        assert "activity" in error.message
        assert not (BAD[name].keys() & SAID_BY_NAME - {word.strip(",:") for word in error.message.split()})
    elif "marked" in str(BAD[name]):
        assert "marked" in error.message
    history = await real.history()
    assert await real.scheduled() == []
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in types(history)


def assert_conflict(ended: Ended, *parts: str) -> None:
    """Assert that a call was refused, and was told why."""
    assert (ended.error, ended.type) == ("DeduplicationConflictError", "DeduplicationConflictError")
    assert ended.message is not None
    for part in ("'key'", *parts):
        assert part in ended.message


@pytest.mark.parametrize("skip_failure", [False, True], ids=["raise", "skip"])
async def test_another_activity_under_the_key_is_a_conflict(ground: Ground, *, skip_failure: bool) -> None:
    """A key stands for one activity; a call of another one is refused, and told both names."""
    async with ground.worker():
        await ground.call()
        ended = await ground.call(Call(activity="other", skip_failure=skip_failure))
        assert_conflict(ended, "'effect'", "'other'")
        assert await ground.call() == returned("argument")
    assert len(ground.effects.attempts) == 1


async def test_a_conflict_shows_while_the_key_executes(real: Ground) -> None:
    """Another activity, or other arguments where they count, are refused before the execution has ended."""
    gate = real.effects.close()
    async with real.worker():
        job = await real.start_script(Call(argument="first", on_mismatch="raise"))
        await real.effects.seen(1)
        assert_conflict(await real.call(Call(activity="other")), "'other'")
        assert_conflict(await real.call(Call(argument="second", on_mismatch="raise")), "arguments")
        gate.set()
        assert await job.result() == [[returned("first")]]
    assert len(real.effects.attempts) == 1


async def test_a_conflict_within_one_gather_is_found(ground: Ground) -> None:
    """Of two activities called at once with one key one executes, and the other is refused."""
    async with ground.worker():
        [ends] = await ground.script([Call(), Call(activity="other")])
    assert sorted(ended.type or "" for ended in ends) == ["", "DeduplicationConflictError"]
    assert len(ground.effects.attempts) == 1


async def test_other_arguments_are_the_same_call_by_default(ground: Ground) -> None:
    """The key is the identity: other arguments get the recorded result."""
    async with ground.worker():
        await ground.call(Call(argument={"a": 1}))
        assert await ground.call(Call(argument={"a": 2})) == returned({"a": 1})


@pytest.mark.parametrize("failing", [False, True], ids=["succeeded", "failed"])
async def test_other_arguments_are_a_conflict_where_asked_for(ground: Ground, *, failing: bool) -> None:
    """Where both calls say on_mismatch="raise" other arguments are refused; the same, however spelled,
    are not.
    """
    if failing:
        ground.effects.then(ApplicationError("refused", type="Refused"))
    async with ground.worker():
        first = await ground.call(
            Call(argument={"a": 1, "b": [2, None]}, on_mismatch="raise", skip_failure=True)
        )
        ended = await ground.call(
            Call(argument={"a": 1, "b": [2, 0]}, on_mismatch="raise", skip_failure=True)
        )
        assert_conflict(ended, "other arguments", repr(ground.jobs[0].id))
        same = await ground.call(
            Call(argument={"b": [2, None], "a": 1}, on_mismatch="raise", skip_failure=True)
        )
        assert (same.value, same.failed) == (first.value, first.failed)
    assert len(ground.effects.attempts) == 1
