"""The interceptor: where a deduplicated call leaves the road, and where it comes back.

`dedupe.execute_activity` reaches this point through the SDK's own `start_activity`, so other interceptors
have seen the call, and their headers travel on to the real activity. From here a call goes: peek (one marker
in the job's history); if that did not answer, claim (one activity); then the answer is opened: value, error
or `FailedResult`. What comes next is decided by what the history recorded, so jobs replay.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.api.common.v1 import RetryPolicy as RetryPolicyProto
from temporalio.common import Priority, RawValue, RetryPolicy
from temporalio.converter import FailureConverter
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    TimeoutType,
    is_cancelled_exception,
)
from temporalio.exceptions import (
    TimeoutError as ActivityTimeoutError,
)
from temporalio.worker import (
    Interceptor,
    StartActivityInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from dedupe.calls import CALL, SCOPED, Deduplication
from dedupe.claim import WAITING
from dedupe.errors import DedupeError, InvalidCallError, UnreadableRecordError
from dedupe.key_workflow import CALLER_HEADERS
from dedupe.keys import Keyspace, fingerprint
from dedupe.messages import CLAIM, PEEK, FailureMessage, Plan, Question, Sighting, encode, pack
from dedupe.outcome import FailedResult, decode_answer, failed_result, failure_of

_PEEK_TIMEOUT = timedelta(seconds=2)
_LONGEST_SUMMARY = 400
"""Bytes the service takes."""


@dataclass(frozen=True, kw_only=True)
class CallSettings:
    """What the calls of one worker's jobs have in common."""

    keyspace: Keyspace
    wait_slice: timedelta
    """The longest a claim waits before it looks for itself."""
    failure_converter: FailureConverter
    claim_task_queue: str | None = None
    """Where claims run; None: on the job's own task queue."""


