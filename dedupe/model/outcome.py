"""Outcomes: how an execution ended, and how that is recorded under its key."""

from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure

from dedupe.errors import CANNOT_TELL
from dedupe.model.marks import ABANDONED, AT, SUCCEEDED, decode_marked, encode_failure, marked
from dedupe.model.messages import FailureMessage
from dedupe.model.names import INTERRUPTED, MARK, TOO_LARGE

NO_RESULT = Payload(metadata={"encoding": b"binary/null"})
"""Of an activity that was completed without a payload, as other languages' void activities are."""


@dataclass(frozen=True)
class Succeeded:
    """The activity returned."""

    result: Payload
    """The encoded return value, out of the payload codec."""


@dataclass(frozen=True)
class Failed:
    """The activity failed for good: its retry policy was exhausted, or forbade another attempt."""

    failure: Failure
    """What a plain call would have raised: an activity failure with its cause."""

    @property
    def is_definite(self) -> bool:
        """Whether the activity itself said that it has failed for good: an error it flagged non-retryable.

        Whatever else ended it (attempts that ran out, an error type the retry policy stops at, a time-out, a
        refused report, a cancellation), the last attempt may have had its effect.
        """
        return self.failure.cause.application_failure_info.non_retryable

    @property
    def is_answer(self) -> bool:
        """Whether the activity itself has failed, and said so, whatever became of its effect.

        A time-out says nothing, and neither does an attempt that was interrupted, or that cannot tell; one
        whose result was too large has had its effect. Where the whole time is over, the error that the
        time-out holds may be that of an earlier attempt, while the last one was cut off.
        """
        cause = self.failure.cause
        return cause.HasField("application_failure_info") and cause.application_failure_info.type not in {
            INTERRUPTED,
            TOO_LARGE,
            CANNOT_TELL,
        }

    @property
    def is_cancellation(self) -> bool:
        """Whether the activity was cancelled: the end of those who waited for it, and of nobody else."""
        return self.failure.cause.HasField("canceled_failure_info")


@dataclass(frozen=True)
class Abandoned:
    """The call that executed is gone, and nobody knows whether the effect happened: it is to be executed
    again.

    It is recorded as any outcome, so a late one of that call changes nothing.
    """


Outcome = Succeeded | Failed | Abandoned


def encode_outcome(outcome: Outcome) -> Payload:
    """Return the payload that records an outcome."""
    match outcome:
        case Abandoned():
            return Payload(metadata={"encoding": b"binary/null", MARK: ABANDONED})
        case Succeeded(result):
            return marked(result, SUCCEEDED)
        case Failed(failure):
            return encode_failure(failure, FailureMessage(failure={}))
        case _ as never:
            assert_never(never)


def timed(payload: Payload, at: datetime | None) -> Payload:
    """Return a payload that records an outcome, with the time at which that was known to its call."""
    if at is not None:
        payload.metadata[AT] = at.isoformat().encode()
    return payload


def time_of_outcome(payload: Payload) -> datetime | None:
    """Return the time that `timed` has noted; None where it has not."""
    at = payload.metadata.get(AT)
    return None if at is None else datetime.fromisoformat(at.decode())


def decode_outcome(payload: Payload) -> Outcome:
    """Return the outcome that a payload records.

    Raises:
        ValueError: It records none.
    """
    if payload.metadata.get(MARK) == ABANDONED:
        return Abandoned()
    match decode_marked(payload):
        case Payload() as result:
            return Succeeded(result)
        case (Failure() as failure, FailureMessage()):
            return Failed(failure)
        case None:
            message = "this is not an outcome"
            raise ValueError(message)
