"""Outcomes: how an execution ended, and how that travels.

`Outcome` is what is recorded under a key; `Answer` is an outcome on its way to one call. Each crosses the
wire as one payload: a success is the activity's own result, byte for byte, with a mark in its metadata; so it
is decoded to the activity's return type as the result of a plain call is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, assert_never

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import DecodeError
from pydantic import TypeAdapter
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

from dedupe.errors import CANNOT_TELL
from dedupe.model.messages import Executor, FailureMessage
from dedupe.model.names import INTERRUPTED, MARK, TOO_LARGE
from dedupe.model.payloads import decode, encode

NO_RESULT = Payload(metadata={"encoding": b"binary/null"})
"""Of an activity that was completed without a payload, as other languages' void activities are."""

_SUCCEEDED = b"succeeded"
_FAILED = b"failed"
_FAILED_AT_LENGTH = b"failed at length"
_ABANDONED = b"abandoned"
_UNRECORDED = b"unrecorded"
_FAILED_RESULT = b"failed result"
_RAISED = "_raised"
"""Name of what a `FailedResult` holds beside its fields: payload converters take the fields."""
_AT = "dedupe-at"
_CALL = "dedupe-call"
_EXECUTOR = "dedupe-executor"
_FACTS = "dedupe-facts"
"""Key in the metadata of a long failure: all of its message but the failure."""
_LARGE = 1_500_000
"""Bytes of an answer beyond which each counts, as the service takes 2 MB: it goes without its executor, and a
failure as it is, which is shorter than its JSON."""


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
            return Payload(metadata={"encoding": b"binary/null", MARK: _ABANDONED})
        case Succeeded(result):
            return _marked(result, _SUCCEEDED)
        case Failed(failure):
            return _encode_failure(failure, FailureMessage(failure={}))
        case _ as never:
            assert_never(never)


def timed(payload: Payload, at: datetime | None) -> Payload:
    """Return a payload that records an outcome, with the time at which that was known to its call."""
    if at is not None:
        payload.metadata[_AT] = at.isoformat().encode()
    return payload


def time_of_outcome(payload: Payload) -> datetime | None:
    """Return the time that `timed` has noted; None where it has not."""
    at = payload.metadata.get(_AT)
    return None if at is None else datetime.fromisoformat(at.decode())


def decode_outcome(payload: Payload) -> Outcome:
    """Return the outcome that a payload records.

    Raises:
        ValueError: It records none.
    """
    if payload.metadata.get(MARK) == _ABANDONED:
        return Abandoned()
    match _decode(payload):
        case Payload() as result:
            return Succeeded(result)
        case (Failure() as failure, FailureMessage()):
            return Failed(failure)
        case None:
            message = "this is not an outcome"
            raise ValueError(message)


class How(StrEnum):
    """How a call came by its answer."""

    EXECUTED = "executed"
    """Its own execution."""
    JOINED = "joined"
    """It waited for another call's execution."""
    REUSED = "reused"
    """The outcome was recorded before the call was made."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An outcome as one call gets it."""

    outcome: Succeeded | Failed
    settled_at: datetime
    """Server time at which the outcome was recorded."""
    how: How
    executor: Executor | None = None
    """The call that executed; None: this one."""

    @property
    def reused(self) -> bool:
        """Whether the outcome was recorded before the call was made."""
        return self.how is How.REUSED

    def encode(self) -> Payload:
        """Return the payload that carries this answer."""
        match self.outcome:
            case Succeeded(result):
                payload = _marked(result, self.how.value.encode())
                if self.executor is not None and payload.ByteSize() <= _LARGE:
                    payload.metadata[_EXECUTOR] = encode(self.executor).payload.data
                return payload
            case Failed(failure):
                facts = FailureMessage(
                    failure={}, failed_at=self.settled_at, reused=self.reused, executor=self.executor
                )
                return _encode_failure(failure, facts)
            case _ as never:
                assert_never(never)


@dataclass(frozen=True, kw_only=True)
class FailedAnswer:
    """A failure as it came to one call."""

    failure: Failure
    failed_at: datetime
    """Server time at which the failure was recorded."""
    reused: bool
    """Whether it was recorded before the call was made."""
    executor: Executor | None = None
    """The call that executed; None: this one, or that is not known."""


@dataclass(frozen=True, kw_only=True)
class SucceededAnswer:
    """A result as it came to one call."""

    result: Payload
    how: How
    executor: Executor | None = None
    """The call that executed; None: this one, or that is not known."""


@dataclass(frozen=True, kw_only=True)
class FailedResult:
    """What a call with skip_failure=True returns where the activity failed, so that the job can go on.

    It can be returned from the job, or put into another payload; `error` stays behind.
    """

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

    @property
    def error(self) -> ActivityError:
        """What the call would have raised with skip_failure=False. Raise it to fail after all.

        Where this has travelled in a payload, an error of the same type and message.
        """
        raised: ActivityError | None = self.__dict__.get(_RAISED)
        if raised is not None:
            return raised
        error = ActivityError(
            "Activity task failed",
            scheduled_event_id=0,
            started_event_id=0,
            identity="",
            activity_type=self.activity,
            activity_id="",
            retry_state=None,
        )
        error.__cause__ = ApplicationError(self.message, type=self.type)
        return error


