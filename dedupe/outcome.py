"""Outcomes: how an execution ended, and how that travels to those who wait for it.

`Outcome` is what the key's workflow records; `Answer` is an outcome on its way to one call. An answer
crosses the wire as one payload: a success is the activity's own result, byte for byte, with a mark in its
metadata; so it is decoded to the activity's return type as an undeduplicated result would be.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

from dedupe.messages import MARK, FailureMessage, Rollover, decode, encode

NO_RESULT = Payload(metadata={"encoding": b"binary/null"})
"""Of an activity that was completed without a payload, as other languages' void activities are."""

_SUCCEEDED = b"succeeded"
_FAILED = b"failed"
_FAILED_AT_LENGTH = b"failed at length"
_FACTS = "dedupe-facts"
"""Key in the metadata of a long failure: all of its message but the failure."""
_LARGEST_JSON = 1_500_000
"""Bytes of JSON beyond which a failure travels as it is, which is shorter: the service takes 2 MB."""

RECLAIM = Payload(metadata={"encoding": b"binary/null", MARK: b"reclaim"})
"""Tells a waiting claim to look again: what it waited for is gone, or was not for it."""


@dataclass(frozen=True)
class Succeeded:
    """The activity returned."""

    result: Payload
    """The encoded return value, out of the payload codec."""


@dataclass(frozen=True)
class Failed:
    """The activity failed for good: its retry policy was exhausted, or forbade another attempt."""

    failure: Failure
    """What an undeduplicated caller would have been raised: an activity failure with its cause."""

    @property
    def is_definite(self) -> bool:
        """Whether the activity itself said that it has failed for good: an error it flagged non-retryable.

        Whatever else ended it (attempts that ran out, an error type the retry policy stops at, a time-out, a
        refused report, a cancellation), the last attempt may have had its effect.
        """
        return self.failure.cause.application_failure_info.non_retryable


Outcome = Succeeded | Failed


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An outcome as one call gets it."""

    outcome: Outcome
    settled_at: datetime
    """Server time at which the outcome was recorded."""
    reused: bool
    """Whether it was recorded before the call was made."""

    def encode(self) -> Payload:
        """Return the payload that carries this answer."""
        match self.outcome:
            case Succeeded(result):
                payload = Payload()
                payload.CopyFrom(result)
                payload.metadata[MARK] = _SUCCEEDED
                return payload
            case Failed(failure):
                payload = self._message(MessageToDict(failure))
                payload.metadata[MARK] = _FAILED
                return payload if payload.ByteSize() <= _LARGEST_JSON else self._at_length(failure)
            case _ as never:
                assert_never(never)

    def _at_length(self, failure: Failure) -> Payload:
        return Payload(
            metadata={
                "encoding": b"binary/plain",
                MARK: _FAILED_AT_LENGTH,
                _FACTS: self._message({}).data,
            },
            data=failure.SerializeToString(),
        )

    def _message(self, failure: Mapping[str, Any]) -> Payload:
        message = FailureMessage(failure=failure, failed_at=self.settled_at, reused=self.reused)
        return encode(message).payload


@dataclass(frozen=True, kw_only=True)
class FailedAnswer:
    """A failure as it came to one call."""

    failure: Failure
    failed_at: datetime
    """Server time at which the failure was recorded."""
    reused: bool
    """Whether it was recorded before the call was made."""


def decode_answer(payload: Payload) -> Payload | FailedAnswer | None:
    """Return the result, or the failure, that a payload carries; None where it is no answer."""
    mark = payload.metadata.get(MARK)
    if mark == _SUCCEEDED:
        result = Payload()
        result.CopyFrom(payload)
        del result.metadata[MARK]
        return result
    if mark == _FAILED:
        message = decode(FailureMessage, payload)
        failure = ParseDict(dict(message.failure), Failure(), ignore_unknown_fields=True)
    elif mark == _FAILED_AT_LENGTH:
        message = decode(FailureMessage, Payload(data=payload.metadata[_FACTS]))
        failure = Failure.FromString(payload.data)
    else:
        return None
    return FailedAnswer(failure=failure, failed_at=message.failed_at, reused=message.reused)


def roll_over(outcome: Outcome) -> Payload:
    """Return an outcome as content for the next run of its workflow."""
    match outcome:
        case Succeeded(result):
            return result
        case Failed(failure):
            return Payload(metadata={"encoding": b"binary/plain"}, data=failure.SerializeToString())
        case _ as never:
            assert_never(never)


def rolled_over(rollover: Rollover, content: Payload) -> Outcome:
    """Return what `roll_over` was given.

    Raises:
        ValueError: It made none of this.
    """
    if not rollover.failed:
        return Succeeded(content)
    try:
        return Failed(Failure.FromString(content.data))
    except DecodeError as error:
        message = "this is no failure"
        raise ValueError(message) from error


@dataclass(frozen=True, kw_only=True)
class FailedResult:
    """What a call with skip_failure=True returns where the activity failed, so that the job can go on."""

    key: str
    """The deduplication key of the call."""
    activity: str
    """Name of the activity that failed."""
    type: str
    """The failure's type: the error type the activity gave, or the class name, such as `TimeoutError`."""
    message: str
    """The failure's own message."""
    failed_at: datetime
    """Server time at which the failure was recorded."""
    reused: bool
    """Whether it was recorded before this call was made."""
    error: ActivityError
    """What the call would have raised with skip_failure=False. Raise it to fail after all."""


def failed_result(
    error: ActivityError, *, key: str, activity: str, failed_at: datetime, reused: bool
) -> FailedResult:
    """Return the failure of a deduplicated call as a value."""
    cause: Any = error.cause
    return FailedResult(
        key=key,
        activity=activity,
        type=(cause.type if isinstance(cause, ApplicationError) else None) or type(cause or error).__name__,
        message=cause.message if isinstance(cause, FailureError) else error.message,
        failed_at=failed_at,
        reused=reused,
        error=error,
    )
