"""The steps of a call, in the caller's workflow: the activities it takes until there is an answer.

First a peek, which is one marker for all calls that are made together. If that did not answer, the twin of
the activity, which executes in place; or a claim, which waits for whoever executes, or has the key's own
workflow execute. What comes next is decided by what the history recorded, so jobs replay.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.converter import FailureConverter
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    FailureError,
    TimeoutType,
    is_cancelled_exception,
)
from temporalio.exceptions import TimeoutError as ActivityTimeoutError
from temporalio.worker import WorkflowOutboundInterceptor

from dedupe.errors import DedupeError, ReconcileError, UnprotectedExecutionError, UnreadableRecordError
from dedupe.job.answer import as_of_key, failure_of_twin, open_failure, open_unanswered
from dedupe.job.peeking import Peeking
from dedupe.job.ration import Ration
from dedupe.job.request import Call
from dedupe.job.scheduled import claim, inquiry, record, size_of, twin
from dedupe.model.answer import FailedAnswer, How, SucceededAnswer, decode_answer
from dedupe.model.failed_result import FailedResult
from dedupe.model.findings import is_still_unknown
from dedupe.model.keys import Keyspace
from dedupe.model.marks import is_recorded, unmarked
from dedupe.model.messages import (
    Execute,
    NotHeld,
    Reconcile,
    Referral,
    Refused,
    Settle,
    Wait,
)
from dedupe.model.outcome import Failed, Outcome, Succeeded, decode_outcome, encode_outcome
from dedupe.model.payloads import decode_referral, encode_referral, unpack
from dedupe.telemetry.answers import OnAnswer

_ASK_AGAIN = timedelta(seconds=1)
"""When nobody could tell what became of an execution; later a quarter of the time that the call has taken."""
_ASK_AGAIN_AT_LAST = timedelta(minutes=10)


CallEnd = SucceededAnswer | FailedAnswer | FailedResult
"""What the call gets. A `FailedResult` is that of a call which has no answer, and skips failures."""


@dataclass(frozen=True, kw_only=True)
class CallSettings:
    """What the calls of one worker's jobs have in common."""

    keyspace: Keyspace
    wait_slice: timedelta
    """The longest an attempt of a claim takes."""
    failure_converter: FailureConverter
    search_attributes: bool = False
    """Whether executions have search attributes."""
    on_mismatch: str = "reuse"
    """What other arguments mean, where a call does not say."""
    in_place: bool = True
    claim_task_queue: str | None = None
    """Where claims run; None: on the job's own task queue."""
    on_answer: OnAnswer | None = None
    """The user's hook."""


