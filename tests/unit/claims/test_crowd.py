"""Claims that wait, many at once: when they come back, and what they say meanwhile."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

import dedupe.claims.crowd
from dedupe.claims.crowd import Crowd
from dedupe.key.attempts import Story
from dedupe.model.messages import Start
from dedupe.model.record import Execution

SECOND = timedelta(seconds=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
EXECUTION = Execution(
    run_id="run", start=Start(key="key", activity="effect", idempotency_key="1"), started_at=NOW
)


@pytest.fixture
def crowd() -> Crowd:
    """The claims of a worker, whose service is not asked."""
    client: Any = None
    return Crowd(client, task_queue="keys", most_following=25, in_place=frozenset())


def returns(crowd: Crowd, key: str, delay: timedelta, number: int) -> list[float]:
    """Return when so many claims of a key come back, on this process's clock."""
    return [time.monotonic() + crowd.spaced(key, delay).total_seconds() for _ in range(number)]


def test_a_crowd_comes_back_one_by_one(crowd: Crowd) -> None:
    """Of one key one each 20 ms, none sooner than it asked for."""
    began = time.monotonic()
    all_of_them = returns(crowd, "key", SECOND, 200)
    assert all(later - sooner > 0.019 for sooner, later in pairwise(all_of_them))
    assert all_of_them[0] >= began + 1
    assert all_of_them[-1] < time.monotonic() + 1 + 200 * 0.021


def test_a_crowd_holds_up_no_other_key(crowd: Crowd) -> None:
    """Another key's claim, and one that comes after the crowd has gone, wait as long as they asked for."""
    returns(crowd, "key", SECOND, 200)
    assert crowd.spaced("other", SECOND) <= SECOND
    assert crowd.spaced("key", 60 * SECOND) <= 60 * SECOND


def test_a_worker_remembers_some_crowds(crowd: Crowd) -> None:
    """What it knows of keys is bounded."""
    for number in range(3_000):
        crowd.spaced(f"key-{number}", SECOND)
    assert len(crowd._last_return) == 1_000


def answering(answer: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the service answer so."""

    async def story_of(client: Client, execution: Execution, *, key_id: str, now: datetime) -> Story:
        del client, execution, key_id, now
        found: Story = await answer()
        return found

    monkeypatch.setattr(dedupe.claims.crowd, "story_of", story_of)


async def test_a_service_that_is_silent_costs_no_heartbeat(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a call waits for is found out within a second, or not."""

    async def silent() -> Story:
        await asyncio.Event().wait()
        return Story(words="never")

    answering(silent, monkeypatch)
    began = time.monotonic()
    story = await crowd.story(EXECUTION, key_id="id", now=NOW)
    assert story == Story(words="the service could not be asked (TimeoutError)")
    assert time.monotonic() - began < 2


async def test_all_that_wait_for_a_run_ask_once(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found out counts for a while, an error too."""
    asked: list[int] = []

    async def refuse() -> Story:
        asked.append(1)
        raise RPCError("no", RPCStatusCode.PERMISSION_DENIED, b"")

    answering(refuse, monkeypatch)
    for _ in range(50):
        story = await crowd.story(EXECUTION, key_id="id", now=NOW)
        assert story == Story(words="the service could not be asked (RPCError)")
    assert len(asked) == 1