_FAILED_RESULTS = TypeAdapter(FailedResult)


def failed_result(
    error: ActivityError, *, key: str, activity: str, failed_at: datetime, reused: bool
) -> FailedResult:
    """Return the failure of a deduplicated call as a value."""
    cause: Any = error.cause
    failed = FailedResult(
        key=key,
        activity=activity,
        type=(cause.type if isinstance(cause, ApplicationError) else None) or type(cause or error).__name__,
        message=cause.message if isinstance(cause, FailureError) else error.message,
        failed_at=failed_at,
        reused=reused,
    )
    failed.__dict__[_RAISED] = error
    return failed


def encode_failed_result(failed: FailedResult) -> Payload:
    """Return a payload that `decode_failed_result` reads."""
    data = _FAILED_RESULTS.dump_json(failed)
    return Payload(metadata={"encoding": b"json/plain", MARK: _FAILED_RESULT}, data=data)


def decode_failed_result(payload: Payload) -> FailedResult | None:
    """Return the failure that a job has returned in place of a result; None where it is a result."""
    if payload.metadata.get(MARK) != _FAILED_RESULT:
        return None
    return _FAILED_RESULTS.validate_json(payload.data)


def about(payload: Payload, *, activity: str, key_id: str) -> Payload:
    """Return an answer that says what it answers, for who reads the history of a job."""
    payload.metadata[_CALL] = f"{activity} {key_id}".encode()
    return payload


def call_of(payload: Payload) -> tuple[str, str]:
    """Return the activity and the key's id that `about` has noted; "?" where it has not."""
    activity, _, key_id = payload.metadata.get(_CALL, b"? ?").decode().rpartition(" ")
    return activity, key_id


def decode_answer(payload: Payload) -> SucceededAnswer | FailedAnswer | None:
    """Return the result, or the failure, that a payload carries; None where it is not an answer."""
    mark = payload.metadata.get(MARK, b"").decode()
    if mark in set(How):
        executor = payload.metadata.get(_EXECUTOR)
        return SucceededAnswer(
            result=unmarked(payload),
            how=How(mark),
            executor=None if executor is None else decode(Executor, Payload(data=executor)),
        )
    match _decode(payload):
        case (Failure() as failure, FailureMessage(failed_at=datetime() as failed_at) as facts):
            return FailedAnswer(
                failure=failure, failed_at=failed_at, reused=facts.reused, executor=facts.executor
            )
        case _:
            return None


def unrecorded(result: Payload) -> Payload:
    """Return a result that the job has to record, since its activity could not."""
    return _marked(result, _UNRECORDED)


def is_recorded(payload: Payload) -> bool:
    """Return whether a twin returned what is recorded. A result that was completed elsewhere is unmarked."""
    return payload.metadata.get(MARK, _UNRECORDED) != _UNRECORDED


def unmarked(payload: Payload) -> Payload:
    """Return a payload without its mark."""
    plain = Payload()
    plain.CopyFrom(payload)
    for name in (MARK, _AT, _CALL, _EXECUTOR):
        plain.metadata.pop(name, None)
    return plain


def _marked(result: Payload, mark: bytes) -> Payload:
    payload = Payload()
    payload.CopyFrom(result)
    payload.metadata[MARK] = mark
    return payload


def _encode_failure(failure: Failure, facts: FailureMessage) -> Payload:
    as_json: Mapping[str, Any] = MessageToDict(failure)
    payload = encode(facts.model_copy(update={"failure": as_json})).payload
    payload.metadata[MARK] = _FAILED
    if payload.ByteSize() <= _LARGE:
        return payload
    return Payload(
        metadata={
            "encoding": b"binary/plain",
            MARK: _FAILED_AT_LENGTH,
            _FACTS: facts.model_copy(update={"executor": None}).model_dump_json().encode(),
        },
        data=failure.SerializeToString(),
    )


def _decode(payload: Payload) -> Payload | tuple[Failure, FailureMessage] | None:
    mark = payload.metadata.get(MARK)
    if mark == _SUCCEEDED:
        return unmarked(payload)
    if mark == _FAILED:
        message = decode(FailureMessage, payload)
        return ParseDict(dict(message.failure), Failure(), ignore_unknown_fields=True), message
    if mark == _FAILED_AT_LENGTH:
        message = decode(FailureMessage, Payload(data=payload.metadata[_FACTS]))
        try:
            return Failure.FromString(payload.data), message
        except DecodeError as error:
            reason = "this is not a failure"
            raise ValueError(reason) from error
    return None
