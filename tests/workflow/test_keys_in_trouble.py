"""The key's workflow ended by others, or its id taken; pushes lost, reads broken."""

from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from dedupe.key_server import CallerHeadersInterceptor
from dedupe.key_workflow import KeyWorkflow
from dedupe.messages import CLAIM
from dedupe.settle import settle
from tests.support.faults import break_peeks, lose_pushes
from tests.support.ground import Ground, Grounds
from tests.support.histories import types
from tests.support.scripts import Call, returned

SLICE = timedelta(seconds=1)


async def test_waiters_of_a_terminated_key_execute_again(real_grounds: Grounds) -> None:
    """When an operator terminates a key's workflow, waiting calls heal themselves, with the same idempotency
    key, since the effect may have happened.
    """
    ground = real_grounds(wait_slice=SLICE)
    gate = ground.effects.close()
    async with ground.worker():
        job = await ground.start_script([Call(), Call()])
        await ground.effects.seen(1)
        await ground.claiming(2)
        await ground.key_workflow().terminate()
        await ground.effects.seen(2)
        gate.set()
        assert await job.result() == [[returned("argument")] * 2]
    assert len(ground.effects.attempts) == 2
    assert len(set(ground.effects.idempotency_keys)) == 1
    assert await ground.scheduled() == [CLAIM, CLAIM]


async def test_waiters_of_a_terminated_key_execute_again_with_time_skipped(skipping: Ground) -> None:
    """The same where time is skipped: the calls look again by themselves."""
    gate = skipping.effects.close()
    async with skipping.worker():
        job = await skipping.start_script([Call(), Call()])
        await skipping.effects.seen(1)
        await skipping.claiming(2)
        await skipping.key_workflow().terminate()
        await skipping.effects.seen(2)
        gate.set()
        assert await job.result() == [[returned("argument")] * 2]
    assert len(set(skipping.effects.idempotency_keys)) == 1


async def test_a_settled_key_that_is_terminated_is_unknown(real: Ground) -> None:
    """Terminating a settled key drops the record; the next call keeps the idempotency key, since the
    effect has happened.
    """
    async with real.worker():
        await real.call(Call(argument="first"))
        await real.key_workflow().terminate()
        assert await real.call(Call(argument="second")) == returned("second")
    assert real.effects.generations == [1, 1]
    assert len(set(real.effects.idempotency_keys)) == 1


async def test_an_operators_cancel_reaches_those_who_wait(ground: Ground) -> None:
    """Cancelling a key's workflow cancels the execution: those who wait are told so, and nobody gets a
    failure for it; the next call executes, with the same idempotency key.
    """
    ground.effects.close()
    async with ground.worker():
        job = await ground.start_script([Call(start_to_close_timeout=timedelta(seconds=3)), Call()])
        await ground.effects.seen(1)
        await ground.claiming(2)
        await ground.key_workflow().cancel()
        if ground.skips_time:
            ground.effects.gate = None
            [ends] = await job.result()
            assert ends == [returned("argument")] * 2
        else:
            [ends] = await job.result()
            assert {(ended.error, ended.type) for ended in ends} == {("ActivityError", "CancelledError")}
            ground.effects.gate = None
            assert await ground.call() == returned("argument")
    assert ground.effects.generations == [1, 1]
    assert len(set(ground.effects.idempotency_keys)) == 1


async def test_a_cancelled_execution_is_no_failed_result(real: Ground) -> None:
    """A call with skip_failure raises when the execution is cancelled; cancellation is never a failure."""
    real.effects.close()
    async with real.worker():
        job = await real.start_script(Call(skip_failure=True))
        await real.effects.seen(1)
        await real.key_workflow().cancel()
        [[ended]] = await job.result()
    assert (ended.error, ended.type, ended.failed) == ("ActivityError", "CancelledError", None)


async def test_a_lost_push_heals_itself(real_grounds: Grounds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims that are never told come back after their wait slice and find the record; the retries write no
    history.
    """
    lost = lose_pushes(monkeypatch)
    ground = real_grounds(wait_slice=SLICE)
    async with ground.worker():
        [ends] = await ground.script([Call(), Call()])
    assert ends == [returned("argument")] * 2
    assert len(ground.effects.attempts) == 1
    assert lost() > 0
    assert await ground.scheduled() == [CLAIM, CLAIM]


async def test_a_failure_whose_push_is_lost_is_the_waiters(
    real_grounds: Grounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that comes back for a failure it waited for gets it, and does not execute again."""
    lose_pushes(monkeypatch)
    ground = real_grounds(wait_slice=SLICE)
    ground.effects.then(ApplicationError("refused", type="Refused"))
    async with ground.worker():
        ended = await ground.call()
    assert (ended.error, ended.type) == ("ActivityError", "Refused")
    assert len(ground.effects.attempts) == 1


async def test_a_peek_that_fails_decides_nothing(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the peek cannot read, the claim decides: a miss executes, a hit is answered."""
    broken = break_peeks(monkeypatch)
    async with ground.worker():
        assert await ground.call(Call(argument="first")) == returned("first")
        assert await ground.call(Call(argument="second")) == returned("first")
        assert await ground.scheduled() == [CLAIM]
    assert broken() >= 2
    assert len(ground.effects.attempts) == 1


async def test_the_key_workflow_breaks_no_rule_of_the_sandbox(real_client: Client) -> None:
    """The key's workflow runs in the SDK's sandbox as users' do, though the plugin runs it outside."""
    organization = f"org-{uuid4().hex[:12]}"
    ground = Ground.on(real_client, skips_time=False, organization=organization, serve=False)
    async with (
        Worker(
            real_client,
            task_queue=ground.key_queue,
            workflows=[KeyWorkflow],
            activities=[settle],
            interceptors=[CallerHeadersInterceptor()],
        ),
        ground.worker(),
    ):
        ground.effects.then(ApplicationError("refused", type="Refused"))
        await ground.call(Call(skip_failure=True))
        [ends] = await ground.script([Call(), Call()])
        assert ends == [returned("argument")] * 2
        assert await ground.keys.forget("key")
        await ground.call(Call(key="short", ttl=timedelta(seconds=1)))
        await ground.closed("short")
    for key in ("key", "short"):
        history = await ground.key_workflow(key).fetch_history()
        assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in types(history)
        assert types(history)[-1] == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED


async def test_an_id_taken_by_another_workflow_is_a_clear_error(ground: Ground) -> None:
    """Where something else has the key's workflow id, the call fails and names the key."""
    async with ground.worker():
        handle = await ground.start("Stranger", id=ground.key_id())
        ended = await ground.call()
        await handle.terminate()
        ground.jobs.remove(handle)
    assert ended.type == "UnreadableRecordError"
    assert "key" in (ended.message or "")
    assert ground.effects.attempts == []
