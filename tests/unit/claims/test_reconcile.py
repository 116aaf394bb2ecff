"""When a claim has its job ask what became of a held execution: not while that may still be under way."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import ApplicationError

from dedupe.claims.claim import _Attempt
from dedupe.claims.crowd import Crowd
from dedupe.model.messages import Claim, Question, Start
from dedupe.model.record import Execution, Held, Unknown

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
EXECUTION = Execution(
    run_id="run",
    start=Start(key="k", activity="effect", idempotency_key="i-1", hold=True),
    started_at=NOW - 60 * SECOND,
)


def may_reconcile(*, over_in: timedelta, again_in: timedelta | None = None, reconciles: bool = True) -> bool:
    """Return whether the job is to ask now, of an attempt that is over then."""
    question = Question(key_id="proj:o/p:k", key="k", activity="effect", called_at=NOW, reconciles=reconciles)
    claim = Claim(question=question, reconcile_at=None if again_in is None else NOW + again_in)
    client: Any = SimpleNamespace(namespace="default")
    info: Any = SimpleNamespace(
        scheduled_time=NOW,
        current_attempt_scheduled_time=NOW,
        start_to_close_timeout=60 * SECOND,
        schedule_to_close_timeout=None,
        heartbeat_details=[],
    )
    crowd = Crowd(client, task_queue="keys", most_following=0, in_place={"effect"})
    unknown = Unknown(why="lost", since=NOW - SECOND, over_at=NOW + over_in)
    attempt = _Attempt(crowd, claim, Payload(), info)
    return attempt._may_reconcile(Held(execution=EXECUTION, unknown=unknown))


def test_it_asks_once_the_attempt_is_over() -> None:
    """And no second time before the back-off is over."""
    assert may_reconcile(over_in=-SECOND)
    assert may_reconcile(over_in=-SECOND, again_in=-SECOND)


@pytest.mark.parametrize(
    ("over_in", "again_in"),
    [(0.5 * SECOND, None), (0.5 * SECOND, -SECOND), (-SECOND, 0.5 * SECOND)],
    ids=["the attempt may go on", "the same, asked before", "asked a moment ago"],
)
def test_it_comes_back_when_it_may_ask(over_in: timedelta, again_in: timedelta | None) -> None:
    """No later than that."""
    with pytest.raises(ApplicationError, match="it is held since") as raised:
        may_reconcile(over_in=over_in, again_in=again_in)
    assert raised.value.next_retry_delay is not None
    assert raised.value.next_retry_delay <= 0.5 * SECOND


def test_a_call_that_brings_no_activity_asks_nothing() -> None:
    """It waits for others."""
    assert not may_reconcile(over_in=-SECOND, reconciles=False)
