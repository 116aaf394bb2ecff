"""What a peek leaves in a job's history: a whole answer, or what the call is to do."""

from datetime import UTC, datetime

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.client import Client

from dedupe.claims.peek import Peeks
from dedupe.model.answer import Answer, How, decode_answer
from dedupe.model.messages import Execute, Executor, Peek, Peeked, Question, Referral, Refused, Start, Wait
from dedupe.model.outcome import Abandoned, Failed, Outcome, Succeeded
from dedupe.model.payloads import decode_referral
from dedupe.model.record import Absent, Executing, Execution, Record, Settled
from dedupe.record.handle import KeyHandle

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KIB = 1024
EXECUTION = Execution(
    run_id="run",
    start=Start(key="key", activity="effect", idempotency_key="i-1", caller="job"),
    started_at=NOW,
)


class Records(dict[str, Record | Exception]):
    """What is recorded under each key, or what reading it raises."""


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Records:
    """Let handles of keys read from here."""
    found = Records()

    async def read(key: KeyHandle, *, now: datetime) -> Record:
        assert now == NOW
        record = found[key.key_id]
        if isinstance(record, Exception):
            raise record
        return record

    monkeypatch.setattr(KeyHandle, "read", read)
    return found


def peeks() -> Peeks:
    """Return the peeks of a worker that has one activity. It reads through handles alone."""
    client: Client = object.__new__(Client)
    return Peeks(client, in_place={"effect"})


def settled(outcome: Outcome) -> Settled:
    """Return a record with this outcome."""
    return Settled(execution=EXECUTION, outcome=outcome, settled_at=NOW, expires_at=None)


def recorded(size: int) -> Settled:
    """Return the record of a success whose answer has so many bytes."""

    def success(length: int) -> Succeeded:
        return Succeeded(Payload(metadata={"encoding": b"json/plain"}, data=b"x" * length))

    executor = Executor(job_id=EXECUTION.start.caller)
    answer = Answer(outcome=success(size), settled_at=NOW, how=How.REUSED, executor=executor).encode()
    return settled(success(2 * size - answer.ByteSize()))


def peek(*keys: str, task: int = 3, activity: str = "effect", here: bool = True) -> Peek:
    """Return the peek of calls that do not skip failures."""
    questions = [Question(key_id=key, key=key, activity=activity, called_at=NOW) for key in keys]
    return Peek(questions=tuple(Peeked(question=question, here=here) for question in questions), task=task)


async def left(by: Peeks, asked: Peek, *, run_id: str = "run") -> list[Payload]:
    """Return what a peek leaves for each question."""
    return await by.peek(asked, run_id=run_id)


async def answers(by: Peeks, *keys: str, task: int = 3, run_id: str = "run") -> list[bool]:
    """Return which questions a peek answers; the others are for a claim."""
    payloads = await left(by, peek(*keys, task=task), run_id=run_id)
    for payload in payloads:
        assert decode_answer(payload) is not None or decode_referral(payload) == Wait()
    return [decode_answer(payload) is not None for payload in payloads]


@pytest.mark.parametrize(
    ("record", "referral"),
    [
        (Absent(), Execute()),
        (Absent(before=EXECUTION, last_run=EXECUTION.run_id), Execute()),
        (settled(Abandoned()), Execute()),
        (settled(Failed(Failure())), Execute()),
        (Executing(execution=EXECUTION), Wait(run_id="run")),
        (ValueError("it is encrypted"), Wait()),
    ],
    ids=["absent", "cut off", "abandoned", "failed", "executing", "unreadable"],
)
async def test_what_is_not_an_answer_says_where_to_go_on(
    records: Records, record: Record | Exception, referral: Referral
) -> None:
    """The call learns what it can act upon without another look."""
    records["key"] = record
    [payload] = await left(peeks(), peek("key"))
    assert decode_referral(payload) == referral


@pytest.mark.parametrize(
    "asked", [peek("key", activity="other"), peek("key", here=False)], ids=["no such", "elsewhere"]
)
async def test_what_cannot_be_executed_here_is_delegated(records: Records, asked: Peek) -> None:
    """An activity that this worker does not have, or that belongs elsewhere, is for the key's workflow."""
    records["key"] = Absent()
    [payload] = await left(peeks(), asked)
    assert decode_referral(payload) == Wait(delegated=True)


async def test_another_activity_is_refused(records: Records) -> None:
    """A conflict is told at once."""
    records["key"] = recorded(KIB)
    [payload] = await left(peeks(), peek("key", activity="other"))
    refused = decode_referral(payload)
    assert isinstance(refused, Refused)
    assert refused.type == "DeduplicationConflictError"


async def test_one_key_that_cannot_be_read_costs_the_others_nothing(records: Records) -> None:
    """Calls that are made together are read together, and each gets what its own record says."""
    records.update(one=recorded(KIB), two=ValueError("it is encrypted"), three=Absent())
    one, two, three = await left(peeks(), peek("one", "two", "three"))
    assert decode_answer(one) is not None
    assert decode_referral(two) == Wait()
    assert decode_referral(three) == Execute()


async def test_an_answer_of_32_kib_is_left_and_no_larger_one(records: Records) -> None:
    """The limit of the docs, to the byte."""
    records.update(fits=recorded(32 * KIB), larger=recorded(32 * KIB + 1))
    assert await answers(peeks(), "fits", "larger") == [True, False]


async def test_the_answers_of_one_task_are_at_most_a_mebibyte(records: Records) -> None:
    """More than that would not fit into the task's message; the next task begins anew, as do other jobs."""
    records.update(large=recorded(31 * KIB), small=recorded(KIB))
    by = peeks()
    assert await answers(by, *["large"] * 40) == [True] * 33 + [False] * 7
    assert await answers(by, "small", "small") == [True, False]
    assert await answers(by, "large", run_id="another") == [True]
    assert await answers(by, "large", task=9) == [True]


async def test_what_is_known_of_jobs_does_not_grow(records: Records) -> None:
    """A worker sees any number of jobs in its life."""
    records["key"] = recorded(KIB)
    by = peeks()
    for job in range(1_100):
        assert await answers(by, "key", run_id=f"run-{job}") == [True]
    assert len(by._left) == 1_000
