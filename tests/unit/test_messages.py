"""Messages: old and new workers read each other; arguments travel whole."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.common import Priority, RetryPolicy

from dedupe import messages
from dedupe.messages import (
    Attach,
    ClaimInput,
    FailureMessage,
    Forget,
    Message,
    Peek,
    Plan,
    Question,
    Rerun,
    Rollover,
    Settlement,
    Sighting,
    Start,
    Waiter,
    decode,
    encode,
    pack,
    unpack,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
PLAN = Plan(
    task_queue="jobs",
    schedule_to_close_timeout=timedelta(days=2),
    schedule_to_start_timeout=timedelta(minutes=3),
    start_to_close_timeout=timedelta(seconds=30, microseconds=1),
    heartbeat_timeout=timedelta(milliseconds=1),
    retry_policy=RetryPolicy(maximum_attempts=3, non_retryable_error_types=["A"]),
    priority=Priority(priority_key=2, fairness_key="f"),
    summary="summary",
    headers={"trace": b"\x00\xff"},
    ttl=timedelta(days=30),
)
WAITER = Waiter(workflow_id="job", run_id="run", activity_id="2")
QUESTION = Question(
    key_id="proj:acme/web:key",
    key="key",
    activity="effect",
    skip_failure=True,
    fingerprint="f",
    called_at=NOW,
)
ROLLOVER = Rollover(settled_at=NOW, started_at=NOW, expires_at=None, fingerprint="f", failed=True)
MESSAGES: list[Message] = [
    PLAN,
    Plan(task_queue="jobs"),
    WAITER,
    QUESTION,
    Sighting(executing=True, unknown=False, turn="i/1"),
    FailureMessage(failure={"message": "m"}, failed_at=NOW, reused=True),
    ROLLOVER,
    Start(
        key="key",
        activity="effect",
        plan=PLAN,
        caller="job",
        waiters=(WAITER,),
        generation=7,
        idempotency_key="i",
        closes_when_settled=True,
        forgotten=True,
        rollover=ROLLOVER,
    ),
    Peek(question=QUESTION, task=3),
    ClaimInput(question=QUESTION, plan=PLAN, sighting=Sighting(unknown=True)),
    Attach(question=QUESTION, waiter=WAITER, asked_at=NOW),
    Rerun(generation=2, idempotency_key="i", plan=PLAN),
    Forget(force=True),
    Settlement(waiters=(WAITER, WAITER)),
]
IDS = [f"{type(message).__name__}-{number}" for number, message in enumerate(MESSAGES)]


@pytest.mark.parametrize("message", MESSAGES, ids=IDS)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    """`decode(encode(m)) == m`."""
    assert decode(type(message), encode(message).payload) == message


@pytest.mark.parametrize("message", MESSAGES, ids=IDS)
def test_an_old_worker_ignores_new_fields(message: Message) -> None:
    """Fields that this version does not know are ignored, at every level."""
    payload = encode(message).payload
    newer = payload.data[:-1] + b',"new_field":{"of":["a","later","version"]}}'
    if payload.data == b"{}":
        newer = b'{"new_field":1}'
    assert decode(type(message), Payload(data=newer)) == message


@pytest.mark.parametrize(
    ("model", "oldest"),
    [
        (Plan, {"task_queue": "jobs"}),
        (Question, {"key_id": "i", "key": "k", "activity": "a", "called_at": NOW.isoformat()}),
        (Sighting, {}),
        (Start, {"key": "k", "activity": "a", "plan": {"task_queue": "jobs"}}),
        (Rerun, {"generation": 1, "idempotency_key": "i", "plan": {"task_queue": "jobs"}}),
        (Forget, {}),
        (Settlement, {"waiters": []}),
        (Waiter, {"workflow_id": "w", "run_id": "r", "activity_id": "a"}),
    ],
)
def test_a_new_worker_reads_old_messages(model: type[Message], oldest: dict[str, Any]) -> None:
    """The fields that the first version wrote are enough."""
    assert isinstance(model.model_validate(oldest), model)


def test_every_message_is_checked_here() -> None:
    """No message is left out of the tests above."""
    all_of_them = {
        kind
        for kind in vars(messages).values()
        if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
    }
    assert all_of_them == {type(message) for message in MESSAGES}


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'"no message"', b"null", b'{"forced": "maybe"}', b"\xff"]
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    """Whatever holds no such message is a ValueError, which those who receive messages drop."""
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's
        decode(Waiter, Payload(data=data))


def test_ten_thousand_who_wait_for_the_longest_key_leave_its_history_small() -> None:
    """The service takes 10,000 signals of a run, and ends it, lock and all, at 50 MB of history."""
    question = Question(key_id="i" * 255, key="鍵" * 2_048, activity="effect", called_at=NOW)
    attach = Attach(question=question.within_key(), waiter=WAITER, asked_at=NOW)
    assert 10_000 * encode(attach).payload.ByteSize() < 10_000_000


def test_messages_are_frozen() -> None:
    """A message cannot be changed."""
    with pytest.raises(ValidationError):
        WAITER.run_id = "other"  # type: ignore[misc]


PAYLOADS = st.builds(
    Payload,
    metadata=st.dictionaries(
        st.sampled_from(["encoding", "dedupe", "messageType"]),
        st.sampled_from([b"json/plain", b"arguments", b"succeeded", b"", b"\xff"]),
    ),
    data=st.binary(max_size=20),
)


@given(st.lists(PAYLOADS, max_size=5))
def test_arguments_are_unpacked_as_they_were_packed(arguments: list[Payload]) -> None:
    """`unpack(pack(a)) == a`, for none, one and many; also for an argument that looks packed."""
    assert unpack(pack(arguments).payload) == arguments


@given(PAYLOADS.filter(lambda payload: "dedupe" not in payload.metadata))
def test_a_single_argument_travels_as_it_is(argument: Payload) -> None:
    """The usual single argument is not wrapped, so that it can be read in the Web UI."""
    assert pack([argument]).payload == argument
