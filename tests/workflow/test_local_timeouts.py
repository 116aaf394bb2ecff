"""Local activities that time out: the SDK raises that as another error when it replays the history."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from dedupe import KeyState
from dedupe.claims import activities
from dedupe.claims.peek import Peeks
from dedupe.job import peeking, scheduled
from tests.support.ground import Ground
from tests.support.scripts import Call, returned

_SHORT = timedelta(milliseconds=200)


async def _never(*_args: object, **_options: object) -> Any:
    await asyncio.Event().wait()


async def test_a_job_whose_peek_timed_out_replays(real: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peek that was too slow leaves the decision to a claim, also when the job's history is replayed."""
    monkeypatch.setattr(peeking, "_TIMEOUT", _SHORT)
    monkeypatch.setattr(Peeks, "peek", _never)
    async with real.worker():
        assert await real.call() == returned("argument")
    assert [attempt.attempt for attempt in real.effects.attempts] == [1]
    assert await real.replay() == 2


async def test_a_job_whose_failure_could_not_be_recorded_has_it_all_the_same(
    real: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on with its failure; whoever needs the key next finds that in the job's history."""
    real.effects.then(ApplicationError("no", type="Refused", non_retryable=True))
    with monkeypatch.context() as slow:
        slow.setattr(scheduled, "_RECORD_TIMEOUT", _SHORT)
        slow.setattr(scheduled, "_RECORD_ATTEMPTS", 3)
        slow.setattr(activities, "settle", _never)
        async with real.worker():
            ended = await real.call()
    assert (ended.error, ended.type) == ("ActivityError", "Refused")
    assert await real.state() is KeyState.EXECUTING
    async with real.worker():
        skipped = await real.call(Call(skip_failure=True))
        assert (skipped.failed, skipped.message) == ("Refused", "no")
        assert await real.state() is KeyState.FAILED
        assert await real.call() == returned("argument")
    assert len(real.effects.attempts) == 2
