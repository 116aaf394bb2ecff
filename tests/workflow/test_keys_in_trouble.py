"""The key's workflow ended by others, or its id taken; reads broken. Of keys that are delegated, mostly: see
`test_in_place` for the others.
"""

from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from dedupe.key.server import CallerHeadersInterceptor
from dedupe.key.workflow import DelegatedKey, InPlaceKey
from dedupe.model.names import CLAIM
from tests.support.faults import break_peeks
from tests.support.ground import Ground, Grounds
from tests.support.histories import types
from tests.support.scripts import Call, returned


@pytest.mark.parametrize("how", ["terminated", "cancelled"])
async def test_waiters_of_a_delegated_key_that_was_ended_execute_again(
    real_grounds: Grounds, how: str
) -> None:
    """When an operator ends a key's workflow, waiting calls heal themselves, with the same idempotency key,
    since the effect may have happened.
    """
    ground = real_grounds(in_place=False)
    gate = ground.effects.close()
    async with ground.worker():
        job = await ground.start_script([Call(), Call()])
        await ground.effects.seen(1)
        await ground.claiming(2)
        await (ground.key_workflow().terminate() if how == "terminated" else ground.key_workflow().cancel())
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


async def test_a_settled_key_that_is_terminated_is_absent(real: Ground) -> None:
    """Terminating a settled key drops the record; the next call keeps the idempotency key, since the
    effect has happened.
    """
    async with real.worker():
        await real.call(Call(argument="first"))
        await real.key_workflow().terminate()
        assert await real.call(Call(argument="second")) == returned("second")
    assert real.effects.generations == [1, 1]
    assert len(set(real.effects.idempotency_keys)) == 1


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
    """The workflows of keys run in the SDK's sandbox as users' do, though the plugin runs them outside."""
    ground = Ground.on(real_client, skips_time=False, serve=False)
    delegated = ground.beside(in_place=False, serve=False)
    async with (
        Worker(
            real_client,
            task_queue=ground.key_queue,
            workflows=[InPlaceKey, DelegatedKey],
            interceptors=[CallerHeadersInterceptor()],
        ),
        ground.worker(),
        delegated.worker(),
    ):
        delegated.effects.then(ApplicationError("refused", type="Refused"))
        await delegated.call(Call(skip_failure=True))
        [ends] = await delegated.script([Call(), Call()])
        assert ends == [returned("argument")] * 2
        await delegated.call(Call(key="short", ttl=timedelta(seconds=1)))
        await ground.closed("short")
        await ground.call(Call(key="in place"))
        await ground.key_workflow("in place").cancel()  # which wakes it
        await ground.closed("in place")
    for key in ("key", "short", "in place"):
        history = await ground.key_workflow(key).fetch_history()
        assert EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED in types(history)
        assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in types(history)


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
