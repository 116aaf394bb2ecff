"""The interceptor: where a deduplicated call leaves the road, and where it comes back.

`dedupe.execute_activity` reaches this point through the SDK's own `start_activity`, so other interceptors
have seen the call, and their headers travel on to the real activity. From here a call goes: peek (one marker
in the job's history); if that did not answer, claim (one activity); then the answer is opened: value, error
or `FailedResult`. What comes next is decided by what the history recorded, so jobs replay.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue, RetryPolicy
from temporalio.converter import FailureConverter
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception
from temporalio.worker import (
    Interceptor,
    StartActivityInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from dedupe.calls import CALL, SCOPED
from dedupe.errors import UnreadableRecordError
from dedupe.keys import Keyspace
from dedupe.messages import CLAIM, PEEK, TOO_LARGE, ClaimInput, Peek, Sighting, decode, encode
from dedupe.opening import open_failure, open_result, open_unanswered
from dedupe.outcome import FailedAnswer, decode_answer
from dedupe.preparation import Call, prepare

_PEEK_TIMEOUT = timedelta(seconds=2)


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
                super().init(innermost(outbound, lambda last: _Outbound(last, settings)))

        return Inbound


def innermost(
    outbound: WorkflowOutboundInterceptor,
    wrap: Callable[[WorkflowOutboundInterceptor], WorkflowOutboundInterceptor],
) -> WorkflowOutboundInterceptor:
    """Put an interceptor next to the SDK itself, where it sees what all others add to a call.

    Otherwise the place in the list would decide, and interceptors of the client always come first.
    """
    following: WorkflowOutboundInterceptor | None = getattr(outbound, "next", None)
    if following is None:
        return wrap(outbound)
    outbound.next = innermost(following, wrap)
    return outbound


class _Outbound(WorkflowOutboundInterceptor):
    def __init__(self, next: WorkflowOutboundInterceptor, settings: CallSettings) -> None:
        super().__init__(next)
        self._settings = settings
        self._named_calls = 0

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        deduplication = CALL.get()
        if deduplication is None or input.activity != deduplication.activity:
            return self.next.start_activity(input)
        call = prepare(deduplication, input, claim_id=self._claim_id(input))
        handle = workflow.ActivityHandle(self._carry_out(call, input))
        # A worker that stops drops its workflows as they are; the SDK silences its own handles the same way.
        setattr(handle, "_log_destroy_pending", False)  # noqa: B010
        return handle

    def _claim_id(self, input: StartActivityInput) -> str | None:
        """Return the activity id of a claim, where the job gave its call one.

        Answers are sent to it, maybe late: no other call of the job, with or without a key, may have it.
        """
        if input.activity_id is None:
            return None
        self._named_calls += 1
        return f"{input.activity_id}~{self._named_calls}"

    async def _carry_out(self, call: Call, input: StartActivityInput) -> Any:
        try:
            payload = await self._peek(call, input)
            if (answer := decode_answer(payload)) is None:
                payload = await self._claim(call, payload, input)
                answer = decode_answer(payload)
        except ActivityError as error:
            return open_unanswered(call, error)
        match answer:
            case Payload():
                return open_result(call, answer)
            case FailedAnswer():
                return open_failure(call, answer, converter=self._settings.failure_converter)
            case None:
                raise UnreadableRecordError(key=call.question.key, reason="the claim returned no answer")

    async def _peek(self, call: Call, input: StartActivityInput) -> Payload:
        """Return the answer or a sighting. Whatever goes wrong, the claim decides."""
        peek = Peek(question=call.question, task=workflow.info().get_current_history_length())
        try:
            value: RawValue = await self.next.start_local_activity(
                StartLocalActivityInput(
                    activity=PEEK,
                    args=[encode(peek)],
                    activity_id=None,
                    schedule_to_close_timeout=2 * _PEEK_TIMEOUT,
                    schedule_to_start_timeout=None,
                    start_to_close_timeout=_PEEK_TIMEOUT,
                    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50), maximum_attempts=2),
                    local_retry_threshold=None,
                    cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
                    headers=input.headers,
                    summary=None,  # one more payload would cost a hit a seventh of its CPU
                    ret_type=RawValue,
                )
            )
        except FailureError as error:  # of a local activity that timed out, a replay raises the bare time-out
            if is_cancelled_exception(error):
                raise
            return encode(Sighting()).payload
        return value.payload

    async def _claim(self, call: Call, sighting: Payload, input: StartActivityInput) -> Payload:
        """Return the answer, as soon as there is one."""
        claim = ClaimInput(question=call.question, plan=call.plan, sighting=decode(Sighting, sighting))
        value: RawValue = await self.next.start_activity(
            StartActivityInput(
                activity=CLAIM,
                args=[encode(claim), call.arguments],
                activity_id=call.claim_id,
                task_queue=self._settings.claim_task_queue,
                schedule_to_close_timeout=input.schedule_to_close_timeout,
                schedule_to_start_timeout=None,
                start_to_close_timeout=self._settings.wait_slice,
                heartbeat_timeout=None,
                retry_policy=RetryPolicy(
                    initial_interval=timedelta(milliseconds=100),
                    maximum_interval=timedelta(seconds=10),
                    non_retryable_error_types=[TOO_LARGE],
                ),
                cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
                headers=input.headers,
                disable_eager_execution=input.disable_eager_execution,
                versioning_intent=input.versioning_intent,
                summary=call.summary,
                event_groups=input.event_groups,
                priority=input.priority,
                arg_types=None,
                ret_type=RawValue,
            )
        )
        return value.payload
