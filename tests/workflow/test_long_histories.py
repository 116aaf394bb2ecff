"""Long histories of keys are read at their two ends, whatever is between and whatever happens meanwhile."""

from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from dedupe.decision import Executing, Settled
from dedupe.ledger import read
from dedupe.outcome import Succeeded
from tests.support.ground import LONG_HISTORY, Ground
from tests.support.scripts import Call, returned


async def test_a_long_history_that_was_ended_keeps_the_last_idempotency_key(real: Ground) -> None:
    """Where a key with a long history is terminated, the next execution has the last idempotency key."""
    real.effects.then(ApplicationError("no", non_retryable=True), ApplicationError("no", non_retryable=True))
    async with real.worker():
        for _ in range(2):
            await real.call(Call())
        gate = real.effects.close()
        job = await real.start_script(Call())
        await real.effects.seen(3)
        await real.lengthen()
        await real.key_workflow().terminate()
        gate.set()
        await job.cancel()
        assert await real.call(Call()) == returned("argument")
    assert real.effects.idempotency_keys[3] == real.effects.idempotency_keys[2]
    assert len(set(real.effects.idempotency_keys)) == 3


async def test_a_key_that_begins_anew_between_two_pages_is_read_anew(
    real: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two ends of a history belong to one run, even where the key is forgotten between the two reads."""
    real.effects.then(*[ApplicationError("old", type="Refused", non_retryable=True)] * 3)
    async with real.worker():
        for _ in range(4):
            await real.call()
        service = real.server.workflow_service
        read_last = service.get_workflow_execution_history_reverse

        async def begin_anew_first(*arguments: Any, **options: Any) -> Any:
            monkeypatch.undo()
            assert await real.keys.forget("key")
            assert await real.call(Call(argument="new")) == returned("new")
            return await read_last(*arguments, **options)

        monkeypatch.setattr(service, "get_workflow_execution_history_reverse", begin_anew_first)
        record = await read(real.server, real.key_id())
    assert isinstance(record, Settled)
    assert isinstance(record.outcome, Succeeded)
    assert record.outcome.result.data == b'"new"'


async def test_a_key_that_many_wait_for_is_read_at_its_beginning(
    real: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a key executes, only the beginning of its long history is read. Once it is settled, all of it is,
    where the end may be anywhere.
    """
    service = real.server.workflow_service
    fetch = service.get_workflow_execution_history
    events = 0

    async def fetch_a_page(request: Any, **options: Any) -> Any:
        nonlocal events
        response = await fetch(request, **options)
        events += len(response.history.events)
        return response

    gate = real.effects.close()
    async with real.worker():
        job = await real.start_script(Call())
        await real.effects.seen(1)
        await real.lengthen()
        monkeypatch.setattr(service, "get_workflow_execution_history", fetch_a_page)
        executing = await read(real.server, real.key_id())
        assert 0 < events < LONG_HISTORY
        gate.set()
        assert await job.result() == [[returned("argument")]]
        await real.lengthen()
        settled = await read(real.server, real.key_id())
    assert isinstance(executing, Executing)
    assert isinstance(settled, Settled)
    assert settled.execution == executing.execution
    record = await real.keys.get("key")
    assert record is not None
    assert settled.settled_at == record.settled_at


async def test_a_later_execution_of_a_key_that_many_wait_for_is_known(real: Ground) -> None:
    """What executes is not always what the beginning of the history is about."""
    real.effects.then(ApplicationError("no", non_retryable=True))
    async with real.worker():
        await real.call(Call(argument="first"))
        await real.lengthen()
        gate = real.effects.close()
        job = await real.start_script(Call(argument="second"))
        await real.effects.seen(2)
        found = await read(real.server, real.key_id())
        compared = await read(real.server, real.key_id(), with_fingerprint=True)
        gate.set()
        assert await job.result() == [[returned("second")]]
    assert isinstance(found, Executing)
    assert isinstance(compared, Executing)
    assert found.execution.turn == compared.execution.turn == f"{real.effects.idempotency_keys[1]}/2"
    assert (found.execution.activity, compared.execution.activity) == ("effect", "effect")
    assert found.execution.fingerprint is None
    assert compared.execution.fingerprint is not None
