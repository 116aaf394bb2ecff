"""The attempt after a lost one takes tasks away from a process that may be dead; if it cannot, no harm."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.workflowservice.v1 import ResetStickyTaskQueueRequest
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from dedupe import KeyState
from dedupe.messages import ATTACH
from tests.support.codecs import Bound, with_codec
from tests.support.ground import Ground, Grounds
from tests.support.scripts import Call, Ended, returned

_LOST_ONCE = Call(start_to_close_timeout=timedelta(seconds=1), attempts=2)
"""With a gate that is closed for its first attempt only."""


@pytest.fixture
def taken_over(real: Ground, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the workflows whose tasks were taken away from the process that had them cached."""
    ids: list[str] = []
    service = real.server.workflow_service
    reset = service.reset_sticky_task_queue

    async def record(request: ResetStickyTaskQueueRequest) -> Any:
        response = await reset(request)
        ids.append(request.execution.workflow_id)
        return response

    monkeypatch.setattr(service, "reset_sticky_task_queue", record)
    return ids


async def lose_one_attempt(ground: Ground) -> list[Ended]:
    """Make two calls of a key whose first attempt times out, and return how they ended."""
    ground.effects.close()
    first = await ground.start_script(_LOST_ONCE)
    await ground.effects.seen(1)
    second = await ground.start_script(_LOST_ONCE)
    await ground.signalled(1)
    ground.effects.gate = None
    return [(await job.result())[0][0] for job in (first, second)]


async def test_the_key_and_all_that_wait_are_taken_over(real: Ground, taken_over: list[str]) -> None:
    """After a time-out the workflow tasks of the key, and of the jobs that wait, may go to any process."""
    async with real.worker():
        assert await lose_one_attempt(real) == [returned("argument")] * 2
    assert sorted(taken_over) == sorted([real.key_id(), *(job.id for job in real.jobs)])


async def test_a_codec_that_binds_payloads_to_the_key_is_read(
    real_grounds: Grounds, taken_over: list[str]
) -> None:
    """A codec that binds payloads to their workflow reads who waits as the key's workflow would."""
    ground = real_grounds(client_config=with_codec(Bound()))
    async with ground.worker():
        assert await lose_one_attempt(ground) == [returned("argument")] * 2
    assert sorted(taken_over) == sorted([ground.key_id(), *(job.id for job in ground.jobs)])


async def test_those_who_have_their_answer_are_left_alone(real: Ground, taken_over: list[str]) -> None:
    """Who waited for an earlier execution does not wait any more; a message from nobody is passed over."""
    real.effects.then(ApplicationError("no", non_retryable=True))
    async with real.worker():
        answered = await real.start_script(Call(), Call(after=timedelta(minutes=1)))
        await real.effects.seen(1)
        await real.reached(KeyState.FAILED)
        await real.key_workflow().signal(ATTACH, "junk")
        real.effects.close()
        job = await real.start_script(_LOST_ONCE)
        await real.effects.seen(2)
        real.effects.gate = None
        assert await job.result() == [[returned("argument")]]
    assert answered.id not in taken_over
    assert sorted(taken_over) == sorted([real.key_id(), job.id])


async def test_an_activity_that_blocks_is_taken_over(real: Ground, taken_over: list[str]) -> None:
    """Activities in threads, which have no client of their own, are taken over too."""
    woken = threading.Event()

    @activity.defn
    def blocking(argument: str) -> str:
        if activity.info().attempt == 1:
            woken.wait()
        woken.set()
        return argument

    with ThreadPoolExecutor() as threads:
        async with real.worker(activities=[blocking], activity_executor=threads):
            lost_once = _LOST_ONCE.model_copy(update={"activity": "blocking"})
            assert await real.call(lost_once) == returned("argument")
    assert sorted(taken_over) == sorted([real.key_id(), real.jobs[0].id])


async def test_an_attempt_that_failed_was_not_lost(real: Ground, taken_over: list[str]) -> None:
    """A worker that reports a failure is alive, and keeps what it has cached."""
    real.effects.then(ApplicationError("not yet"))
    async with real.worker():
        assert await real.call(Call(attempts=2)) == returned("argument")
    assert len(real.effects.attempts) == 2
    assert taken_over == []


async def test_a_service_that_stalls_does_not_use_up_the_attempt(
    real: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt with a short time-out still has most of it for its effect."""

    async def stall(request: ResetStickyTaskQueueRequest) -> None:
        del request
        await asyncio.sleep(60)

    monkeypatch.setattr(real.server.workflow_service, "reset_sticky_task_queue", stall)
    async with real.worker():
        assert await lose_one_attempt(real) == [returned("argument")] * 2
    assert [attempt.attempt for attempt in real.effects.attempts] == [1, 2]


async def test_what_cannot_be_taken_over_costs_nothing(real: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that refuses, or a gateway that does not know the request, changes no answer."""

    async def refuse(request: ResetStickyTaskQueueRequest) -> None:
        del request
        raise RPCError("unknown", RPCStatusCode.UNIMPLEMENTED, b"")

    monkeypatch.setattr(real.server.workflow_service, "reset_sticky_task_queue", refuse)
    async with real.worker():
        assert await lose_one_attempt(real) == [returned("argument")] * 2
    assert [attempt.attempt for attempt in real.effects.attempts] == [1, 2]
