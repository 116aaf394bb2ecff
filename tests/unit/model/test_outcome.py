"""Outcomes: how they are recorded."""

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import RetryState, TimeoutType
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ApplicationError

from dedupe.model.outcome import Abandoned, Failed, Outcome, Succeeded, decode_outcome, encode_outcome
from tests.support.outcomes import LONG, failure


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
