"""What a peek leaves in a job's history: a whole answer, or a sighting."""

from datetime import UTC, datetime

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure

from dedupe.decision import Executing, ExecutionRecord, Record, Settled, Unknown
from dedupe.messages import Peek, Question, Sighting, decode
from dedupe.outcome import Failed, Outcome, Succeeded, decode_answer
from dedupe.peek import Peeks

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KIB = 1024
EXECUTION = ExecutionRecord(
    life="life", activity="effect", generation=2, idempotency_key="i-2", fingerprint=None, started_at=NOW
)
NOTHING_SEEN = Sighting()


def peek(*, task: int = 3, activity: str = "effect") -> Peek:
    """Return the peek of a call that does not skip failures."""
    return Peek(question=Question(key_id="id", key="key", activity=activity, called_at=NOW), task=task)


def settled(outcome: Outcome) -> Settled:
    """Return a record with this outcome."""
    return Settled(execution=EXECUTION, outcome=outcome, settled_at=NOW, expires_at=None)


def recorded(size: int) -> Settled:
    """Return the record of a success whose answer has so many bytes."""
    empty = Payload(metadata={"encoding": b"json/plain", "dedupe": b"succeeded"}, data=b"x" * size)
    return settled(
        Succeeded(Payload(metadata={"encoding": b"json/plain"}, data=b"x" * (2 * size - empty.ByteSize())))
    )


def answers(peeks: Peeks, record: Record, *, task: int = 3, run_id: str = "run") -> bool:
    """Return whether a peek answers."""
    left = peeks.leave(peek(task=task), record, run_id=run_id).payload
    if decode_answer(left) is not None:
        return True
    assert decode(Sighting, left) == NOTHING_SEEN
    return False


@pytest.mark.parametrize(
    ("record", "sighting"),
    [
        (Unknown(), Sighting(unknown=True)),
        (Unknown(idempotency_key="i-1"), NOTHING_SEEN),
        (Executing(execution=EXECUTION), Sighting(executing=True, turn="i-2/2")),
        (settled(Failed(Failure())), NOTHING_SEEN),
    ],
    ids=["unknown", "cut off", "executing", "failed"],
)
def test_what_is_no_answer_is_a_sighting(record: Record, sighting: Sighting) -> None:
    """The claim learns what it can act upon without another look."""
    assert decode(Sighting, Peeks().leave(peek(), record, run_id="run").payload) == sighting


def test_another_activity_is_left_to_the_claim() -> None:
    """A conflict is an error of the claim, and no answer."""
    left = Peeks().leave(peek(activity="other"), recorded(KIB), run_id="run")
    assert decode(Sighting, left.payload) == NOTHING_SEEN


def test_an_answer_of_32_kib_is_left_and_no_larger_one() -> None:
    """The README's limit, to the byte."""
    assert answers(Peeks(), recorded(32 * KIB))
    assert not answers(Peeks(), recorded(32 * KIB + 1))


def test_the_answers_of_one_task_are_at_most_a_mebibyte() -> None:
    """More than that would not fit into the task's message; the next task begins anew, as do other jobs."""
    peeks = Peeks()
    answered = [answers(peeks, recorded(31 * KIB)) for _ in range(40)]
    assert answered == [True] * 33 + [False] * 7
    assert answers(peeks, recorded(KIB))
    assert not answers(peeks, recorded(KIB))
    assert answers(peeks, recorded(31 * KIB), run_id="another")
    assert answers(peeks, recorded(31 * KIB), task=9)


def test_what_is_known_of_jobs_does_not_grow() -> None:
    """A worker sees any number of jobs in its life."""
    peeks = Peeks()
    for job in range(1_100):
        assert answers(peeks, recorded(KIB), run_id=f"run-{job}")
    assert len(peeks._left) == 1_000
