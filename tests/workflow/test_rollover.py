"""Keys whose workflow continues as new, with the record as its input."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from dedupe import KeyRecord
from dedupe.pages import Pages
from tests.support.ground import Ground
from tests.support.histories import replay, types
from tests.support.scripts import Call, returned
from tests.support.servers import ROLL_OVER_SOON, dev_server
from tests.support.waiting import until


@pytest.fixture(scope="module")
async def short_lived() -> AsyncIterator[Client]:
    """A client of a server on which keys roll over after a few events."""
    async with dev_server(ROLL_OVER_SOON) as client:
        yield client


async def test_a_key_that_rolls_over_while_it_is_read_is_read_anew(
    short_lived: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a key's workflow continues as new while it is read, the reader goes on to the next run."""
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
        assert await ground.keys.forget("key")


async def test_a_failure_that_rolled_over_says_who_began_it_and_that_it_was_final(
    short_lived: Client,
) -> None:
    """A failure that rolled over names the last call that began it, and is still final: after an operator has
    ended the key, the next execution has an idempotency key of its own.
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
    """Return the key's record once its workflow has noticed the end."""
    record = await ground.keys.get("key")
    return record if record is not None and record.settled_at is not None else None
