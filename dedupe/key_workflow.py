"""The key's workflow: one per scoped key. It executes the activity, it is the lock, it is the record.

Life of a key: execute, reply to all that wait, stay open and idle for as long as the key is held; then
execute again where a failure is superseded, or end where the key is forgotten or expires.
Invariant: at most one execution at a time, and none after a success.

Any change to the commands below is gated with `workflow.patched` and adds a history to the replay corpus.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

from dedupe.decision import Executing, ExecutionRecord, Settled, Wait, decide
from dedupe.execution.current import format_activity_id, new_idempotency_key
from dedupe.keys import fingerprint
from dedupe.messages import (
    ATTACH,
    FORGET,
    KEY_WORKFLOW,
    RERUN,
    SETTLE,
    TOO_LARGE,
    Attach,
    Forget,
    Plan,
    Rerun,
    Rollover,
    Settlement,
    Start,
    Waiter,
    decode,
    encode,
    unpack,
)
from dedupe.outcome import NO_RESULT, RECLAIM, Answer, Failed, Outcome, Succeeded, roll_over, rolled_over

_BATCH = 100
"""Waiters told by one settle."""
_TOLD_TOGETHER = "dedupe-told-together"
"""Patch: those who join a settled key at once are told in one batch, and not each by itself."""
_LARGEST_ROLLOVER = 1_500_000
"""Bytes of an outcome that still fit, with the rest, into one workflow input."""
_NOTHING = RawValue(Payload())
_EPOCH = datetime.fromtimestamp(0, UTC)

CALLER_HEADERS: ContextVar[Mapping[str, bytes]] = ContextVar(
    "dedupe-caller-headers", default=MappingProxyType({})
)
"""Serialized headers of the call that is executed; `dedupe.key_server` puts them on its activity."""


@workflow.defn(name=KEY_WORKFLOW)
class KeyWorkflow:
    """Executes, locks and records one key. Only claims start it."""

    @workflow.init
    def __init__(self, start: RawValue = _NOTHING, content: RawValue = _NOTHING) -> None:
        """Take up the key.

        Args:
            start: A `Start` message.
            content: The packed arguments; in a run that carries a record on, the outcome.

        Raises:
            ApplicationError: The input was not made by a claim. The run fails, and holds nothing.
        """
        try:
            self._start = decode(Start, start.payload)
            self._record = self._first_record(content.payload)
        except (ValueError, AttributeError) as error:  # no message; not even two raw values
            message = f"{KEY_WORKFLOW} is started by deduplicated calls only; its input cannot be read"
            raise ApplicationError(message, non_retryable=True) from error
        self._plan = self._start.plan
        self._caller = self._start.caller
        self._arguments = content.payload
        self._fingerprint: str | None = None
        self._waiting = dict.fromkeys(self._start.waiters)
        self._replies: list[tuple[Waiter, Payload]] = []
        self._answers: dict[tuple[datetime, bool], Payload] = {}
        """What is being told, by when it was recorded and whether it is reused: encoded once for all."""
        self._activity: workflow.ActivityHandle[RawValue | None] | None = None
        self._forced = False
        self._closing = self._start.forgotten

    @workflow.run
    async def run(self, start: RawValue = _NOTHING, content: RawValue = _NOTHING) -> None:
        """Hold the key until it is forgotten or expires."""
        del start, content  # taken up in __init__
        while not self._closing:
            match self._record:
                case Executing(execution=execution):
                    await self._execute(execution)
                case Settled() as settled:
                    await self._hold(settled)
        await self._reply()

    @workflow.signal(dynamic=True)
    def receive(self, name: str, arguments: Sequence[RawValue]) -> None:
        """Take a signal. What is no message of a claim or of `DedupeKeys` is dropped."""
        payloads = [argument.payload for argument in arguments]
        try:
            match name, payloads:
                case (str(), [message]) if name == ATTACH:
                    self._attach(decode(Attach, message))
                case (str(), [message, packed]) if name == RERUN:
                    self._execute_again(decode(Rerun, message), packed)
                case (str(), [message]) if name == FORGET:
                    self._forget(decode(Forget, message))
                case _:
                    workflow.logger.warning("dropped the unknown signal %r", name)
        except ValueError:
            workflow.logger.warning("dropped the signal %r: its input cannot be read", name)

    def _attach(self, attach: Attach) -> None:
        """Answer a claim, or let it wait for the end of the execution."""
        record = self._record
        if isinstance(record, Settled) and record.expires_at is not None and record.expires_at <= _now():
            self._closing = True  # the timer is due in this very task, and would come after the signals
            self._replies.append((attach.waiter, RECLAIM))
            return
        if attach.question.fingerprint is not None:
            record = replace(record, execution=self._fingerprinted(record.execution))
        match decide(attach.question, asked_at=attach.asked_at, record=record):
            case Wait() if not self._closing:
                self._waiting[attach.waiter] = None
            case Answer() as answer:
                self._replies.append((attach.waiter, self._encoded(answer)))
            case _:
                self._replies.append((attach.waiter, RECLAIM))

    def _encoded(self, answer: Answer) -> Payload:
        """Return an answer as it travels: one payload for all who get the same, and are told together."""
        same = (answer.settled_at, answer.reused)
        if same not in self._answers or not workflow.patched(_TOLD_TOGETHER):
            self._answers[same] = answer.encode()
        return self._answers[same]

    def _execute_again(self, rerun: Rerun, arguments: Payload) -> None:
        """Begin the next generation, unless somebody has seen to it already."""
        match self._record:
            case Settled(outcome=Failed() as failed, execution=execution) if (
                execution.generation == rerun.generation
                and execution.idempotency_key == rerun.idempotency_key
            ):
                _check(rerun.plan, arguments)
                self._plan = rerun.plan
                self._caller = rerun.caller
                self._arguments = arguments
                self._fingerprint = None
                generation = execution.generation + 1
                self._record = Executing(
                    execution=replace(
                        execution,
                        generation=generation,
                        idempotency_key=_idempotency_key(generation)
                        if failed.is_definite
                        else execution.idempotency_key,
                        fingerprint=None,
                        started_at=_now(),
                    )
                )
            case _:
                pass

    def _forget(self, forget: Forget) -> None:
        """Let go of the key; of one that is executing only by force, which also cancels the activity.

        Of the life of the key that is meant, and not of one that has begun since.
        """
        if forget.life not in {None, self._record.execution.life}:
            return
        if isinstance(self._record, Settled):
            self._closing = True
        elif forget.force:
            self._closing = self._forced = True
            self._replies.extend((waiter, RECLAIM) for waiter in self._waiting)
            self._waiting.clear()
            if self._activity is not None:
                self._activity.cancel()

    async def _execute(self, execution: ExecutionRecord) -> None:
        """Run the activity to its end and answer all that wait for it."""
        plan = self._plan
        CALLER_HEADERS.set(plan.headers)
        self._activity = workflow.start_activity(
            execution.activity,
            args=[RawValue(argument) for argument in unpack(self._arguments)],
            activity_id=format_activity_id(execution.generation, execution.idempotency_key),
            task_queue=plan.task_queue,
            result_type=RawValue,
            schedule_to_close_timeout=plan.schedule_to_close_timeout,
            schedule_to_start_timeout=plan.schedule_to_start_timeout,
            start_to_close_timeout=plan.start_to_close_timeout,
            heartbeat_timeout=plan.heartbeat_timeout,
            retry_policy=_ended_by_too_large(plan.retry_policy),
            summary=plan.summary,
            priority=plan.priority,
        )
        settling = asyncio.create_task(self._settle(self._activity, execution, ttl=plan.ttl))
        try:
            while not settling.done():
                await workflow.wait_condition(lambda: settling.done() or bool(self._replies))
                await self._reply()
            if (cancellation := await settling) is not None:
                raise cancellation
            await self._reply()
        except (ActivityError, asyncio.CancelledError):
            await self._let_go(self._activity, execution)
            if self._forced:
                return
            raise
        self._closing = self._closing or self._start.closes_when_settled

    async def _settle(
        self,
        running: workflow.ActivityHandle[RawValue | None],
        execution: ExecutionRecord,
        *,
        ttl: timedelta | None,
    ) -> ActivityError | None:
        """Record how the activity ends, at once: from this workflow task on the ledger says the same.

        Returns:
            Its cancellation, which is no end.
        """
        try:
            value = await running
            outcome: Outcome = Succeeded(NO_RESULT if value is None else value.payload)
        except ActivityError as error:
            if is_cancelled_exception(error):
                return error
            outcome = Failed(_failure_of(error))
        settled_at = _now()
        self._record = Settled(
            execution=execution,
            outcome=outcome,
            settled_at=settled_at,
            expires_at=None if ttl is None else settled_at + ttl,
        )
        self._answer_waiting(Answer(outcome=outcome, settled_at=settled_at, reused=False))
        return None

    async def _let_go(self, running: workflow.ActivityHandle[Any], execution: ExecutionRecord) -> None:
        """End without an outcome, which a cancellation is not. Those who still wait are told of it."""
        self._closing = True
        running.cancel()
        cancelled = Failed(_cancellation(execution))
        self._answer_waiting(Answer(outcome=cancelled, settled_at=_now(), reused=False))
        await self._reply()

    async def _hold(self, settled: Settled) -> None:
        """Keep the record until something is asked of it, or its time is over."""
        if self._is_to_roll_over(settled):
            self._roll_over(settled)
        remaining = None if settled.expires_at is None else settled.expires_at - _now()
        if remaining is not None and remaining <= timedelta(0):
            self._closing = True
            return
        try:
            await workflow.wait_condition(
                lambda: self._closing or bool(self._replies) or self._record is not settled,
                timeout=remaining,
            )
        except TimeoutError:
            self._closing = self._closing or self._record is settled
        await self._reply()

    async def _reply(self) -> None:
        """Complete the claims that have an answer. A reply lost here is healed by the claim's wait slice."""
        while self._replies:
            payload = self._replies[0][1]
            batch = [waiter for waiter, reply in self._replies if reply is payload][:_BATCH]
            told = set(batch)
            self._replies = [
                (waiter, reply)
                for waiter, reply in self._replies
                if reply is not payload or waiter not in told
            ]
            try:
                await workflow.execute_local_activity(
                    SETTLE,
                    args=[encode(Settlement(waiters=tuple(batch))), RawValue(payload)],
                    start_to_close_timeout=timedelta(seconds=10),
                    schedule_to_close_timeout=timedelta(seconds=30),
                    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50), maximum_attempts=5),
                )
            except FailureError as error:  # of one that timed out, a replay raises the bare time-out
                if is_cancelled_exception(error):
                    raise
                workflow.logger.warning("could not tell %d claims: %s", len(batch), error.cause)
        self._answers.clear()

    def _answer_waiting(self, answer: Answer) -> None:
        payload = self._encoded(answer)
        self._replies.extend((waiter, payload) for waiter in self._waiting)
        self._waiting.clear()

    def _is_to_roll_over(self, settled: Settled) -> bool:
        return (
            workflow.info().is_continue_as_new_suggested()
            and not self._replies
            and roll_over(settled.outcome).ByteSize() <= _LARGEST_ROLLOVER
        )

    def _roll_over(self, settled: Settled) -> None:
        execution = self._fingerprinted(settled.execution)
        start = self._start.model_copy(
            update={
                "plan": self._plan,
                "caller": self._caller,
                "waiters": (),
                "generation": execution.generation,
                "idempotency_key": execution.idempotency_key,
                "rollover": Rollover(
                    settled_at=settled.settled_at,
                    started_at=execution.started_at,
                    expires_at=settled.expires_at,
                    fingerprint=execution.fingerprint or "",
                    failed=isinstance(settled.outcome, Failed),
                ),
            }
        )
        workflow.continue_as_new(args=[encode(start), RawValue(roll_over(settled.outcome))])

    def _first_record(self, content: Payload) -> Executing | Settled:
        start = self._start
        rollover = start.rollover
        execution = ExecutionRecord(
            life=workflow.info().first_execution_run_id,
            activity=start.activity,
            generation=start.generation,
            idempotency_key=start.idempotency_key or _idempotency_key(start.generation),
            fingerprint=None if rollover is None else rollover.fingerprint,
            started_at=_now() if rollover is None else rollover.started_at,
        )
        if rollover is None:
            if not start.forgotten:
                _check(start.plan, content)
            return Executing(execution=execution)
        return Settled(
            execution=execution,
            outcome=rolled_over(rollover, content),
            settled_at=rollover.settled_at,
            expires_at=rollover.expires_at,
        )

    def _fingerprinted(self, execution: ExecutionRecord) -> ExecutionRecord:
        if execution.fingerprint is not None:
            return execution
        if self._fingerprint is None:  # once, and not for each of thousands who join
            self._fingerprint = fingerprint(unpack(self._arguments))
        return replace(execution, fingerprint=self._fingerprint)


