"""Messages that come to a key too early, too late, or are meant for another life of it."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

import dedupe.settle
from dedupe import KeyState
from dedupe.decision import Record, Settled
from dedupe.key_handle import KeyHandle
from dedupe.messages import Forget, Plan, Rerun, Waiter
from tests.support.ground import Ground
from tests.support.messages import join
from tests.support.scripts import Call, returned
from tests.support.waiting import until


async def test_a_failure_counts_while_an_earlier_reply_is_held_up(
    real: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a reply to another claim is held up, the key already counts its failure, as its readers do, and
    takes a request to execute again.
    """
    tell = dedupe.settle._tell
    released = asyncio.Event()

    async def tell_late(*arguments: Any) -> Any:
        await released.wait()
        return await tell(*arguments)

    monkeypatch.setattr(dedupe.settle, "_tell", tell_late)
    real.effects.then(ApplicationError("no", non_retryable=True))
    gate = real.effects.close()
    async with real.worker():
        first = await real.start_script(Call())
        await real.effects.seen(1)
        await join(real, 1, activity="other")  # a conflict, which is told at once
        await real.signalled(1)
        gate.set()
        await real.reached(KeyState.FAILED)
        again = await real.start_script(Call())
        await real.signalled(3)  # it asks for another execution, and waits for it
        released.set()
        assert await again.result() == [[returned("argument")]]
        assert (await first.result())[0][0].error == "ActivityError"
    assert real.effects.generations == [1, 2]


async def test_a_request_to_execute_again_that_came_to_nothing_is_made_anew(
    real: Ground,
) -> None:
    """A claim whose request the key has dropped is told so, asks again, and is answered."""
    real.effects.then(ApplicationError("no", non_retryable=True))
    gate = real.effects.close()
    async with real.worker():
        first = await real.start_script(Call())
        await real.effects.seen(1)
        record = await real.keys.get("key")
        assert record is not None
        early = Rerun(
            generation=1, idempotency_key=record.idempotency_key, plan=Plan(task_queue=real.task_queue)
        )
        key = real.key_handle()
        await key.rerun(early, Payload(), attempt=1)
        gate.set()
        assert (await first.result())[0][0].error == "ActivityError"
        assert await real.call(Call()) == returned("argument")
    assert real.effects.generations == [1, 2]


