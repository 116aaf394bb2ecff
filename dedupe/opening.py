"""Opening: what came back becomes a value, an error or a `FailedResult`, as an undeduplicated call has it."""

from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.converter import FailureConverter
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutType, is_cancelled_exception
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

from dedupe.errors import DedupeError, UnreadableRecordError
from dedupe.messages import WAITING
from dedupe.outcome import FailedAnswer, FailedResult, failed_result
from dedupe.preparation import Call


def open_result(call: Call, result: Payload) -> Any:
    """Return the activity's result, decoded to its return type.

    Raises:
        UnreadableRecordError: It is of another type. The payload converter's own message may hold parts of
            the result, and is left out.
    """
    types = [call.result_type] if call.result_type is not None else None
    try:
        [value] = workflow.payload_converter().from_payloads([result], types)
    except Exception as error:  # noqa: BLE001 - a payload converter may raise anything
        expected = getattr(call.result_type, "__name__", call.result_type)
        reason = f"the recorded result is no {expected} ({type(error).__name__})"
        raise UnreadableRecordError(key=call.question.key, reason=reason) from None
    return value


def open_failure(call: Call, answer: FailedAnswer, *, converter: FailureConverter) -> FailedResult:
    """Return a failure as a value, where the call skips failures.

    Raises:
        ActivityError: It does not, or the activity was cancelled.
        UnreadableRecordError: It is not the failure of an activity.
    """
    error = converter.from_failure(answer.failure, workflow.payload_converter())
    if not isinstance(error, ActivityError):
        raise UnreadableRecordError(key=call.question.key, reason="it holds a failure of another kind")
    if not call.question.skip_failure or is_cancelled_exception(error):
        raise error
    return failed_result(
        error,
        key=call.key,
        activity=call.question.activity,
        failed_at=answer.failed_at,
        reused=answer.reused,
    )


def open_unanswered(call: Call, error: ActivityError) -> FailedResult:
    """Return what became of a call whose claim failed, where it timed out and the call skips failures.

    Raises:
        ActivityError: It timed out or was cancelled; said of the real activity.
        DedupeError: The claim said so.
    """
    cause = error.cause
    if isinstance(cause, ApplicationError):
        ours = DedupeError.restore(cause)
        if ours is not None:
            raise ours from error
        if cause.type == WAITING:
            cause = ActivityTimeoutError(
                "activity ScheduleToClose timeout",
                type=TimeoutType.SCHEDULE_TO_CLOSE,
                last_heartbeat_details=[],
            )
    as_called = ActivityError(
        error.message,
        scheduled_event_id=error.scheduled_event_id,
        started_event_id=error.started_event_id,
        identity=error.identity,
        activity_type=call.question.activity,
        activity_id=error.activity_id,
        retry_state=error.retry_state,
    )
    as_called.__cause__ = cause
    if call.question.skip_failure and isinstance(cause, ActivityTimeoutError):
        return failed_result(
            as_called, key=call.key, activity=call.question.activity, failed_at=workflow.now(), reused=False
        )
    raise as_called from cause
