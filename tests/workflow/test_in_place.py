"""Executing in place, on a real server: what a call schedules, what a key holds, and who gets what."""

from collections import Counter
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio import activity, workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

import dedupe
from dedupe.model.names import CLAIM, PEEK, TWIN
from dedupe.operate.view import KeyState
from dedupe.plugin import DedupePlugin
from tests.support.ground import Ground
from tests.support.histories import markers, scheduled, types
from tests.support.scripts import Call, returned
from tests.support.servers import with_plugins

HERE = f"{TWIN}effect"
DEFINITE = ApplicationError("card refused", type="Refused", non_retryable=True)


async def history_of_key(ground: Ground) -> WorkflowHistory:
    """Return the history of the ground's key."""
    return await ground.key_workflow().fetch_history()


async def test_a_new_key_is_two_events_and_no_workflow_task(real: Ground) -> None:
    """A key that nobody else asks for is started and signalled; its call is a marker and an activity."""
    async with real.worker():
        assert await real.call() == returned("argument")
        assert await real.scheduled() == [HERE]
    history = await history_of_key(real)
    assert types(history) == [
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
    ]
    assert sum(event.ByteSize() for event in history.events) <= 1_200
    [attempt] = real.effects.attempts
    assert (attempt.activity, attempt.key, attempt.generation) == ("effect", "key", 1)


async def test_a_hit_costs_one_marker_after_any_number_of_misses(real: Ground) -> None:
    """A worker that has seen many new keys still answers a known one from its peek."""
    async with real.worker():
        for number in range(12):
            await real.call(Call(key=f"new-{number}"))
        await real.call(Call(key="new-0"))
        await real.assert_hit()


async def test_nobody_has_to_serve_the_keys(real: Ground, real_client: Client) -> None:
    """Keys that are executed in place need no worker of their own, be they new or known."""
    plugin = DedupePlugin(
        organization=real.organization, project="web", task_queue=real.key_queue, serve=False
    )
    async with real.worker(client=with_plugins(real_client, plugin)):
        assert await real.call(Call(argument="first")) == returned("first")
        assert await real.call(Call(argument="second")) == returned("first")


async def test_forgetting_needs_no_worker(real: Ground) -> None:
    """A record is dropped by the service alone, and the next call begins anew."""
    async with real.worker():
        await real.call(Call(argument="first"))
    assert await real.keys.forget("key")
    assert await real.state() is None
    assert not await real.keys.forget("key")
    async with real.worker():
        assert await real.call(Call(argument="second")) == returned("second")
    assert real.effects.generations == [1, 1]
    assert len(set(real.effects.idempotency_keys)) == 2


async def test_an_owner_that_is_gone_is_replaced(real: Ground) -> None:
    """If caller and worker are both gone, whoever needs the key executes, with the same idempotency key."""
    real.effects.close()
    async with real.worker(graceful_shutdown_timeout=timedelta(0)):
        job = await real.start_script(
            Call(argument="owner", attempts=2, start_to_close_timeout=timedelta(seconds=2))
        )
        await real.effects.seen(1)
        await job.terminate()
    real.effects.gate = None
    async with real.worker():
        assert await real.call(Call(argument="heir")) == returned("heir")
    assert real.effects.arguments == ["owner", "heir"]
    assert real.effects.generations == [1, 1]
    assert len(set(real.effects.idempotency_keys)) == 1


async def test_a_worker_that_drains_gives_up_what_nobody_will_attempt_again(real: Ground) -> None:
    """An attempt that is interrupted after its job has closed frees the key at once."""
    real.effects.close()
    async with real.worker():
        job = await real.start_script(Call(argument="owner", start_to_close_timeout=timedelta(hours=1)))
        await real.effects.seen(1)
        await job.terminate()
    assert await real.state() is KeyState.ABANDONED
    real.effects.gate = None
    async with real.worker():
        assert await real.call(Call(argument="heir")) == returned("heir")
    assert real.effects.arguments == ["owner", "heir"]
    assert len(set(real.effects.idempotency_keys)) == 1


