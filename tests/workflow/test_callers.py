"""Callers that wait, many at once, and callers that go away."""

import asyncio
from datetime import timedelta

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import CancelledError
from temporalio.exceptions import TimeoutError as WorkflowTimeoutError

import dedupe
from dedupe.model.names import CLAIM
from tests.support.ground import Ground, Grounds
from tests.support.scripts import Call, Parents, Script, returned

SECOND = timedelta(seconds=1)


async def test_a_hundred_calls_of_one_key_execute_once(cached_or_not: Ground) -> None:
    """A hundred calls at once, and one execution: all get its result."""
    ground = cached_or_not
    gate = ground.effects.close()
    async with ground.worker():
        job = await ground.start_script([Call(argument=number) for number in range(100)])
        await ground.effects.seen(1)
        await ground.claiming(100, owner=True)
        gate.set()
        [ends] = await job.result()
    assert len(ground.effects.attempts) == 1
    assert ends == [returned(ground.effects.arguments[0])] * 100


async def test_a_hundred_calls_of_a_failing_key_execute_once(ground: Ground) -> None:
    """A failure answers all that wait for it; they do not execute one after the other."""
    gate = ground.effects.close()
    ground.effects.then(*(ValueError("no") for _ in range(100)))
    async with ground.worker():
        job = await ground.start_script([Call() for _ in range(100)])
        await ground.effects.seen(1)
        await ground.claiming(100, owner=True)
        gate.set()
        [ends] = await job.result()
    assert len(ground.effects.attempts) == 1
    assert {(ended.error, ended.type, ended.message) for ended in ends} == {
        ("ActivityError", "ValueError", "no")
    }


async def test_twenty_jobs_at_once_share_one_execution(ground: Ground) -> None:
    """Jobs that call at the same time share one execution, and each claims once at most."""
    gate = ground.effects.close()
    async with ground.worker():
        job = await ground.start(Parents.run, [[[Call(argument=number)]] for number in range(20)])
        await ground.effects.seen(1)
        gate.set()
        ends = await job.result()
        for number in range(20):
            child = ground.client.get_workflow_handle(f"{job.id}-{number}")
            assert (await ground.scheduled(child)).count(CLAIM) <= 1
            ground.jobs.append(child)
    assert ends == [[[returned(ground.effects.arguments[0])]]] * 20
    assert len(ground.effects.attempts) == 1


async def test_a_hundred_jobs_at_once_share_one_execution(ground: Ground) -> None:
    """A hundred workflows that make one call each cause one execution."""
    gate = ground.effects.close()
    async with ground.worker():
        jobs = [await ground.start_script(Call(argument=number)) for number in range(100)]
        await ground.effects.seen(1)
        gate.set()
        ends = await asyncio.gather(*(job.result() for job in jobs))
    assert ends == [[[returned(ground.effects.arguments[0])]]] * 100
    assert len(ground.effects.attempts) == 1


async def test_several_keys_in_one_gather_do_not_mix(cached_or_not: Ground) -> None:
    """Calls of several keys, and plain ones, made at once each get their own result."""
    ground = cached_or_not
    async with ground.worker():
        calls = [Call(key=f"key-{number % 5}", argument=number % 5) for number in range(10)]
        plain = [Call(key=None, argument="plain")]
        [ends, again] = await ground.script([*calls, *plain], [*calls, *plain])
    assert ends == again == [*(returned(number % 5) for number in range(10)), returned("plain")]
    deduplicated = [attempt.argument for attempt in ground.effects.attempts if attempt.key is not None]
    assert sorted(deduplicated) == [0, 1, 2, 3, 4]


async def test_cancelling_one_waiter_leaves_the_execution_to_the_other(cached_or_not: Ground) -> None:
    """A cancelled call detaches: it ends at once, the execution goes on, the other call gets its result."""
    ground = cached_or_not
    gate = ground.effects.close()
    async with ground.worker():
        job = await ground.start_script([Call(argument="owner", cancel_on="now"), Call(on="next")])
        await ground.effects.seen(1)
        await job.signal(Script.signal, "next")
        await ground.claiming(2, owner=True)
        await job.signal(Script.signal, "now")
        await ground.ended(1, job)
        gate.set()
        [[cancelled, other]] = await job.result()
    assert (cancelled.error, cancelled.type) == ("ActivityError", "CancelledError")
    assert cancelled.activity == "effect"
    assert other == returned("owner")
    assert len(ground.effects.attempts) == 1


async def test_a_job_cancelled_while_its_call_executes_leaves_the_execution(ground: Ground) -> None:
    """Cancelling the job whose call executes ends the job; the outcome is recorded for later calls."""
    gate = ground.effects.close()
    async with ground.worker():
        job = await ground.start_script(Call(argument="owner"))
        await ground.effects.seen(1)
        await job.cancel()
        with pytest.raises(WorkflowFailureError) as caught:
            await job.result()
        assert isinstance(caught.value.cause, CancelledError)
        gate.set()
        assert await ground.call() == returned("owner")
    assert len(ground.effects.attempts) == 1