def _check(plan: Plan, arguments: Payload) -> None:
    """Check that an execution can be begun. Claims see to that before they ask for one.

    Raises:
        ValueError: It cannot: the message was made by hand.
    """
    unpack(arguments)
    if plan.start_to_close_timeout is None and plan.schedule_to_close_timeout is None:
        raise ValueError("a plan without time-outs")


def _now() -> datetime:
    """Return the workflow's time, to the microsecond as the ledger reads it; the SDK's own is rounded."""
    return _EPOCH + timedelta(microseconds=workflow.time_ns() // 1000)


def _ended_by_too_large(policy: RetryPolicy | None) -> RetryPolicy:
    """Return the caller's policy, for which a result that is too large is an end.

    Another attempt would have the effect again, and the same result.
    """
    policy = policy or RetryPolicy()
    return replace(policy, non_retryable_error_types=[*(policy.non_retryable_error_types or ()), TOO_LARGE])


def _idempotency_key(generation: int) -> str:
    return new_idempotency_key(workflow.info().first_execution_run_id, generation)


def _cancellation(execution: ExecutionRecord) -> Failure:
    """Return the failure of an activity that was cancelled, as the SDK makes it."""
    failure = Failure(message="Activity cancelled", cause=Failure(message="Cancelled"))
    failure.cause.canceled_failure_info.SetInParent()
    failure.activity_failure_info.activity_type.name = execution.activity
    failure.activity_failure_info.activity_id = format_activity_id(
        execution.generation, execution.idempotency_key
    )
    return failure


def _failure_of(error: BaseException) -> Failure:
    """Return the failure that the error was made from, as the service reported it."""
    if not isinstance(error, FailureError) or error.failure is None:
        message = f"an activity error without the failure it was made from: {error!r}"
        raise TypeError(message)
    return error.failure
