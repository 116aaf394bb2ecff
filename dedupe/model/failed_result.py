"""The failed result: what a call that skips failures returns where its activity failed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

from dedupe.model.marks import FAILED_RESULT
from dedupe.model.names import MARK

_RAISED = "_raised"
"""Name of what a `FailedResult` holds beside its fields: payload converters take the fields."""


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
    return Payload(metadata={"encoding": b"json/plain", MARK: FAILED_RESULT}, data=data)


def decode_failed_result(payload: Payload) -> FailedResult | None:
    """Return the failure that a job has returned in place of a result; None where it is a result."""
    if payload.metadata.get(MARK) != FAILED_RESULT:
        return None
    return _FAILED_RESULTS.validate_json(payload.data)