async def test_a_caller_terminated_while_executing_takes_nothing_down(ground: Ground) -> None:
    """The execution of a terminated job goes on, and answers the calls of others."""
    gate = ground.effects.close()
    async with ground.worker():
        job = await ground.start_script(Call(argument="owner"))
        await ground.effects.seen(1)
        await job.terminate()
        other = await ground.start_script(Call())
        await ground.claiming(1)
        gate.set()
        assert await other.result() == [[returned("owner")]]
    assert len(ground.effects.attempts) == 1


async def test_a_caller_that_times_out_takes_nothing_down(real: Ground) -> None:
    """The execution of a job that has run out of time goes on."""
    gate = real.effects.close()
    async with real.worker():
        job = await real.start(Script.run, [[Call(argument="owner")]], execution_timeout=SECOND)
        await real.effects.seen(1)
        with pytest.raises(WorkflowFailureError) as caught:
            await job.result()
        assert isinstance(caught.value.cause, WorkflowTimeoutError)
        gate.set()
        assert await real.call() == returned("owner")
    assert len(real.effects.attempts) == 1


async def test_schedule_to_close_bounds_the_wait_of_a_duplicate(ground: Ground) -> None:
    """A call waits no longer than its schedule_to_close_timeout; the execution goes on without it."""
    gate = ground.effects.close()
    async with ground.worker():
        job = await ground.start_script(
            [
                Call(argument="owner"),
                Call(on="next", schedule_to_close_timeout=SECOND),
                Call(on="next", schedule_to_close_timeout=SECOND, skip_failure=True),
            ]
        )
        await ground.effects.seen(1)
        await job.signal(Script.signal, "next")
        await ground.ended(2, job)
        gate.set()
        [[owner, impatient, skipping]] = await job.result()
    assert owner == returned("owner")
    assert (impatient.error, impatient.type, impatient.activity) == (
        "ActivityError",
        "SCHEDULE_TO_CLOSE",
        "effect",
    )
    assert (skipping.error, skipping.failed, skipping.reused) == (None, "TimeoutError", False)
    assert len(ground.effects.attempts) == 1


@workflow.defn
class Continued:
    """Makes the same call in each of its runs."""

    @workflow.run
    async def run(self, runs: int, results: list[str]) -> list[str]:
        """See the class."""
        result: str = await dedupe.execute_activity(
            "effect",
            workflow.info().run_id,
            deduplication_key="key",
            start_to_close_timeout=timedelta(seconds=10),
            result_type=str,
        )
        results = [*results, result]
        if len(results) < runs:
            workflow.continue_as_new(args=[runs, results])
        return results


async def test_a_caller_that_continues_as_new_keeps_its_result(cached_or_not: Ground) -> None:
    """All runs of a job that continues as new get the result of the first one's call."""
    ground = cached_or_not
    async with ground.worker(workflows=[Continued]):
        results = await ground.run(Continued.run, args=[3, []])
    assert results == [ground.effects.arguments[0]] * 3
    assert len(ground.effects.attempts) == 1


@workflow.defn
class ContinuedWhileWaiting:
    """Continues as new while its call is under way."""

    @workflow.run
    async def run(self, first: bool) -> str:  # noqa: FBT001 - a workflow's arguments are positional
        """See the class."""
        handle = dedupe.start_activity(
            "effect",
            "first" if first else "second",
            deduplication_key="key",
            start_to_close_timeout=timedelta(seconds=10),
            result_type=str,
        )
        if first:
            await workflow.sleep(1)
            handle.cancel()
            workflow.continue_as_new(False)  # noqa: FBT003
        return str(await handle)


async def test_a_caller_that_continues_as_new_while_it_waits_joins_itself(real: Ground) -> None:
    """The next run joins the execution that the run before it began."""
    gate = real.effects.close()
    async with real.worker(workflows=[ContinuedWhileWaiting]):
        job = await real.start(ContinuedWhileWaiting.run, True)  # noqa: FBT003
        await real.effects.seen(1)
        await real.claiming(1)
        gate.set()
        assert await job.result() == "first"
    assert real.effects.arguments == ["first"]


async def test_a_signal_reaches_a_job_that_waits(grounds: Grounds) -> None:
    """While a call waits, its job goes on answering queries and signals."""
    ground = grounds()
    gate = ground.effects.close()
    async with ground.worker():
        job = await ground.start_script([Call(), Call(key="other", cancel_on="now")])
        await ground.effects.seen(1)
        await job.signal(Script.signal, "now")
        await ground.ended(1, job)
        gate.set()
        [[first, _]] = await job.result()
    assert first == returned("argument")
    history = await ground.history()
    causes = [
        event.workflow_task_failed_event_attributes.cause
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
    ]
    # The cancelled claim may be told in the very moment in which the job completes: its task is made again.
    assert set(causes) <= {WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND}
