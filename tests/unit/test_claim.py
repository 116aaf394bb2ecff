"""A claim's own look at the record, where that cannot be decoded; and what it knows of its attempts."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import Client

from dedupe.claim import Claim
from dedupe.decision import Record, Unknown
from dedupe.errors import UnreadableRecordError
from dedupe.key_handle import KeyHandle
from dedupe.messages import Plan, Question, Waiter

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def claim(*, attempt: int, elapsed: timedelta = timedelta(0)) -> Claim:
    """Return a claim that looks again at once."""
    return Claim(
        key=KeyHandle(client=cast("Client", object()), key_id="id"),
        question=Question(key_id="id", key="key", activity="effect", called_at=NOW),
        plan=Plan(task_queue="queue"),
        arguments=Payload(),
        waiter=Waiter(workflow_id="job", run_id="run", activity_id="1"),
        asked_at=NOW,
        attempt=attempt,
        elapsed=elapsed,
        slice=timedelta(milliseconds=10),
    )


def unreadable(times: int) -> tuple[list[int], Callable[..., Awaitable[Record]]]:
    """Return a read that cannot decode the record so many times, and the times that it was tried."""
    tried: list[int] = []

    async def read(handle: KeyHandle, **options: Any) -> Record:
        del handle, options
        tried.append(len(tried))
        if len(tried) > times:
            return Unknown()
        message = "the key service is away"
        raise ValueError(message)

    return tried, read


async def test_a_young_claim_comes_back_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempts leave it to later ones, which may be another worker's with the right codec."""
    tried, read = unreadable(1)
    monkeypatch.setattr(KeyHandle, "read", read)
    with pytest.raises(ValueError, match="is away"):
        await claim(attempt=9).read()
    assert len(tried) == 1


async def test_a_claim_that_waited_for_long_gets_over_a_codec_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An attempt's number says nothing of how often the record could not be read."""
    _, read = unreadable(2)
    monkeypatch.setattr(KeyHandle, "read", read)
    assert await claim(attempt=50).read() == Unknown()


async def test_a_record_that_stays_unreadable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the end the call is told, and by an error that names the key."""
    _, read = unreadable(1_000)
    monkeypatch.setattr(KeyHandle, "read", read)
    with pytest.raises(UnreadableRecordError, match="'key'"):
        await claim(attempt=10).read()


@pytest.mark.parametrize(
    ("attempt", "slices", "early"),
    [(1, 0, 0), (2, 0, 1), (2, 1, 0), (2, 1.5, 0), (5, 4.2, 0), (5, 3.1, 1), (5, 0, 4), (8, 8.2, 0)],
)
def test_a_claim_knows_how_often_it_came_back_early(attempt: int, slices: float, early: int) -> None:
    """Whoever was not left to the wait slice was told to come back, and makes a request anew."""
    slice_ = claim(attempt=1).slice
    assert claim(attempt=attempt, elapsed=slices * slice_).early_returns == early
