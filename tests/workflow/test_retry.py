"""Executing again what failed: from outside, with what the history of its call holds."""

from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.exceptions import ApplicationError

from dedupe import KeyNotRetriedError, KeyState, Scope
from dedupe.model.messages import Owner, Start
from dedupe.model.outcome import Failed
from tests.support.ground import Ground, Grounds
from tests.support.scripts import Call, returned

REFUSED = ApplicationError("not today", type="Refused", non_retryable=True)


async def test_what_failed_is_executed_with_its_arguments(ground: Ground) -> None:
    """A job of the package makes the call; others get its result, and the generation moves on."""
    ground.effects.then(REFUSED)
    async with ground.worker():
        await ground.call(Call(argument={"of": "the first call"}, ttl=timedelta(days=30)))
        assert await ground.state() is KeyState.FAILED
        job = await ground.keys.retry("key", reason="ticket 7, " * 100)
        await ground.server.get_workflow_handle(job).result()
        assert await ground.call(Call(argument="another")) == returned({"of": "the first call"})
    assert ground.effects.arguments == [{"of": "the first call"}] * 2
    assert ground.effects.generations == [1, 2]
    record = await ground.keys.get("key")
    assert record is not None
    assert record.started_by == job
    assert record.expires_at is not None


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "delegated"])
async def test_wherever_it_was_executed(real_grounds: Grounds, *, in_place: bool) -> None:
    """The arguments are in the history of its job, or in that of its key."""
    ground = real_grounds(in_place=in_place)
    ground.effects.then(REFUSED)
    async with ground.worker():
        await ground.call(Call(argument=[1, "two"], scope=Scope.ORGANIZATION))
        job = await ground.keys.retry("key", scope=Scope.ORGANIZATION)
        await ground.server.get_workflow_handle(job).result()
    assert ground.effects.arguments == [[1, "two"]] * 2


async def test_what_has_not_failed_is_not_retried(ground: Ground) -> None:
    """And the error says where the key stands."""
    async with ground.worker():
        with pytest.raises(KeyNotRetriedError, match="nothing is recorded"):
            await ground.keys.retry("key")
        await ground.call()
        with pytest.raises(KeyNotRetriedError, match="it has succeeded"):
            await ground.keys.retry("key")
        gate = ground.effects.close()
        job = await ground.start_script(Call(key="other"))
        await ground.effects.seen(2)
        with pytest.raises(KeyNotRetriedError, match="it is executing"):
            await ground.keys.retry("other")
        gate.set()
        await job.result()
        with pytest.raises(KeyNotRetriedError, match="belongs to jobs of one type"):
            await ground.keys.retry("key", scope=Scope.JOB)


async def test_a_job_whose_history_is_gone(real: Ground) -> None:
    """Its arguments are gone with it: nothing is executed, and the error says so."""
    owner = Owner(workflow_id="a job of long ago", run_id=str(uuid4()), activity_id="dedupe~1")
    start = Start(key="key", activity="effect", idempotency_key="i-1", caller=owner.workflow_id, owner=owner)
    run_id = await real.key_handle().acquire(start, task_queue=real.key_queue, again=False)
    assert run_id is not None
    cause = Failure(message="not today", application_failure_info=ApplicationFailureInfo(type="Refused"))
    await real.key_handle().record(run_id, Failed(Failure(message="Activity task failed", cause=cause)))
    assert await real.state() is KeyState.FAILED
    with pytest.raises(KeyNotRetriedError, match="history of job 'a job of long ago' is gone"):
        await real.keys.retry("key")
    assert await real.state() is KeyState.FAILED
