"""Executing in place, on a real server: what a call schedules, what a key holds, and who gets what."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio import activity, workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

import dedupe
from dedupe.in_place import InPlacePlugin
from dedupe.model.messages import CLAIM, PEEK, TWIN
from dedupe.operate.keys import DedupeKeys, KeyState
from tests.support.ground import Ground
from tests.support.histories import markers, replay, scheduled, types
from tests.support.scripts import Call, returned
from tests.support.servers import with_plugins
from tests.support.waiting import until

HERE = f"{TWIN}effect"
DEFINITE = ApplicationError("card refused", type="Refused", non_retryable=True)


@pytest.fixture
async def here(real_client: Client) -> AsyncIterator[Ground]:
    """A ground on the real server whose worker executes in place; at its end, all jobs must replay."""
    ground = Ground.on(real_client, skips_time=False)
    plugin = InPlacePlugin(organization=ground.organization, project="web", task_queue=ground.key_queue)
    ground.client = with_plugins(real_client, plugin)
    yield ground
    await ground.close()
    histories = [await job.fetch_history() for job in ground.jobs]
    await replay(histories, workflows=ground.workflows, client=ground.client, plugin=plugin)


def keys_of(ground: Ground) -> DedupeKeys:
    """Return the keys of a ground."""
    return DedupeKeys(ground.client, organization=ground.organization, project="web")


async def state_of(ground: Ground) -> KeyState | None:
    """Return the state of the ground's key."""
    record = await keys_of(ground).get("key")
    return None if record is None else record.state


async def history_of_key(ground: Ground) -> WorkflowHistory:
    """Return the history of the ground's key."""
    return await ground.key_workflow().fetch_history()


async def claiming(ground: Ground, claims: int) -> None:
    """Wait until the last job has so many claims open, and at most one call that executes."""

    async def are_waiting() -> bool:
        pending = (await ground.jobs[-1].describe()).raw_description.pending_activities
        return [each.activity_type.name for each in pending].count(CLAIM) >= claims

    await until(are_waiting, what=f"{claims} claims")


async def test_a_new_key_is_two_events_and_no_workflow_task(here: Ground) -> None:
    """A key that nobody else asks for is started and signalled; its call is a marker and an activity."""
    async with here.worker():
        assert await here.call() == returned("argument")
        assert await here.scheduled() == [HERE]
    history = await history_of_key(here)
    assert types(history) == [
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
    ]
    assert sum(event.ByteSize() for event in history.events) <= 1_200
    [attempt] = here.effects.attempts
    assert (attempt.activity, attempt.key, attempt.generation) == ("effect", "key", 1)


async def test_a_success_is_reused_at_the_cost_of_one_marker(here: Ground) -> None:
    """A recorded success answers every later call from its peek."""
    async with here.worker():
        await here.call(Call(argument="first"))
        assert await here.call(Call(argument="second")) == returned("first")
        await here.assert_hit()
    assert here.effects.arguments == ["first"]


async def test_a_hit_costs_one_marker_after_any_number_of_misses(here: Ground) -> None:
    """A worker that has seen many new keys still answers a known one from its peek."""
    async with here.worker():
        for number in range(12):
            await here.call(Call(key=f"new-{number}"))
        await here.call(Call(key="new-0"))
        await here.assert_hit()


async def test_nobody_has_to_serve_the_keys(here: Ground, real_client: Client) -> None:
    """Keys that are executed in place need no worker of their own, be they new or known."""
    plugin = InPlacePlugin(
        organization=here.organization, project="web", task_queue=here.key_queue, serve=False
    )
    async with here.worker(client=with_plugins(real_client, plugin)):
        assert await here.call(Call(argument="first")) == returned("first")
        assert await here.call(Call(argument="second")) == returned("first")


async def test_those_who_wait_read_the_end(here: Ground) -> None:
    """Calls of a key that is executing wait in a claim each, and get its result; none executes again."""
    gate = here.effects.close()
    async with here.worker():
        owner = await here.start_script(Call(argument="owner"))
        await here.effects.seen(1)
        other = await here.start_script([Call(), Call()])
        await claiming(here, 2)
        gate.set()
        assert await owner.result() == [[returned("owner")]]
        assert await other.result() == [[returned("owner")] * 2]
    assert here.effects.arguments == ["owner"]
    assert await here.scheduled() == [CLAIM, CLAIM]


@pytest.mark.parametrize("skip_failure", [False, True], ids=["raise", "skip"])
async def test_a_failure_is_recorded_and_executed_again(here: Ground, *, skip_failure: bool) -> None:
    """A failure is the caller's, and is recorded; the next call executes again, or reuses it if it skips."""
    here.effects.then(DEFINITE)
    async with here.worker():
        first = await here.call(Call(argument="first"))
        assert (first.error, first.type, first.message) == ("ActivityError", "Refused", "card refused")
        assert first.activity == "effect"
        assert await state_of(here) is KeyState.FAILED
        second = await here.call(Call(argument="second", skip_failure=skip_failure))
    if skip_failure:
        assert (second.failed, second.reused) == ("Refused", True)
        assert here.effects.generations == [1]
    else:
        assert second == returned("second")
        assert here.effects.generations == [1, 2]
        assert len(set(here.effects.idempotency_keys)) == 2