@pytest.mark.parametrize("how", ["terminated", "cancelled"])
async def test_a_key_ended_from_outside_is_no_reason_for_a_second_effect(real: Ground, how: str) -> None:
    """An operator ends the key's workflow while its activity executes: others wait, and get the result."""
    gate = real.effects.close()
    async with real.worker():
        owner = await real.start_script(Call(argument="owner"))
        await real.effects.seen(1)
        await (real.key_workflow().terminate() if how == "terminated" else real.key_workflow().cancel())
        await real.closed()
        other = await real.start_script(Call(argument="other"))
        await real.claiming(1)
        gate.set()
        assert await owner.result() == [[returned("owner")]]
        assert await other.result() == [[returned("owner")]]
        assert await real.call() == returned("owner")
    assert real.effects.arguments == ["owner"]


@activity.defn
async def elsewhere(argument: str) -> str:
    """Return the argument, as an activity of another worker."""
    return f"{argument} elsewhere"


@workflow.defn
class Delegates:
    """Calls an activity on another task queue."""

    @workflow.run
    async def run(self, task_queue: str) -> list[str]:
        """See the class."""
        return [
            await dedupe.execute_activity(
                elsewhere,
                "argument",
                deduplication_key="key",
                task_queue=task_queue,
                start_to_close_timeout=timedelta(seconds=10),
            )
            for _ in range(2)
        ]


async def test_an_activity_elsewhere_is_delegated(real: Ground) -> None:
    """An activity on another task queue is scheduled by the key's own workflow, and needs no plugin there."""
    queue = f"elsewhere-{uuid4()}"
    async with (
        Worker(real.server, task_queue=queue, activities=[elsewhere]),
        real.worker(workflows=[Delegates]),
    ):
        assert await real.run(Delegates.run, queue) == ["argument elsewhere"] * 2
    assert await real.scheduled() == [CLAIM]
    assert scheduled(await history_of_key(real)) == ["elsewhere"]


async def test_calls_made_together_are_read_together(real: Ground) -> None:
    """A job that makes many calls of known keys at once reads them in few local activities."""
    calls = [Call(key=f"key-{number}", argument=number) for number in range(60)]
    async with real.worker():
        await real.script(calls)
        [ends] = await real.script(calls)
        history = await real.history()
    assert ends == [returned(number) for number in range(60)]
    assert markers(history) == [PEEK, PEEK]
    assert await real.scheduled() == []


async def test_of_many_new_keys_some_are_read(real: Ground) -> None:
    """Where all of a sample of keys are new, the other calls execute without a reading first."""
    calls = [Call(key=f"key-{number}", argument=number) for number in range(60)]
    async with real.worker():
        [ends] = await real.script(calls)
        history = await real.history()
    assert ends == [returned(number) for number in range(60)]
    assert types(history).count(EventType.EVENT_TYPE_MARKER_RECORDED) == 1
    assert await real.scheduled() == [HERE] * 60


async def test_a_sample_that_misses_all_records_is_no_harm(real: Ground) -> None:
    """Known keys, of which none is in the sample, are not executed again."""
    known = [Call(key=f"known-{number}", argument="first") for number in range(30)]
    new = [Call(key=f"new-{number}", argument="second") for number in range(30)]
    async with real.worker():
        await real.script(known)
        asked_again = [call.model_copy(update={"argument": "second"}) for call in known]
        [ends] = await real.script([call for pair in zip(new, asked_again, strict=True) for call in pair])
    assert ends == [returned("second"), returned("first")] * 30
    assert sorted(real.effects.arguments) == ["first"] * 30 + ["second"] * 30


async def test_what_many_calls_schedule_is_spread_over_tasks(real: Ground) -> None:
    """The commands of one workflow task stay small enough for the service's cache of events."""
    calls = [Call(key=f"key-{number}", argument="x" * 3_600) for number in range(120)]
    async with real.worker():
        [ends] = await real.script(calls)
        history = await real.history()
    assert ends == [returned("x" * 3_600)] * 120
    sizes = Counter[int]()
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            task = event.activity_task_scheduled_event_attributes.workflow_task_completed_event_id
            sizes[task] += event.ByteSize()
    assert len(sizes) > 2
    assert max(sizes.values()) < 256 * 1024
