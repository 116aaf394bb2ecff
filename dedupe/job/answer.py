"""The answer: what came back becomes a value, an error or a `FailedResult`, as a plain call has it."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar
from weakref import WeakSet

from temporalio import workflow
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.failure.v1 import Failure
from temporalio.converter import (
    ActivitySerializationContext,
    FailureConverter,
    PayloadConverter,
    SerializationContext,
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
from dedupe.model.answer import FailedAnswer
from dedupe.model.failed_result import FailedResult, failed_result
from dedupe.model.names import TWIN, WAITING
from dedupe.model.payloads import is_bound


def waited_for_held(error: ActivityError) -> bool:
    """Return whether a call timed out while it waited for a key that is held."""
    return error in _HELD


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


_HELD: WeakSet[ActivityError] = WeakSet()
"""Errors of calls that timed out while their keys were held."""

ConverterT = TypeVar("ConverterT", PayloadConverter, FailureConverter)


def _in_context(converter: ConverterT, context: SerializationContext) -> ConverterT:
    return converter.with_context(context) if isinstance(converter, WithSerializationContext) else converter


def _context_of_key(call: Call) -> SerializationContext:
    """Return the context of a record: it has no other, whoever reads it."""
    return WorkflowSerializationContext(namespace=workflow.info().namespace, workflow_id=call.question.key_id)


def key_converter(call: Call) -> PayloadConverter:
    """Return the payload converter in the context of the key."""
    return _in_context(workflow.payload_converter(), _context_of_key(call))


def as_of_key(call: Call, payloads: Iterable[Payload], *, activity_id: str) -> list[Payload]:
    """Return payloads of the job's own twin as payloads of the key, which other jobs can read.

    They are the same unless the payload converter is bound to a context. Those that it cannot read without
    their type are left as they are.
    """
    converter, info = workflow.payload_converter(), workflow.info()
    given = list(payloads)
    if not is_bound(converter):
        return given
    context = ActivitySerializationContext(
        namespace=info.namespace,
        workflow_id=info.workflow_id,
        workflow_type=info.workflow_type,
        activity_id=activity_id,
        activity_type=f"{TWIN}{call.question.activity}",
        activity_task_queue=info.task_queue,
        is_local=False,
    )
    try:
        values = _in_context(workflow.payload_converter(), context).from_payloads(given)
        return key_converter(call).to_payloads(values)
    except Exception:  # noqa: BLE001 - a payload converter may raise anything
        return given


def open_failure(call: Call, answer: FailedAnswer, *, converter: FailureConverter) -> FailedResult:
    """Return a failure as a value, where the call skips failures.

    Raises:
        ActivityError: It does not, or the activity was cancelled.
        UnreadableRecordError: It is not the failure of an activity.
    """
    bound = _in_context(converter, _context_of_key(call))
    error = bound.from_failure(answer.failure, key_converter(call))
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


def failure_of_twin(call: Call, error: ActivityError, *, activity_id: str) -> Failure:
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
    each = failure
    while True:
        for details in _details(each):
            rebound = as_of_key(call, details.payloads, activity_id=activity_id)
            details.CopyFrom(Payloads(payloads=rebound))
        if not each.HasField("cause"):
            return failure
        each = each.cause


def _details(failure: Failure) -> Iterator[Payloads]:
    """Yield what a failure holds of the user's own payloads."""
    if failure.application_failure_info.HasField("details"):
        yield failure.application_failure_info.details
    if failure.canceled_failure_info.HasField("details"):
        yield failure.canceled_failure_info.details
    if failure.timeout_failure_info.HasField("last_heartbeat_details"):
        yield failure.timeout_failure_info.last_heartbeat_details


def open_unanswered(call: Call, error: ActivityError, *, held: str | None = None) -> FailedResult:
    """Return what became of a call whose claim failed, where it timed out and the call skips failures.

    Args:
        call: The call.
        error: What its claim, or its own activity, ended with.
        held: Why the key is held; None: it is not, as far as is known.

    Raises:
        ActivityError: It timed out or was cancelled; said of the user's own activity.
        DedupeError: The claim said so.
    """
    cause = error.cause
    held = _why_held(cause) or held
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
    if held is not None and isinstance(cause, ActivityTimeoutError):
        cause = ActivityTimeoutError(
            f"{cause.message}: deduplication key {call.question.key!r} is held, since nobody knows whether "
            f"its effect happened ({held}). Resolve it",
            type=cause.type,
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
    if held is not None and isinstance(cause, ActivityTimeoutError):
        _HELD.add(as_called)
    if call.question.skip_failure and isinstance(cause, ActivityTimeoutError):
        return failed_result(
            as_called, key=call.key, activity=call.question.activity, failed_at=workflow.now(), reused=False
        )
    raise as_called from cause


def _why_held(cause: BaseException | None) -> str | None:
    """Return why the key is held that a claim has waited for; None: it is not, or the claim does not say."""
    while cause is not None:
        if isinstance(cause, ApplicationError) and cause.type == WAITING and cause.details:
            return str(cause.details[0])
        cause = cause.__cause__
    return None