async def test_a_failure_answers_those_who_waited_for_it(here: Ground) -> None:
    """Calls that wait while an execution fails get its failure, and do not execute one after the other."""
    gate = here.effects.close()
    here.effects.then(*[DEFINITE] * 3)
    async with here.worker():
        job = await here.start_script([Call()] * 3)
        await here.effects.seen(1)
        await claiming(here, 2)
        gate.set()
        [ends] = await job.result()
    assert len(here.effects.attempts) == 1
    assert [(ended.error, ended.type) for ended in ends] == [("ActivityError", "Refused")] * 3


async def test_retries_are_one_execution(here: Ground) -> None:
    """Attempts by the call's own retry policy have one generation and one idempotency key."""
    here.effects.then(ApplicationError("not yet"), ApplicationError("not yet"))
    async with here.worker():
        assert await here.call(Call(attempts=3)) == returned("argument")
    assert [attempt.attempt for attempt in here.effects.attempts] == [1, 2, 3]
    assert here.effects.generations == [1, 1, 1]
    assert len(set(here.effects.idempotency_keys)) == 1


async def test_forgetting_needs_no_worker(here: Ground) -> None:
    """A record is dropped by the service alone, and the next call begins anew."""
    async with here.worker():
        await here.call(Call(argument="first"))
    assert await keys_of(here).forget("key")
    assert await state_of(here) is None
    assert not await keys_of(here).forget("key")
    async with here.worker():
        assert await here.call(Call(argument="second")) == returned("second")
    assert here.effects.generations == [1, 1]
    assert len(set(here.effects.idempotency_keys)) == 2


async def test_a_ttl_is_judged_by_the_reader(here: Ground) -> None:
    """A record whose TTL is over answers nobody, though its workflow is still open."""
    ttl = timedelta(seconds=1)
    async with here.worker():
        ends = await here.script(Call(argument="first", ttl=ttl), Call(argument="second", after=1.2 * ttl))
    assert ends == [[returned("first")], [returned("second")]]


@pytest.mark.parametrize("how", ["terminated", "cancelled"])
async def test_an_effect_outlives_its_caller(here: Ground, how: str) -> None:
    """The effect of a job that goes away runs to its end, is recorded, and answers others."""
    gate = here.effects.close()
    async with here.worker():
        job = await here.start_script(Call(argument="owner"))
        await here.effects.seen(1)
        await (job.terminate() if how == "terminated" else job.cancel())
        other = await here.start_script(Call())
        await claiming(here, 1)
        gate.set()
        assert await other.result() == [[returned("owner")]]
    assert here.effects.arguments == ["owner"]


async def test_an_owner_that_is_gone_is_replaced(here: Ground) -> None:
    """If caller and worker are both gone, whoever needs the key executes, with the same idempotency key."""
    here.effects.close()
    async with here.worker(graceful_shutdown_timeout=timedelta(0)):
        job = await here.start_script(
            Call(argument="owner", attempts=2, start_to_close_timeout=timedelta(seconds=2))
        )
        await here.effects.seen(1)
        await job.terminate()
    here.effects.gate = None
    async with here.worker():
        assert await here.call(Call(argument="heir")) == returned("heir")
    assert here.effects.arguments == ["owner", "heir"]
    assert here.effects.generations == [1, 1]
    assert len(set(here.effects.idempotency_keys)) == 1


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


async def test_an_activity_elsewhere_is_delegated(here: Ground) -> None:
    """An activity on another task queue is scheduled by the key's own workflow, and needs no plugin there."""
    queue = f"elsewhere-{uuid4()}"
    async with (
        Worker(here.server, task_queue=queue, activities=[elsewhere]),
        here.worker(workflows=[Delegates]),
    ):
        assert await here.run(Delegates.run, queue) == ["argument elsewhere"] * 2
    assert await here.scheduled() == [CLAIM]
    assert scheduled(await history_of_key(here)) == ["elsewhere"]


async def test_calls_made_together_are_read_together(here: Ground) -> None:
    """A job that makes many calls at once reads their keys in few local activities."""
    calls = [Call(key=f"key-{number}", argument=number) for number in range(60)]
    async with here.worker():
        [ends] = await here.script(calls)
        history = await here.history()
    assert ends == [returned(number) for number in range(60)]
    assert types(history).count(EventType.EVENT_TYPE_MARKER_RECORDED) == 2
    assert markers(history) == [PEEK, PEEK]


async def test_a_hundred_jobs_at_once_share_one_execution(here: Ground) -> None:
    """A hundred workflows that make one call each cause one execution."""
    gate = here.effects.close()
    async with here.worker():
        jobs = [await here.start_script(Call(argument=number)) for number in range(100)]
        await here.effects.seen(1)
        gate.set()
        ends = await asyncio.gather(*(job.result() for job in jobs))
    assert ends == [[[returned(here.effects.arguments[0])]]] * 100
    assert len(here.effects.attempts) == 1
