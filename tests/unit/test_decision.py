"""The decision: which call gets what, cell by cell, and the laws behind it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure

from dedupe.decision import (
    Decision,
    Execute,
    Executing,
    ExecutionRecord,
    Record,
    Refuse,
    Settled,
    Unknown,
    Wait,
    decide,
)
from dedupe.messages import Question
from dedupe.outcome import Answer, Failed, Outcome, Succeeded

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SUCCEEDED = Succeeded(Payload(data=b"result"))


def failed(*, definite: bool = False) -> Failed:
    """Return a failure: one that the activity flagged as final, or one that leaves the effect open."""
    failure = Failure(message="Activity task failed")
    failure.cause.application_failure_info.non_retryable = definite
    return Failed(failure)


def question(**facts: Any) -> Question:
    """Return what a call wants to know."""
    known: dict[str, Any] = {
        "key_id": "proj:acme/web:key",
        "key": "key",
        "activity": "effect",
        "called_at": NOW,
    }
    return Question(**{**known, **facts})


def execution(**facts: Any) -> ExecutionRecord:
    """Return an execution of the key."""
    known: dict[str, Any] = {
        "life": "l-1",
        "activity": "effect",
        "generation": 1,
        "idempotency_key": "i-1",
        "fingerprint": None,
        "started_at": NOW - 9 * SECOND,
    }
    return ExecutionRecord(**{**known, **facts})


def settled(outcome: Outcome, *, at: datetime = NOW - SECOND, **facts: Any) -> Settled:
    """Return a settled record."""
    return Settled(execution=execution(**facts), outcome=outcome, settled_at=at, expires_at=None)


def answer(outcome: Outcome, *, at: datetime, reused: bool) -> Answer:
    """Return an answer."""
    return Answer(outcome=outcome, settled_at=at, reused=reused)


BEFORE, AFTER = NOW - SECOND, NOW + SECOND
FAILED = failed()

TABLE: list[tuple[str, Record, Decision, Decision]] = [
    ("unknown", Unknown(), Execute(), Execute()),
    ("cut off", Unknown(idempotency_key="i-1"), Execute(), Execute()),
    ("executing", Executing(execution=execution()), Wait(), Wait()),
    (
        "succeeded before",
        settled(SUCCEEDED),
        answer(SUCCEEDED, at=BEFORE, reused=True),
        answer(SUCCEEDED, at=BEFORE, reused=True),
    ),
    (
        "succeeded meanwhile",
        settled(SUCCEEDED, at=AFTER),
        answer(SUCCEEDED, at=AFTER, reused=False),
        answer(SUCCEEDED, at=AFTER, reused=False),
    ),
    ("failed before", settled(FAILED), Execute(), answer(FAILED, at=BEFORE, reused=True)),
    ("failed in that instant", settled(FAILED, at=NOW), Execute(), answer(FAILED, at=NOW, reused=True)),
    (
        "failed meanwhile",
        settled(FAILED, at=AFTER),
        answer(FAILED, at=AFTER, reused=False),
        answer(FAILED, at=AFTER, reused=False),
    ),
]


@pytest.mark.parametrize(
    ("record", "raising", "skipping"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_every_cell_of_the_table(record: Record, raising: Decision, skipping: Decision) -> None:
    """The table of what a call gets, with skip_failure=False and True."""
    assert decide(question(skip_failure=False), asked_at=NOW, record=record) == raising
    assert decide(question(skip_failure=True), asked_at=NOW, record=record) == skipping


INSTANTS = st.timedeltas(-5 * SECOND, 5 * SECOND).map(lambda offset: NOW + offset)
OUTCOMES = st.sampled_from([SUCCEEDED, failed(), failed(definite=True)])
FINGERPRINTS = st.sampled_from([None, "one", "two"])
EXECUTIONS = st.builds(
    execution,
    activity=st.sampled_from(["effect", "other"]),
    generation=st.integers(1, 3),
    fingerprint=FINGERPRINTS,
)
QUESTIONS = st.builds(question, skip_failure=st.booleans(), fingerprint=FINGERPRINTS)
RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(Unknown, idempotency_key=st.sampled_from([None, "i"])),
    st.builds(Executing, execution=EXECUTIONS),
    st.builds(Settled, execution=EXECUTIONS, outcome=OUTCOMES, settled_at=INSTANTS, expires_at=st.just(None)),
)


@given(QUESTIONS, INSTANTS, RECORDS)
def test_nothing_executes_after_a_success_or_beside_an_execution(
    asked: Question, at: datetime, record: Record
) -> None:
    """A call executes only where nothing is recorded, or a failure that was recorded before it was made."""
    if decide(asked, asked_at=at, record=record) == Execute():
        match record:
            case Unknown():
                pass
            case Settled(outcome=Failed(), settled_at=settled_at):
                assert not asked.skip_failure
                assert settled_at <= at
            case _:
                pytest.fail(f"executes over {record}")


@given(QUESTIONS, INSTANTS, RECORDS)
def test_an_answer_is_what_is_recorded(asked: Question, at: datetime, record: Record) -> None:
    """An answer is the recorded outcome, of the same activity, marked as reused where it is older."""
    match decide(asked, asked_at=at, record=record):
        case Answer(outcome=outcome, settled_at=settled_at, reused=reused):
            assert isinstance(record, Settled)
            assert (outcome, settled_at) == (record.outcome, record.settled_at)
            assert reused == (record.settled_at <= at)
            assert record.execution.activity == asked.activity
        case Wait():
            assert isinstance(record, Executing)
        case _:
            pass


@given(QUESTIONS, INSTANTS, RECORDS)
def test_another_activity_is_always_refused(asked: Question, at: datetime, record: Record) -> None:
    """Unless nothing is recorded, a call of another activity is refused, and the error names both."""
    if isinstance(record, Unknown) or record.execution.activity == asked.activity:
        return
    match decide(asked, asked_at=at, record=record):
        case Refuse(error):
            assert "'key'" in error.message
            assert "'effect'" in error.message
            assert "'other'" in error.message
        case decision:
            pytest.fail(f"{decision} over {record}")


@given(QUESTIONS, INSTANTS, RECORDS)
def test_arguments_matter_only_where_asked_for(asked: Question, at: datetime, record: Record) -> None:
    """Without a fingerprint in the question, the recorded one changes nothing."""
    asked = asked.model_copy(update={"fingerprint": None})
    if isinstance(record, Unknown):
        return
    decision = decide(asked, asked_at=at, record=record)
    assert isinstance(decision, Refuse) == (record.execution.activity != asked.activity)


@given(INSTANTS, RECORDS, st.booleans())
def test_other_arguments_never_share_an_outcome(at: datetime, record: Record, skip_failure: bool) -> None:  # noqa: FBT001
    """Where arguments count, a call neither waits for nor gets an outcome of others; it executes only over
    nothing, or over a failure that is definite.
    """
    asked = question(fingerprint="mine", skip_failure=skip_failure)
    if isinstance(record, Unknown) or record.execution.fingerprint is None:
        return
    match decide(asked, asked_at=at, record=record):
        case Execute():
            assert isinstance(record, Settled)
            assert isinstance(record.outcome, Failed)
            assert record.outcome.is_definite
        case Refuse():
            pass
        case decision:
            pytest.fail(f"{decision} over {record}")


@given(QUESTIONS, INSTANTS, INSTANTS, RECORDS)
def test_asking_later_never_turns_an_execution_into_an_answer(
    asked: Question, one: datetime, two: datetime, record: Record
) -> None:
    """The only thing that time changes is that an older failure may be executed again."""
    early, late = (decide(asked, asked_at=at, record=record) for at in sorted((one, two)))
    if early == Execute():
        assert late == Execute()
    if isinstance(early, Wait | Refuse):
        assert isinstance(late, type(early)) or late == Execute()