class DedupeInterceptor(Interceptor):
    """Carries out the deduplicated calls of a worker's jobs. Everything else passes untouched."""

    def __init__(self, settings: CallSettings) -> None:
        """Create the interceptor for one worker or replayer."""
        self._settings = settings

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """Lend the jobs the keyspace, and carry out their calls."""
        settings = self._settings
        input.unsafe_extern_functions[SCOPED] = settings.keyspace.scoped

        class Inbound(WorkflowInboundInterceptor):
            def init(self, outbound: WorkflowOutboundInterceptor) -> None:
                super().init(_Outbound(outbound, settings))

        return Inbound


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One deduplicated call, ready to go."""

    question: Question
    plan: Plan
    arguments: RawValue
    key: str
    """As the job gave it."""


class _Outbound(WorkflowOutboundInterceptor):
    def __init__(self, next: WorkflowOutboundInterceptor, settings: CallSettings) -> None:
        super().__init__(next)
        self._settings = settings

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        deduplication = CALL.get()
        if deduplication is None:
            return self.next.start_activity(input)
        CALL.set(None)
        call = self._prepare(deduplication, input)
        return workflow.ActivityHandle(self._carry_out(call, input))

    def start_local_activity(self, input: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        deduplication = CALL.get()
        if deduplication is not None:
            raise InvalidCallError(
                activity=input.activity,
                key=deduplication.scoped.key,
                reason="a local activity cannot be deduplicated",
            )
        return self.next.start_local_activity(input)

    def _prepare(self, call: Deduplication, input: StartActivityInput) -> _Call:
        info = workflow.info()
        scoped = call.scoped
        invalid = _reason_against(call, input)
        if invalid is not None:
            raise InvalidCallError(activity=input.activity, key=scoped.key, reason=invalid)
        try:
            arguments = workflow.payload_converter().to_payloads(input.args) if input.args else []
        except Exception as error:
            raise InvalidCallError(
                activity=input.activity, key=scoped.key, reason="its arguments cannot be encoded"
            ) from error
        return _Call(
            key=call.key,
            question=Question(
                key_id=scoped.format(),
                key=scoped.key,
                activity=input.activity,
                skip_failure=call.skip_failure,
                fingerprint=fingerprint(arguments) if call.on_mismatch == "raise" else None,
                called_at=workflow.now(),
            ),
            plan=Plan(
                task_queue=input.task_queue or info.task_queue,
                schedule_to_close_timeout=input.schedule_to_close_timeout,
                schedule_to_start_timeout=input.schedule_to_start_timeout,
                start_to_close_timeout=input.start_to_close_timeout,
                heartbeat_timeout=input.heartbeat_timeout,
                retry_policy=input.retry_policy,
                priority=info.priority if input.priority == Priority.default else input.priority,
                summary=input.summary,
                headers={name: payload.SerializeToString() for name, payload in input.headers.items()},
                ttl=call.ttl,
            ),
            arguments=pack(arguments),
        )

    async def _carry_out(self, call: _Call, input: StartActivityInput) -> Any:
        try:
            payload = await self._peek(call)
            if (answer := decode_answer(payload)) is None:
                payload = await self._claim(call, payload, input)
                answer = decode_answer(payload)
        except ActivityError as error:
            return _unanswered(call, error)
        match answer:
            case Payload():
                return _value(call, answer, input)
            case FailureMessage():
                return self._failure(call, answer)
            case None:
                raise UnreadableRecordError(key=call.question.key, reason="the claim returned no answer")

    async def _peek(self, call: _Call) -> Payload:
        """Return the answer or a sighting. Whatever goes wrong, the claim decides."""
        try:
            value: RawValue = await self.next.start_local_activity(
                StartLocalActivityInput(
                    activity=PEEK,
                    args=[encode(call.question)],
                    activity_id=None,
                    schedule_to_close_timeout=2 * _PEEK_TIMEOUT,
                    schedule_to_start_timeout=None,
                    start_to_close_timeout=_PEEK_TIMEOUT,
                    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50), maximum_attempts=2),
                    local_retry_threshold=None,
                    cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
                    headers={},
                    summary=None,
                    ret_type=RawValue,
                )
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            return encode(Sighting()).payload
        return value.payload

    async def _claim(self, call: _Call, sighting: Payload, input: StartActivityInput) -> Payload:
        """Return the answer, as soon as there is one."""
        value: RawValue = await self.next.start_activity(
            StartActivityInput(
                activity=CLAIM,
                args=[encode(call.question), encode(call.plan), call.arguments, RawValue(sighting)],
                activity_id=input.activity_id,
                task_queue=self._settings.claim_task_queue,
                schedule_to_close_timeout=input.schedule_to_close_timeout,
                schedule_to_start_timeout=None,
                start_to_close_timeout=self._settings.wait_slice,
                heartbeat_timeout=None,
                retry_policy=RetryPolicy(
                    initial_interval=timedelta(milliseconds=100), maximum_interval=timedelta(seconds=10)
                ),
                cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
                headers=input.headers,
                disable_eager_execution=input.disable_eager_execution,
                versioning_intent=input.versioning_intent,
                summary=_summary(call, input),
                event_groups=input.event_groups,
                priority=input.priority,
                arg_types=None,
                ret_type=RawValue,
            )
        )
        return value.payload

    def _failure(self, call: _Call, message: FailureMessage) -> FailedResult:
        error = self._settings.failure_converter.from_failure(
            failure_of(message), workflow.payload_converter()
        )
        if not isinstance(error, ActivityError):
            raise UnreadableRecordError(
                key=call.question.key, reason=f"it holds a failure of another kind: {error!r}"
            )
        if not call.question.skip_failure or is_cancelled_exception(error):
            raise error
        return failed_result(
            error,
            key=call.key,
            activity=call.question.activity,
            failed_at=message.failed_at,
            reused=message.reused,
        )


def _value(call: _Call, result: Payload, input: StartActivityInput) -> Any:
    types = [input.ret_type] if input.ret_type is not None else None
    try:
        [value] = workflow.payload_converter().from_payloads([result], types)
    except Exception as error:
        expected = getattr(input.ret_type, "__name__", input.ret_type)
        raise UnreadableRecordError(
            key=call.question.key, reason=f"the recorded result is no {expected}"
        ) from error
    return value


def _unanswered(call: _Call, error: ActivityError) -> FailedResult:
    """Turn the failure of the peek or the claim into what the real activity would have raised."""
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


def _reason_against(call: Deduplication, input: StartActivityInput) -> str | None:
    """Return what is wrong with a call that would otherwise fail workflow tasks for ever; None if nothing."""
    timeouts = {
        "schedule_to_close_timeout": input.schedule_to_close_timeout,
        "schedule_to_start_timeout": input.schedule_to_start_timeout,
        "start_to_close_timeout": input.start_to_close_timeout,
        "heartbeat_timeout": input.heartbeat_timeout,
    }
    for name, timeout in timeouts.items():
        if timeout is not None and timeout <= timedelta(0):
            return f"{name} is {timeout}, give a positive one"
    if input.schedule_to_close_timeout is None and input.start_to_close_timeout is None:
        return "it has no time-out, give start_to_close_timeout or schedule_to_close_timeout"
    if call.ttl is not None and call.ttl <= timedelta(0):
        return f"deduplication_ttl is {call.ttl}, give a positive one, or None to keep the outcome for ever"
    if call.on_mismatch not in {"reuse", "raise"}:
        return f'on_mismatch is {call.on_mismatch!r}, give "reuse" or "raise"'
    try:
        if input.retry_policy is not None:
            input.retry_policy.apply_to_proto(RetryPolicyProto())
    except ValueError as error:
        return f"its retry policy is refused: {error}"
    return None


def _summary(call: _Call, input: StartActivityInput) -> str:
    """Return what the Web UI shows beside the claim."""
    text = input.summary or f"{call.question.activity} · {call.question.key}"
    return text.encode()[:_LONGEST_SUMMARY].decode(errors="ignore")


class CallerHeadersInterceptor(Interceptor):
    """Gives the activity that a key's workflow executes the headers that the call came with."""

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """See base class."""
        del input
        return _KeyInbound


class _KeyInbound(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_KeyOutbound(outbound))


class _KeyOutbound(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        callers = {name: Payload.FromString(data) for name, data in CALLER_HEADERS.get().items()}
        input.headers = {**input.headers, **callers}
        return self.next.start_activity(input)
