"""Messages: old and new workers read each other; arguments travel whole."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.common import Priority, RetryPolicy

from dedupe.model import messages
from dedupe.model.keys import Scope, ScopedKey
from dedupe.model.messages import (
    CallOrder,
    Claim,
    Execute,
    Executor,
    FailureMessage,
    Inquiry,
    Message,
    NotHeld,
    Order,
    Owner,
    Peek,
    Peeked,
    Plan,
    Question,
    Reconcile,
    Referral,
    Refused,
    Resolution,
    Settle,
    Start,
    UnknownOutcome,
    Wait,
)
from dedupe.model.payloads import (
    decode,
    decode_referral,
    encode,
    encode_referral,
    pack,
    pack_with,
    unpack,
    unpack_with,
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
)
OWNER = Owner(
    workflow_id="job",
    run_id="run",
    activity_id="dedupe~1",
    workflow_type="Job",
    task_queue="jobs",
    longest_attempt=timedelta(seconds=30),
)
QUESTION = Question(
    key_id="proj:acme/web:key",
    key="key",
    activity="effect",
    skip_failure=True,
    fingerprint="f",
    called_at=NOW,
)
EXECUTE = Execute(asked_at=NOW, waited_for="run")
REFERRALS: list[Referral] = [
    Execute(),
    EXECUTE,
    Wait(asked_at=NOW, run_id="run", delegated=True),
    Wait(run_id="run", held="nobody knows", reconcile_at=NOW),
    Reconcile(asked_at=NOW, run_id="run", idempotency_key="i", generation=2),
    Refused(type="InvalidCallError", message="no"),
    NotHeld(),
]
MESSAGES: list[Message] = [
    PLAN,
    Plan(task_queue="jobs"),
    OWNER,
    QUESTION,
    *REFERRALS,
    FailureMessage(failure={"message": "m"}, failed_at=NOW, reused=True, executor=Executor(job_id="job")),
    Executor(job_id="job", traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    Start(
        key="key",
        activity="effect",
        generation=7,
        idempotency_key="i",
        fingerprint="f",
        ttl=timedelta(days=30),
        caller="job",
        owner=OWNER,
        plan=PLAN,
        closes_when_settled=True,
    ),
    UnknownOutcome(why="it was lost", over_at=NOW),
    Start(
        key="key",
        activity="effect",
        idempotency_key="i",
        hold=True,
        unknown=UnknownOutcome(why="it was lost", over_at=NOW),
    ),
    CallOrder(activity="effect", key="key", plan=PLAN),
    CallOrder(
        activity="effect",
        key="key",
        scope=Scope.ORGANIZATION,
        skip_failure=True,
        ttl=timedelta(days=30),
        on_mismatch="raise",
        on_unknown="hold",
        reconcile="look",
        plan=PLAN,
    ),
    Inquiry(key_id="proj:acme/web:key", idempotency_key="i", generation=2),
    Resolution(reason="seen at the provider"),
    Peeked(question=QUESTION, here=False),
    Peek(questions=(Peeked(question=QUESTION), Peeked(question=QUESTION, here=False)), task=3),
    Order.to_execute(QUESTION, EXECUTE, ttl=timedelta(days=30)),
    Claim(question=QUESTION, plan=PLAN, ttl=timedelta(days=30), asked_at=NOW, waited_for="run"),
    Settle(question=QUESTION, activity_id="dedupe~1"),
    Settle(question=QUESTION, held_run="run"),
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
def test_what_is_not_a_message_is_refused(data: bytes) -> None:
    """Whatever holds no such message is a ValueError, which those who receive messages drop."""
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's
        decode(Owner, Payload(data=data))


@pytest.mark.parametrize("referral", REFERRALS, ids=range(len(REFERRALS)))
def test_a_referral_says_where_a_call_goes_on(referral: Referral) -> None:
    """`decode_referral(encode_referral(r)) == r`; what is not a referral is told from one."""
    assert decode_referral(encode_referral(referral)) == referral
    assert decode_referral(encode(referral).payload) is None


def test_a_referral_of_a_later_version_is_an_error() -> None:
    """A call must not go on by a guess."""
    payload = encode_referral(NotHeld())
    payload.data = b'{"kind":"something new"}'
    with pytest.raises(ValueError, match="something new"):
        decode_referral(payload)


@pytest.mark.parametrize("key", ["key", "a/b:c é", "k" * 2_048], ids=["short", "encoded", "cut"])
def test_an_order_names_the_call_in_few_bytes(key: str) -> None:
    """It holds what the activity's own input does not say; the key only where the workflow id is cut."""
    scoped = ScopedKey(scope=Scope.PROJECT, owner=("acme", "web"), key=key)
    question = QUESTION.model_copy(update={"key_id": scoped.format(), "key": key})
    order = Order.to_execute(question, Execute(), ttl=None)
    assert order.question("effect", called_at=NOW) == question
    assert (order.key is None) == (len(key) < 255)


def test_an_order_of_the_usual_call_is_as_long_as_its_id() -> None:
    """Thousands of them travel in the message of one workflow task."""
    question = QUESTION.model_copy(update={"skip_failure": False, "fingerprint": None})
    order = Order.to_execute(question, Execute(), ttl=None)
    assert len(encode(order).payload.data) == len('{"key_id":""}') + len(question.key_id)


def test_messages_are_frozen() -> None:
    """A message cannot be changed."""
    with pytest.raises(ValidationError):
        OWNER.run_id = "other"  # type: ignore[misc]


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


@given(PAYLOADS)
def test_a_message_and_its_content_travel_as_one(content: Payload) -> None:
    """`unpack_with(pack_with(m, c)) == (m, c)`; a bare message has no content."""
    assert unpack_with(Owner, pack_with(OWNER, content).payload) == (OWNER, content)
    assert unpack_with(Owner, encode(OWNER).payload) == (OWNER, Payload())
