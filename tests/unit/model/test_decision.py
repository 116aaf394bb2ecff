"""The decision: which call gets what, cell by cell, and the laws behind it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure

from dedupe.model.answer import Answer, How
from dedupe.model.decision import Begin, Decision, Hold, Refuse, Share, decide
from dedupe.model.messages import Executor, Question, Start
from dedupe.model.outcome import Abandoned, Failed, Outcome, Succeeded
from dedupe.model.record import Absent, Executing, Execution, Held, Record, Settled, Unknown

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SUCCEEDED = Succeeded(Payload(data=b"result"))


def failed(*, definite: bool = False, cancelled: bool = False) -> Failed:
    """Return a failure: one that the activity flagged as final, or one that leaves the effect open."""
    failure = Failure(message="Activity task failed")
    if cancelled:
        failure.cause.canceled_failure_info.SetInParent()
    else:
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


def execution(**facts: Any) -> Execution:
    """Return an execution of the key."""
    known: dict[str, Any] = {"key": "key", "activity": "effect", "idempotency_key": "i-1", "caller": "job"}
    return Execution(run_id="run", start=Start(**{**known, **facts}), started_at=NOW - 9 * SECOND)


def settled(outcome: Outcome, *, at: datetime = NOW - SECOND, **facts: Any) -> Settled:
    """Return a settled record."""
    return Settled(execution=execution(**facts), outcome=outcome, settled_at=at, expires_at=None)


def answer(outcome: Succeeded | Failed, *, at: datetime, how: How) -> Answer:
    """Return an answer."""
    return Answer(outcome=outcome, settled_at=at, how=how, executor=Executor(job_id="job"))


BEFORE, AFTER = NOW - SECOND, NOW + SECOND
FAILED, CANCELLED = failed(), failed(cancelled=True)
EXECUTION = execution()
HELD = Held(execution=EXECUTION, unknown=Unknown(why="lost", since=BEFORE, over_at=NOW))


def _same(record: Record, decision: Decision) -> tuple[Record, Decision, Decision]:
    return record, decision, decision


def _begins(record: Absent | Settled) -> tuple[Record, Decision, Decision]:
    return _same(record, Begin(record))


TABLE: dict[str, tuple[Record, Decision, Decision]] = {
    "absent": _begins(Absent()),
    "forgotten": _begins(Absent(last_run=EXECUTION.run_id)),
    "expired": _begins(Absent(expired=EXECUTION, last_run=EXECUTION.run_id)),
    "cut off": _begins(Absent(before=EXECUTION, last_run=EXECUTION.run_id)),
    "abandoned": _begins(settled(Abandoned())),
    "executing": _same(Executing(execution=EXECUTION), Share(EXECUTION)),
    "held": _same(HELD, Hold(HELD)),
    "succeeded before": _same(settled(SUCCEEDED), answer(SUCCEEDED, at=BEFORE, how=How.REUSED)),
    "succeeded meanwhile": _same(settled(SUCCEEDED, at=AFTER), answer(SUCCEEDED, at=AFTER, how=How.JOINED)),
    "failed before": (
        settled(FAILED),
        Begin(settled(FAILED)),
        answer(FAILED, at=BEFORE, how=How.REUSED),
    ),
    "failed in that instant": (
        settled(FAILED, at=NOW),
        Begin(settled(FAILED, at=NOW)),
        answer(FAILED, at=NOW, how=How.REUSED),
    ),
    "failed meanwhile": _same(settled(FAILED, at=AFTER), answer(FAILED, at=AFTER, how=How.JOINED)),
    "cancelled before": _begins(settled(CANCELLED)),
    "cancelled meanwhile": _same(settled(CANCELLED, at=AFTER), answer(CANCELLED, at=AFTER, how=How.JOINED)),
}


@pytest.mark.parametrize(("record", "raising", "skipping"), TABLE.values(), ids=TABLE)
def test_every_cell_of_the_table(record: Record, raising: Decision, skipping: Decision) -> None:
    """The table of what a call gets, with skip_failure=False and True."""
    assert decide(question(skip_failure=False), record, asked_at=NOW) == raising
    assert decide(question(skip_failure=True), record, asked_at=NOW) == skipping


def test_the_end_of_the_run_that_a_call_waited_for_is_its_answer() -> None:
    """Whenever that end was recorded: a call that saw it executing has joined it."""
    record = settled(FAILED)
    assert decide(question(), record, asked_at=NOW, waited_for="run") == answer(
        FAILED, at=BEFORE, how=How.JOINED
    )
    assert decide(question(), record, asked_at=NOW, waited_for="another") == Begin(record)


@pytest.mark.parametrize(
    "record", [Absent(expired=EXECUTION), Absent(last_run=EXECUTION.run_id)], ids=["expired", "forgotten"]
)
def test_a_new_life_may_be_that_of_another_activity(record: Absent) -> None:
    """Only an execution that is continued, with its idempotency key, binds the key to its activity."""
    assert decide(question(activity="other"), record, asked_at=NOW) == Begin(record)


INSTANTS = st.timedeltas(-5 * SECOND, 5 * SECOND).map(lambda offset: NOW + offset)
OUTCOMES = st.sampled_from([SUCCEEDED, failed(), failed(definite=True), CANCELLED, Abandoned()])
FINGERPRINTS = st.sampled_from([None, "one", "two"])
EXECUTIONS = st.builds(
    execution,
    activity=st.sampled_from(["effect", "other"]),
    generation=st.integers(1, 3),
    fingerprint=FINGERPRINTS,
)
QUESTIONS = st.builds(question, skip_failure=st.booleans(), fingerprint=FINGERPRINTS)
RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(Absent, before=st.none() | EXECUTIONS, last_run=st.none() | st.just("run")),
    st.builds(Executing, execution=EXECUTIONS),
    st.builds(Held, execution=EXECUTIONS, unknown=st.just(HELD.unknown)),
    st.builds(Settled, execution=EXECUTIONS, outcome=OUTCOMES, settled_at=INSTANTS, expires_at=st.just(None)),
)


def execution_of(record: Record) -> Execution | None:
    """Return the execution that binds the key; None where there is none."""
    return record.before if isinstance(record, Absent) else record.execution


@given(QUESTIONS, INSTANTS, RECORDS)
def test_nothing_executes_after_a_success_or_beside_an_execution(
    asked: Question, at: datetime, record: Record
) -> None:
    """A call executes only where nothing is recorded, or a failure that was recorded before it was made."""
    if isinstance(decide(asked, record, asked_at=at), Begin):
        match record:
            case Absent() | Settled(outcome=Abandoned()):
                pass
            case Settled(outcome=Failed() as failed, settled_at=settled_at):
                assert not asked.skip_failure or failed.is_cancellation
                assert settled_at <= at
            case _:
                pytest.fail(f"executes over {record}")


@given(QUESTIONS, INSTANTS, RECORDS)
def test_an_answer_is_what_is_recorded(asked: Question, at: datetime, record: Record) -> None:
    """An answer is the recorded outcome, of the same activity, marked as reused where it is older."""
    match decide(asked, record, asked_at=at):
        case Answer(outcome=outcome, settled_at=settled_at, reused=reused, executor=executor):
            assert isinstance(record, Settled)
            assert executor == Executor(job_id="job")
            assert (outcome, settled_at) == (record.outcome, record.settled_at)
            assert reused == (record.settled_at <= at)
            assert record.execution.start.activity == asked.activity
        case Share():
            assert isinstance(record, Executing)
        case _:
            pass


@given(QUESTIONS, INSTANTS, RECORDS)
def test_another_activity_is_always_refused(asked: Question, at: datetime, record: Record) -> None:
    """Unless nothing binds the key, a call of another activity is refused, and the error names both."""
    bound = execution_of(record)
    if bound is None or bound.start.activity == asked.activity:
        return
    match decide(asked, record, asked_at=at):
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
    bound = execution_of(record)
    decision = decide(asked, record, asked_at=at)
    assert isinstance(decision, Refuse) == (bound is not None and bound.start.activity != asked.activity)


@given(INSTANTS, RECORDS, st.booleans())
def test_other_arguments_never_share_an_outcome(at: datetime, record: Record, skip_failure: bool) -> None:  # noqa: FBT001
    """Where arguments count, a call neither waits for nor gets an outcome of others; it executes only over
    nothing, or over a failure that is definite.
    """
    asked = question(fingerprint="mine", skip_failure=skip_failure)
    bound = execution_of(record)
    if bound is None or bound.start.fingerprint is None:
        return
    match decide(asked, record, asked_at=at):
        case Begin():
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
    early, late = (decide(asked, record, asked_at=at) for at in sorted((one, two)))
    if isinstance(early, Begin):
        assert isinstance(late, Begin)
    if isinstance(early, Share | Refuse):
        assert isinstance(late, (type(early), Begin))
