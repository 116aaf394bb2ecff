"""Outcomes: how they travel, and what a call gets of them."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import RetryState, TimeoutType
from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverter, DefaultPayloadConverter
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

from dedupe.model.answer import Answer, FailedAnswer, How, SucceededAnswer, decode_answer
from dedupe.model.failed_result import failed_result
from dedupe.model.marks import is_recorded, unmarked, unrecorded
from dedupe.model.messages import Executor, Wait
from dedupe.model.outcome import Abandoned, Failed, Outcome, Succeeded, decode_outcome, encode_outcome
from dedupe.model.payloads import encode_referral

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
FALSY: list[Any] = [None, False, True, 0, "", [], {}, b"", 0.5, "text"]
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(FALSY),
    st.binary(max_size=50),
    st.recursive(st.none() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=3)),
)
CONVERTERS = st.sampled_from([DataConverter.default, pydantic_data_converter])


def answer(outcome: Succeeded | Failed, *, how: How = How.REUSED) -> Answer:
    """Return an answer."""
    return Answer(outcome=outcome, settled_at=NOW, how=how)


def failure(cause: BaseException) -> Failure:
    """Return the failure of an activity."""
    error = ActivityError(
        "Activity task failed",
        scheduled_event_id=5,
        started_event_id=6,
        identity="worker",
        activity_type="effect",
        activity_id="1:i-1",
        retry_state=None,
    )
    error.__cause__ = cause
    encoded = Failure()
    DefaultFailureConverter().to_failure(error, DefaultPayloadConverter(), encoded)
    return encoded


@given(VALUES, CONVERTERS, st.sampled_from(How))
def test_a_result_arrives_byte_for_byte(value: Any, converter: DataConverter, how: How) -> None:
    """The payload of a success, taken out of its answer, is the one that the activity returned."""
    [result] = converter.payload_converter.to_payloads([value])
    decoded = decode_answer(answer(Succeeded(result), how=how).encode())
    assert decoded == SucceededAnswer(result=result, how=how)
    assert converter.payload_converter.from_payloads([result]) == [value]


@given(VALUES)
def test_encoding_an_answer_leaves_the_record_alone(value: Any) -> None:
    """The mark is put on a copy."""
    [result] = DefaultPayloadConverter().to_payloads([value])
    before = result.SerializeToString()
    decode_answer(answer(Succeeded(result)).encode())
    assert result.SerializeToString() == before


@pytest.mark.parametrize("how", How)
def test_a_failure_arrives_whole(how: How) -> None:
    """A failed answer carries the failure with its causes, its time, and whether it is reused."""
    inner = ApplicationError("inner", type="Inner", non_retryable=True)
    outer = ApplicationError("outer", {"a": None}, 0, type="Outer")
    outer.__cause__ = inner
    sent = failure(outer)
    received = decode_answer(answer(Failed(sent), how=how).encode())
    assert received == FailedAnswer(failure=sent, failed_at=NOW, reused=how is How.REUSED)


def test_what_is_not_an_answer_is_told_from_one() -> None:
    """A referral, a result as any activity returns it, and a record are not answers."""
    plain = Payload(metadata={"encoding": b"json/plain"}, data=b"null")
    for payload in (Payload(), plain, encode_referral(Wait()), encode_outcome(Succeeded(plain))):
        assert decode_answer(payload) is None


LONG = ApplicationError("no", "d" * 1_600_000, type="No")


@pytest.mark.parametrize(
    ("outcome", "knows"),
    [
        (Succeeded(Payload(data=b"null")), True),
        (Succeeded(Payload(data=b"x" * 1_600_000)), False),
        (Failed(failure(ApplicationError("no"))), True),
        (Failed(failure(LONG)), False),
    ],
    ids=["succeeded", "succeeded at length", "failed", "failed at length"],
)
def test_an_answer_knows_who_executed(outcome: Succeeded | Failed, *, knows: bool) -> None:
    """Where there is room for it: what the service takes as a result it has to take as an answer."""
    executor = Executor(job_id="job", traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    payload = Answer(outcome=outcome, settled_at=NOW, how=How.JOINED, executor=executor).encode()
    received = decode_answer(payload)
    assert received is not None
    assert received.executor == (executor if knows else None)
    match received:
        case SucceededAnswer(result=result):
            assert Succeeded(result) == outcome
        case FailedAnswer(failure=found):
            assert Failed(found) == outcome
    assert knows or payload.ByteSize() == answer(outcome, how=How.JOINED).encode().ByteSize()


@pytest.mark.parametrize(
    "outcome",
    [
        Succeeded(Payload(metadata={"encoding": b"json/plain"}, data=b"null")),
        Failed(failure(ApplicationError("no", 1, type="No", non_retryable=True))),
        Failed(failure(LONG)),
        Abandoned(),
    ],
    ids=["succeeded", "failed", "failed at length", "abandoned"],
)
def test_an_outcome_is_recorded_whole(outcome: Outcome) -> None:
    """`decode_outcome(encode_outcome(o)) == o`."""
    assert decode_outcome(encode_outcome(outcome)) == outcome


@pytest.mark.parametrize(
    "payload",
    [
        Payload(metadata={"encoding": b"json/plain"}, data=b"1"),
        Payload(metadata={"dedupe": b"failed"}, data=b"{"),
        Payload(metadata={"dedupe": b"failed at length", "dedupe-facts": b'{"failure":{}}'}, data=b"\xff"),
        Payload(metadata={"dedupe": b"of a later version"}),
    ],
    ids=["plain", "cut", "garbage", "unknown"],
)
def test_what_is_not_an_outcome_is_refused(payload: Payload) -> None:
    """Whatever was signalled by hand is a ValueError, and not a guess."""
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's, too
        decode_outcome(payload)


@given(VALUES)
def test_a_result_that_is_not_recorded_says_so(value: Any) -> None:
    """One that could not be recorded, or was completed from elsewhere, is for the job to record."""
    [result] = DefaultPayloadConverter().to_payloads([value])
    assert not is_recorded(result)
    assert not is_recorded(unrecorded(result))
    assert unmarked(unrecorded(result)) == result
    assert is_recorded(answer(Succeeded(result)).encode())
    assert is_recorded(encode_referral(Wait()))


def timed_out() -> Failure:
    """Return the failure of an activity that timed out."""
    encoded = Failure(message="Activity task timed out")
    encoded.activity_failure_info.activity_type.name = "effect"
    encoded.activity_failure_info.retry_state = RetryState.RETRY_STATE_TIMEOUT
    encoded.cause.timeout_failure_info.timeout_type = TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
    return encoded


@pytest.mark.parametrize(
    ("encoded", "definite"),
    [
        (failure(ApplicationError("no", non_retryable=True)), True),
        (failure(ApplicationError("no")), False),
        (failure(ValueError("no")), False),
        (timed_out(), False),
        (Failure(), False),
    ],
    ids=["flagged", "retryable", "plain", "timed out", "empty"],
)
def test_only_the_activity_says_that_nothing_happened(encoded: Failure, *, definite: bool) -> None:
    """A failure is definite only where the activity flagged it as final; all else leaves the effect open."""
    assert Failed(encoded).is_definite is definite


@pytest.mark.parametrize(
    ("cause", "kind", "message"),
    [
        (ApplicationError("no", type="Refused"), "Refused", "no"),
        (ApplicationError("no"), "ApplicationError", "no"),
        (ActivityTimeoutError("late", type=None, last_heartbeat_details=[]), "TimeoutError", "late"),
        (None, "ActivityError", "Activity task failed"),
    ],
)
def test_a_failed_result_is_named_after_its_cause(
    cause: BaseException | None, kind: str, message: str
) -> None:
    """Type and message of a failed result are the cause's; of an error without one its own."""
    error = ActivityError(
        "Activity task failed",
        scheduled_event_id=1,
        started_event_id=2,
        identity="",
        activity_type="effect",
        activity_id="1",
        retry_state=None,
    )
    error.__cause__ = cause
    result = failed_result(error, key="key", activity="effect", failed_at=NOW, reused=True)
    assert (result.type, result.message) == (kind, message)
    assert (result.key, result.activity, result.failed_at, result.reused) == ("key", "effect", NOW, True)
    assert result.error is error
