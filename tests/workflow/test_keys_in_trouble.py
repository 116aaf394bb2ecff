"""The key's workflow ended by others, pushes lost, reads broken, records rolled over."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from dedupe import DedupePlugin, KeyRecord, KeyState
from dedupe.decision import Settled
from dedupe.key_server import CallerHeadersInterceptor
from dedupe.key_workflow import KeyWorkflow
from dedupe.ledger import glance
from dedupe.messages import CLAIM
from dedupe.pages import Pages
from dedupe.settle import settle
from tests.support.faults import break_peeks, lose_pushes
from tests.support.ground import Ground, Grounds
from tests.support.histories import replay, types
from tests.support.scripts import Call, returned
from tests.support.servers import ROLL_OVER_SOON, dev_server, with_plugins
from tests.support.waiting import until

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


@pytest.fixture(scope="module")
async def short_lived() -> AsyncIterator[Client]:
    """A client of a server on which keys roll over after a few events."""
    async with dev_server(ROLL_OVER_SOON) as client:
        yield client


async def test_a_key_that_rolls_over_while_it_is_read_is_read_anew(
    short_lived: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that continues as new between the service's look at which one is current, and its history's end,
    is not the record's end.
    """
    ground = Ground.on(short_lived, skips_time=False)
    gate = ground.effects.close()
    async with ground.worker():
        job = await ground.start_script([Call()] * 3)
        await ground.effects.seen(1)
        await ground.signalled(2)
        executing = await ground.keys.get("key")
        assert executing is not None
        gate.set()
        assert await job.result() == [[returned("argument")] * 3]
        first_run = executing.idempotency_key.removesuffix("-1")
        await ground.rolled_over(first_run)
        service = ground.server.workflow_service
        read_history = service.get_workflow_execution_history

        async def read_the_run_before(request: Any, **options: Any) -> Any:
            monkeypatch.undo()
            request.execution.run_id = first_run
            return await read_history(request, **options)

        def race() -> None:
            monkeypatch.setattr(service, "get_workflow_execution_history", read_the_run_before)

        record = await ground.keys.get("key")
        assert record is not None
        race()
        assert await ground.keys.get("key") == record
        race()
        assert isinstance(await glance(ground.server, ground.key_id()), Settled)
        race()
        assert await ground.keys.forget("key")


async def test_a_failure_that_rolled_over_says_who_began_it_and_that_it_was_final(
    short_lived: Client,
) -> None:
    """Of a key that was executed again and continued as new, the last call counts. Where an operator ends it,
    the failure that its activity called final lends the next execution no idempotency key.
    """
    ground = Ground.on(short_lived, skips_time=False)
    ground.effects.then(*[ApplicationError("no", non_retryable=True)] * 2)
    async with ground.worker():
        for attempts in (1, 2):
            gate = ground.effects.close()
            job = await ground.start_script([Call(skip_failure=attempts == 1)] * 3)
            await ground.effects.seen(attempts)
            run = (await ground.key_workflow().describe()).run_id
            await ground.signalled(2 * attempts)
            gate.set()
            await job.result()
            await ground.rolled_over(run)
        record = await ground.keys.get("key")
        assert record is not None
        assert (record.generation, record.started_by) == (2, ground.jobs[-1].id)
        await ground.key_workflow().terminate()
        assert await ground.call() == returned("argument")
    assert len(set(ground.effects.idempotency_keys)) == 3


@pytest.mark.parametrize("failing", [False, True], ids=["succeeded", "failed"])
async def test_a_record_that_rolls_over_stays_intact(short_lived: Client, *, failing: bool) -> None:
    """A key's workflow that continues as new carries everything on: outcome, times, generation, TTL and
    fingerprint.
    """
    ground = Ground.on(short_lived, skips_time=False)
    if failing:
        ground.effects.then(ApplicationError("refused", "details", type="Refused", non_retryable=True))
    ttl = timedelta(hours=1)
    gate = ground.effects.close()
    async with ground.worker():
        calls = [Call(on_mismatch="raise", ttl=ttl, skip_failure=True)] * 3
        job = await ground.start_script(calls)
        await ground.effects.seen(1)
        await ground.signalled(2)
        gate.set()
        [[first, *_]] = await job.result()
        before = await until(lambda: _settled(ground))
        run = before.idempotency_key.removesuffix("-1")
        await ground.rolled_over(run)
        first_run = await ground.server.get_workflow_handle(ground.key_id(), run_id=run).fetch_history()
        pages = Pages()
        for event in first_run.events:
            pages.apply(event)
        assert pages.noticed_at is not None
        assert pages.scheduled_at == before.started_at
        # `before` may be older than the workflow's notice of the end, from which on the times count.
        before = replace(before, settled_at=pages.noticed_at, expires_at=pages.noticed_at + ttl)
        assert await ground.keys.get("key") == before
        reused = await ground.call(Call(argument="other", skip_failure=True))
        assert reused == (first.model_copy(update={"reused": True}) if failing else first)
        await ground.assert_hit()
        conflict = await ground.call(Call(argument="other", on_mismatch="raise", skip_failure=True))
        assert conflict.type == "DeduplicationConflictError"
        if failing:
            assert await ground.call(Call(argument="again")) == returned("again")
            assert ground.effects.generations == [1, 2]
        assert await ground.keys.forget("key")
        assert await ground.keys.get("key") is None
    await ground.replay()
    assert types(first_run)[-1] == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW
    await replay([first_run], workflows=ground.workflows, client=ground.client, plugin=ground.plugin)


async def _settled(ground: Ground) -> KeyRecord | None:
    """Return the key's record, unless its workflow takes no notice yet of what it has told."""
    record = await ground.keys.get("key")
    return record if record is not None and record.settled_at is not None else None


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


async def test_a_key_that_nobody_serves_waits_for_a_server(real_client: Client) -> None:
    """With serve=False and nobody else serving, calls wait; a server that comes later carries them out."""
    ground = Ground.on(real_client, skips_time=False, serve=False)
    async with ground.worker():
        job = await ground.start_script(Call())
        await ground.claiming(1)
        record = await until(lambda: ground.keys.get("key"))
        assert record.state is KeyState.EXECUTING
        assert ground.effects.attempts == []
        plugin = DedupePlugin(
            organization=ground.organization, project=ground.project, task_queue=ground.key_queue
        )
        async with Worker(
            with_plugins(real_client, plugin),
            task_queue=f"idle-{uuid4()}",
            activities=[ground.effects.effect],
        ):
            assert await job.result() == [[returned("argument")]]
    await ground.replay()


async def test_workers_of_one_client_share_one_key_server(real: Ground) -> None:
    """Several workers of one client run one embedded worker, which serves until the last has drained."""
    async with asyncio.timeout(60), real.worker():
        async with real.worker(task_queue=f"second-{uuid4()}"):
            assert await real.call(Call(argument="first")) == returned("first")
        assert await real.call(Call(argument="second", key="second")) == returned("second")
