"""Answers: what a call gets of an outcome."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultPayloadConverter
from temporalio.exceptions import ApplicationError

from dedupe.model.answer import Answer, FailedAnswer, How, SucceededAnswer, decode_answer
from dedupe.model.marks import is_recorded, unmarked, unrecorded
from dedupe.model.messages import Executor, Wait
from dedupe.model.outcome import Failed, Succeeded, encode_outcome
from dedupe.model.payloads import encode_referral
from tests.support.outcomes import LONG, VALUES, failure

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
CONVERTERS = st.sampled_from([DataConverter.default, pydantic_data_converter])


def answer(outcome: Succeeded | Failed, *, how: How = How.REUSED) -> Answer:
    """Return an answer."""
    return Answer(outcome=outcome, settled_at=NOW, how=how)


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


@given(VALUES)
def test_a_result_that_is_not_recorded_says_so(value: Any) -> None:
    """One that could not be recorded, or was completed from elsewhere, is for the job to record."""
    [result] = DefaultPayloadConverter().to_payloads([value])
    assert not is_recorded(result)
    assert not is_recorded(unrecorded(result))
    assert unmarked(unrecorded(result)) == result
    assert is_recorded(answer(Succeeded(result)).encode())
    assert is_recorded(encode_referral(Wait()))
