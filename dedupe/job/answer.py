"""The answer: what came back becomes a value, an error or a `FailedResult`, as a plain call has it."""

from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.converter import (
    FailureConverter,
    PayloadConverter,
    WithSerializationContext,
    WorkflowSerializationContext,
)
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    TimeoutType,
    is_cancelled_exception,
)
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

from dedupe.errors import DedupeError, UnreadableRecordError
from dedupe.job.request import Call
from dedupe.model.messages import TWIN, WAITING
from dedupe.model.outcome import FailedAnswer, FailedResult, failed_result


def open_result(call: Call, result: Payload) -> Any:
    """Return the activity's result, decoded to its return type.

    Raises:
        UnreadableRecordError: It is of another type. The payload converter's own message may hold parts of
            the result, and is left out.
    """
    result_type = call.input.ret_type
    types = [result_type] if result_type is not None else None
    try:
        [value] = key_converter(call).from_payloads([result], types)
    except Exception as error:  # noqa: BLE001 - a payload converter may raise anything
        expected = getattr(result_type, "__name__", result_type)
        reason = f"the recorded result is not a valid {expected} ({type(error).__name__})"
        raise UnreadableRecordError(key=call.question.key, reason=reason) from None
    return value


def key_converter(call: Call) -> PayloadConverter:
    """Return the payload converter in the context of the key: a record has no other, whoever reads it."""
    converter = workflow.payload_converter()
    if not isinstance(converter, WithSerializationContext):
        return converter
    context = WorkflowSerializationContext(
        namespace=workflow.info().namespace, workflow_id=call.question.key_id
    )
    return converter.with_context(context)


def open_failure(call: Call, answer: FailedAnswer, *, converter: FailureConverter) -> FailedResult:
    """Return a failure as a value, where the call skips failures.

    Raises:
        ActivityError: It does not, or the activity was cancelled.
        UnreadableRecordError: It is not the failure of an activity.
    """
    error = converter.from_failure(answer.failure, key_converter(call))
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


def failure_of_twin(error: ActivityError) -> Failure:
    """Return the failure that an activity error was made from, said of the user's own activity.

    Raises:
        TypeError: It was not made from any.
    """
    if error.failure is None:
        message = f"an activity error without the failure it was made from: {error!r}"
        raise TypeError(message)
    failure = Failure()
    failure.CopyFrom(error.failure)
    activity = failure.activity_failure_info.activity_type
    activity.name = activity.name.removeprefix(TWIN)
    return failure


def open_unanswered(call: Call, error: ActivityError) -> FailedResult:
    """Return what became of a call whose claim failed, where it timed out and the call skips failures.

    Raises:
        ActivityError: It timed out or was cancelled; said of the user's own activity.
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