class Steps:
    """Carries out the calls of one job."""

    def __init__(self, next: WorkflowOutboundInterceptor, settings: CallSettings) -> None:
        """Begin with none.

        Args:
            next: Schedules what no other interceptor is to see.
            settings: Of the worker.
        """
        self._next = next
        self._settings = settings
        self._peeking = Peeking(next.start_local_activity, in_place=settings.in_place)
        self._ration = Ration()
        self._activities = 0

    async def take(self, call: Call) -> CallEnd:
        """Go from one activity to the next until there is an answer."""
        payload = await self._peeking.peek(call)
        in_place = False
        while (answer := decode_answer(payload)) is None:
            referral = _referral(call, payload)
            in_place = isinstance(referral, Execute)
            if isinstance(referral, Wait):
                self._peeking.learn(call, executed=False)
            end = await self._go_on(call, referral)
            if isinstance(end, FailedResult):
                return end
            payload = end
        executed = isinstance(answer, SucceededAnswer) and answer.how is How.EXECUTED
        self._peeking.learn(call, executed=in_place and executed)
        return answer

    async def _go_on(self, call: Call, referral: Referral) -> Payload | FailedResult:
        """Do what a call was told to do next. Return what came of it."""
        match referral:
            case Execute():
                return await self._execute(call, referral)
            case Wait():
                try:
                    return await self._claim(call, referral)
                except ActivityError as error:
                    return open_unanswered(call, error, held=referral.held)
            case Reconcile():
                return await self._reconcile(call, referral)
            case Refused():
                raise _restored(referral)
            case NotHeld():
                raise UnprotectedExecutionError(activity=call.question.activity, key=call.question.key)
            case _ as never:
                assert_never(never)

    async def _execute(self, call: Call, execute: Execute) -> Payload | FailedResult:
        """Have the twin of the activity execute, in place. Return what it returned, or what is recorded."""
        await self._ration.spend(size_of(call))
        activity_id = self._next_id(call)
        handle = self._next.start_activity(twin(call, execute, activity_id=activity_id))
        try:
            value: RawValue = await handle
        except ActivityError as error:
            if is_cancelled_exception(error):
                return open_unanswered(call, error)
            return await self._settle_failure(call, error, activity_id)
        [payload] = unpack(value.payload)
        if is_recorded(payload):
            return payload
        # It could not be recorded where it was executed, or was completed from elsewhere.
        result = unmarked(payload)
        if payload == result:
            [result] = as_of_key(call, [result], activity_id=activity_id)
        return await self._settle(call, Succeeded(result), activity_id)

    async def _settle_failure(
        self, call: Call, error: ActivityError, activity_id: str
    ) -> Payload | FailedResult:
        """Record that the call has failed for good, and return what is recorded.

        That may be the success of another attempt.
        """
        failure = failure_of_twin(call, error, activity_id=activity_id)
        unrecorded = FailedAnswer(failure=failure, failed_at=workflow.now(), reused=False)
        try:
            payload = await self._settle(call, Failed(failure), activity_id)
        except FailureError as not_recorded:
            if is_cancelled_exception(not_recorded):
                raise
            # Whoever needs the key next finds the failure in this job's history.
            return open_failure(call, unrecorded, converter=self._settings.failure_converter)
        if isinstance(decode_referral(payload), NotHeld):  # it failed before it could acquire the key
            if call.question.hold and _is_of_attempt(error):
                return encode_referral(Wait())  # the service was told not to attempt it again
            return open_failure(call, unrecorded, converter=self._settings.failure_converter)
        return payload

    async def _reconcile(self, call: Call, held: Reconcile) -> Payload:
        """Have an activity of the job find out what became of a held execution, and record what it found.

        Raises:
            ActivityError: It failed. The key is still held.
            ReconcileError: It returned something else.
        """
        await self._ration.spend(size_of(call))
        value: RawValue = await self._next.start_activity(
            inquiry(call, held, activity_id=self._next_id(call))
        )
        [found] = unpack(value.payload)
        if is_still_unknown(found):
            now = workflow.now()
            later = min(max((now - call.question.called_at) / 4, _ASK_AGAIN), _ASK_AGAIN_AT_LAST)
            return encode_referral(
                Wait(
                    asked_at=held.asked_at,
                    run_id=held.run_id,
                    held=f"{call.reconcile} could not tell yet",
                    reconcile_at=now + later,
                )
            )
        try:
            decode_outcome(found)
        except ValueError as error:
            raise ReconcileError(activity=call.reconcile, key=call.question.key) from error
        return await self._record(call, Settle(question=call.question, held_run=held.run_id), found)

    async def _settle(self, call: Call, outcome: Outcome, activity_id: str) -> Payload:
        """Record an end that this job has learned of."""
        settle = Settle(question=call.question, activity_id=activity_id)
        return await self._record(call, settle, encode_outcome(outcome))

    async def _record(self, call: Call, settle: Settle, outcome: Payload) -> Payload:
        value: RawValue = await self._next.start_local_activity(record(call, settle, outcome))
        [payload] = unpack(value.payload)
        return payload

    async def _claim(self, call: Call, wait: Wait) -> Payload:
        """Wait for the outcome; or begin the execution where it is delegated, and wait for that."""
        is_delegated = wait.delegated or not (self._settings.in_place and call.is_here)
        await self._ration.spend(size_of(call, arguments=is_delegated))
        settings, activity_id = self._settings, self._next_id(call)
        value: RawValue = await self._next.start_activity(
            claim(
                call,
                wait,
                activity_id=activity_id,
                is_delegated=is_delegated,
                task_queue=settings.claim_task_queue,
                wait_slice=settings.wait_slice,
            )
        )
        [payload] = unpack(value.payload)
        return payload

    def _next_id(self, call: Call) -> str:
        """Return an id that no other activity of the job has: it names the call to whoever needs its key."""
        self._activities += 1
        return f"{call.input.activity_id or 'dedupe'}~{self._activities}"


def _is_of_attempt(error: ActivityError) -> bool:
    """Return whether an attempt has timed out, after which a plain call has another."""
    return isinstance(error.cause, ActivityTimeoutError) and error.cause.type in {
        TimeoutType.START_TO_CLOSE,
        TimeoutType.HEARTBEAT,
    }


def _referral(call: Call, payload: Payload) -> Referral:
    """Return what a call is to do next.

    Raises:
        UnreadableRecordError: A newer version of this package said something that this one does not know.
    """
    try:
        referral = decode_referral(payload)
    except ValueError as error:
        raise UnreadableRecordError(key=call.question.key, reason="it is of a newer version") from error
    if referral is None:
        raise UnreadableRecordError(key=call.question.key, reason="the activity returned no answer")
    return referral


def _restored(refused: Refused) -> DedupeError:
    error = ApplicationError(refused.message, type=refused.type, non_retryable=True)
    return DedupeError.restore(error) or DedupeError(reason=refused.message)
