"""What a key is: what each kind of run means, and what the next execution begins with."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import (
    ApplicationFailureInfo,
    CanceledFailureInfo,
    Failure,
    TimeoutFailureInfo,
)

from dedupe.model.messages import Owner, Start
from dedupe.model.names import INTERRUPTED, TOO_LARGE
from dedupe.model.outcome import Abandoned, Failed, Outcome, Succeeded
from dedupe.model.record import (
    MARGIN,
    Absent,
    Closed,
    End,
    Executing,
    Execution,
    Held,
    Record,
    Run,
    Settled,
    Unknown,
    following,
    over_at,
    record_of,
    unknown_after,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
RESULT = Succeeded(Payload(data=b"result"))


def failed(*, definite: bool) -> Failed:
    """Return a failure."""
    failure = Failure()
    failure.cause.application_failure_info.non_retryable = definite
    return Failed(failure)


def execution(**facts: Any) -> Execution:
    """Return the third generation of a key."""
    known: dict[str, Any] = {"key": "k", "activity": "effect", "generation": 3, "idempotency_key": "i-3"}
    return Execution(run_id="run", start=Start(**{**known, **facts}), started_at=NOW - 2 * HOUR)


def run(outcome: Outcome | None, closed: Closed | None, *, ttl: timedelta | None = None) -> Run:
    """Return a run whose outcome, if any, was recorded an hour ago."""
    end = None if outcome is None else End(outcome=outcome, at=NOW - HOUR)
    return Run(execution=execution(ttl=ttl), end=end, closed=closed)


def settled(outcome: Outcome, *, ttl: timedelta | None = None) -> Settled:
    """Return what an outcome of an hour ago means."""
    expires_at = None if ttl is None else NOW - HOUR + ttl
    return Settled(
        execution=execution(ttl=ttl), outcome=outcome, settled_at=NOW - HOUR, expires_at=expires_at
    )


GONE = Absent(last_run=execution().run_id)
CUT_OFF = Absent(before=execution(), last_run=execution().run_id)
UNKNOWN = Unknown(why="lost", since=NOW - HOUR, over_at=NOW)
LONG, SHORT = 2 * HOUR, HOUR

TABLE: dict[str, tuple[Run, Record]] = {
    "open": (run(None, None), Executing(execution=execution())),
    "held": (
        replace(run(None, None), unknown=UNKNOWN),
        Held(execution=execution(), unknown=UNKNOWN),
    ),
    "held, and resolved": (replace(run(RESULT, None), unknown=UNKNOWN), settled(RESULT)),
    "held, and ended from outside": (replace(run(None, Closed.OUTSIDE), unknown=UNKNOWN), CUT_OFF),
    "held, and forgotten": (replace(run(None, Closed.FORGOTTEN), unknown=UNKNOWN), GONE),
    "succeeded": (run(RESULT, None), settled(RESULT)),
    "failed": (run(failed(definite=True), None), settled(failed(definite=True))),
    "abandoned": (run(Abandoned(), None), settled(Abandoned())),
    "kept for longer": (run(RESULT, None, ttl=LONG), settled(RESULT, ttl=LONG)),
    "over": (run(RESULT, None, ttl=SHORT), Absent(expired=execution(ttl=SHORT), last_run=execution().run_id)),
    "over, and closed": (
        run(RESULT, Closed.ITSELF, ttl=SHORT),
        Absent(expired=execution(ttl=SHORT), last_run=execution().run_id),
    ),
    "closed with its outcome, on the server that skips time": (run(RESULT, Closed.ITSELF), settled(RESULT)),
    "forgotten on the server that skips time": (run(None, Closed.ITSELF), GONE),
    "forgotten": (run(RESULT, Closed.FORGOTTEN), GONE),
    "forgotten while it executed": (run(None, Closed.FORGOTTEN), GONE),
    "replaced, and its successor not there yet": (
        run(failed(definite=False), Closed.REPLACED),
        settled(failed(definite=False)),
    ),
    "ended from outside": (run(None, Closed.OUTSIDE), CUT_OFF),
    "succeeded, and ended from outside": (run(RESULT, Closed.OUTSIDE), CUT_OFF),
    "failed for good, and ended from outside": (run(failed(definite=True), Closed.OUTSIDE), GONE),
    "over, and ended from outside": (run(RESULT, Closed.OUTSIDE, ttl=SHORT), GONE),
}


@pytest.mark.parametrize(("found", "record"), TABLE.values(), ids=TABLE)
def test_every_run_means_one_thing(found: Run, record: Record) -> None:
    """The table of runs."""
    assert record_of(found, now=NOW) == record


def test_a_record_is_over_at_the_very_moment() -> None:
    """It answers until then, and not at that time."""
    found = run(RESULT, None, ttl=SHORT)
    assert isinstance(record_of(found, now=NOW - timedelta(microseconds=1)), Settled)
    assert isinstance(record_of(found, now=NOW), Absent)


@pytest.mark.parametrize(
    ("record", "generation", "keeps"),
    [
        (Absent(), 1, False),
        (GONE, 1, False),
        (Absent(expired=execution(), last_run=execution().run_id), 1, False),
        (CUT_OFF, 3, True),
        (settled(Abandoned()), 3, True),
        (settled(failed(definite=False)), 4, True),
        (settled(failed(definite=True)), 4, False),
    ],
    ids=["new", "forgotten", "expired", "cut off", "abandoned", "failed", "failed for good"],
)
def test_the_next_execution_keeps_the_idempotency_key_where_the_effect_may_have_happened(
    record: Absent | Settled, generation: int, *, keeps: bool
) -> None:
    """It moves on only where nothing may have happened under it, or where the key begins a new life."""
    next_one = following(record, key_id="id", call="a call")
    assert next_one.generation == generation
    assert (next_one.idempotency_key == "i-3") == keeps


def test_a_new_idempotency_key_is_that_of_its_call() -> None:
    """Attempts of one call begin with the same key, so a start whose answer was lost changes nothing."""
    one = following(Absent(), key_id="id", call="a call")
    assert one == following(Absent(), key_id="id", call="a call")
    others = [
        following(Absent(), key_id="another", call="a call"),
        following(Absent(), key_id="id", call="another call"),
        following(settled(failed(definite=True)), key_id="id", call="a call"),
    ]
    assert len({each.idempotency_key for each in (one, *others)}) == 4
    assert one.idempotency_key.endswith("-1")
    assert len(one.idempotency_key) == 38


def _ended(**cause: Any) -> Failed:
    return Failed(Failure(cause=Failure(message="of the cause", **cause)))


ENDS: dict[str, tuple[Outcome, bool]] = {
    "succeeded": (RESULT, False),
    "failed": (_ended(application_failure_info=ApplicationFailureInfo(type="Refused")), False),
    "failed for good": (_ended(application_failure_info=ApplicationFailureInfo(non_retryable=True)), False),
    "interrupted": (_ended(application_failure_info=ApplicationFailureInfo(type=INTERRUPTED)), True),
    "too large": (_ended(application_failure_info=ApplicationFailureInfo(type=TOO_LARGE)), True),
    "timed out": (_ended(timeout_failure_info=TimeoutFailureInfo()), True),
    "cancelled": (_ended(canceled_failure_info=CanceledFailureInfo()), True),
    "abandoned": (Abandoned(), True),
}


@pytest.mark.parametrize(("outcome", "is_unknown"), ENDS.values(), ids=ENDS)
def test_what_leaves_an_outcome_unknown(outcome: Outcome, *, is_unknown: bool) -> None:
    """Whatever is not the activity's own answer, and only where the call asked to hold it."""
    assert (unknown_after(execution(hold=True), outcome, at=NOW) is not None) == is_unknown
    assert unknown_after(execution(), outcome, at=NOW) is None


def test_when_an_attempt_must_be_over() -> None:
    """A first attempt from when it acquired the key, a later one from when it was given up."""
    owner = Owner(workflow_id="w", run_id="r", activity_id="a", longest_attempt=HOUR)
    first = execution(hold=True, owner=owner)
    assert over_at(first, now=NOW) == NOW - 2 * HOUR + HOUR + MARGIN
    assert over_at(replace(first, answered=1), now=NOW) == NOW + HOUR + MARGIN
    interrupted = unknown_after(first, ENDS["interrupted"][0], at=NOW)
    assert interrupted is not None
    assert interrupted.over_at == NOW