async def test_an_answer_told_twice_reaches_no_later_call_of_the_same_activity_id(
    real: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one claim cannot be told, all are told again. A job that has made another call by then, under the
    same activity id, does not take the old answer for it.
    """
    tell = dedupe.settle._tell
    has_called_again, is_told_again = asyncio.Event(), asyncio.Event()
    refused: list[Waiter] = []

    async def tell_all_but_the_other(client: Any, waiter: Waiter, reply: Payload) -> Any:
        if waiter.workflow_id == other.id and not refused:
            refused.append(waiter)
            await has_called_again.wait()
            return RPCError("try again", RPCStatusCode.UNAVAILABLE, b"")
        told = await tell(client, waiter, reply)
        if refused and waiter.workflow_id == other.id:
            is_told_again.set()
        return told

    monkeypatch.setattr(dedupe.settle, "_tell", tell_all_but_the_other)
    real.effects.then(ApplicationError("no", non_retryable=True))
    gate = real.effects.close()
    async with real.worker():
        job = await real.start_script(Call(activity_id="x"), Call(activity_id="x"))
        await real.effects.seen(1)
        other = await real.start_script(Call())
        await real.signalled(1)
        gate.set()
        await real.claiming(2, job)
        has_called_again.set()
        await is_told_again.wait()
        [[first], [second]] = await job.result()
    assert first.error == "ActivityError"
    assert second == returned("argument")


async def test_a_request_meant_for_another_life_is_not_taken_for_the_origin(real: Ground) -> None:
    """Each life of a key begins with generation 1; the idempotency key tells which one is meant."""
    real.effects.then(*[ApplicationError("no", non_retryable=True)] * 2)
    async with real.worker():
        await real.call(Call())
        forgotten = await real.keys.get("key")
        assert forgotten is not None
        assert await real.keys.forget("key")
        await real.call(Call())
        late = Rerun(
            generation=1,
            idempotency_key=forgotten.idempotency_key,
            caller="too-late",
            plan=Plan(task_queue=real.task_queue, ttl=timedelta(hours=1)),
        )
        await real.key_handle().rerun(late, Payload(), attempt=1)
        assert await real.call(Call()) == returned("argument")
        record = await real.keys.get("key")
    assert record is not None
    assert (record.generation, record.started_by, record.expires_at) == (2, real.jobs[2].id, None)


async def test_an_early_request_to_execute_again_is_not_taken_for_the_origin(real: Ground) -> None:
    """One that comes while the key executes is dropped, and somebody else's is taken."""
    real.effects.then(ApplicationError("no", non_retryable=True))
    gate = real.effects.close()
    async with real.worker():
        await real.start_script(Call())
        await real.effects.seen(1)
        executing = await real.keys.get("key")
        assert executing is not None
        early = Rerun(
            generation=1,
            idempotency_key=executing.idempotency_key,
            caller="too-early",
            plan=Plan(task_queue=real.task_queue),
        )
        await real.key_handle().rerun(early, Payload(), attempt=7)
        gate.set()
        await real.jobs[0].result()
        assert await real.call(Call()) == returned("argument")
        record = await real.keys.get("key")
    assert record is not None
    assert record.started_by == real.jobs[1].id


async def test_a_late_request_to_execute_again_is_not_taken_for_the_origin(real: Ground) -> None:
    """Who started an execution, and how long it is kept, is said by the request that the key took."""
    real.effects.then(ApplicationError("no", non_retryable=True))
    async with real.worker():
        await real.call(Call())
        failed = await real.keys.get("key")
        assert failed is not None
        assert await real.call(Call()) == returned("argument")
        late = Rerun(
            generation=1,
            idempotency_key=failed.idempotency_key,
            caller="too-late",
            plan=Plan(task_queue=real.task_queue, ttl=timedelta(hours=1)),
        )
        await real.key_handle().rerun(late, Payload(), attempt=7)
        record = await real.keys.get("key")
    assert record is not None
    assert record.started_by == real.jobs[1].id
    assert record.expires_at is None


async def test_forgetting_one_life_of_a_key_spares_the_next(
    real: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request to forget that is sent again, since its sender has not yet seen the end, may come to a new
    life of the key.
    """
    async with real.worker():
        await real.call(Call())
        read = KeyHandle.read
        before = await real.key_handle().read()
        blind = True

        async def read_late(handle: KeyHandle, **options: Any) -> Record:
            return before if blind and asyncio.current_task() is forgetting else await read(handle, **options)

        sent: list[Forget] = []
        send = KeyHandle.forget

        async def forget(handle: KeyHandle, message: Forget) -> Any:
            sent.append(message)
            return await send(handle, message)

        monkeypatch.setattr(KeyHandle, "read", read_late)
        monkeypatch.setattr(KeyHandle, "forget", forget)
        first_run = (await real.key_workflow().describe()).run_id
        forgetting = asyncio.create_task(real.keys.forget("key", force=True))
        await real.closed(run_id=first_run)
        assert await real.call(Call()) == returned("argument")
        resent = len(sent) + 1

        async def sent_again() -> bool:
            return len(sent) > resent

        await until(sent_again)
        blind = False
        assert await forgetting
        assert await real.call(Call()) == returned("argument")
    assert len(real.effects.attempts) == 2


async def test_forgetting_by_force_reaches_a_key_that_executes_again_meanwhile(real: Ground) -> None:
    """What is forgotten is the key's life, and not the one execution that was seen."""
    real.effects.then(ApplicationError("no", non_retryable=True))
    async with real.worker():
        await real.call(Call())
        key = real.key_handle()
        seen = await key.read()
        assert isinstance(seen, Settled)
        real.effects.close()
        waiting = await real.start_script(Call())
        await real.effects.seen(2)
        real.effects.gate = None
        await key.forget(Forget(force=True, life=seen.execution.life))
        assert await waiting.result() == [[returned("argument")]]
    assert real.effects.generations == [1, 2, 1]
