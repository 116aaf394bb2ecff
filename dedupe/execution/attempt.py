"""The attempt: acquire the key, have the effect, record how it ended. What runs in place of a twin.

Invariants: the effect begins only while an open run of the key names this call and has no outcome; and where
an unknown outcome is held, only if every attempt before has failed and said so. Of two outcomes the first
counts: an attempt that may not be the only one returns what is recorded, not what it saw.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar, assert_never

from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.exceptions import ApplicationError, is_cancelled_exception
from temporalio.service import RPCError

from dedupe.errors import CANNOT_TELL, DedupeError
from dedupe.key.begin import Beginning, Begun, UnderWay, begin
from dedupe.key.owner import is_last_attempt
from dedupe.key.unknown import hold, interrupted, show
from dedupe.model.answer import Answer, How
from dedupe.model.decision import Begin, Hold, Refuse, Share, decide
from dedupe.model.marks import unrecorded
from dedupe.model.messages import Owner, Question, Referral, Refused, Start, UnknownOutcome, Wait
from dedupe.model.names import TOO_LARGE
from dedupe.model.outcome import Abandoned, Failed, Outcome, Succeeded
from dedupe.model.payloads import encode_referral
from dedupe.model.record import Absent, Executing, Execution, Held, Record, Settled, over_at, settled_by
from dedupe.record.handle import KeyHandle, OutcomeTooLargeError

_ROUNDS = 10
"""How often an attempt reads a key whose runs come and go, before it leaves the key to a claim."""

T = TypeVar("T")
Effect = Callable[[Start], Awaitable[T]]
"""Has the effect, and returns its result."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt of a call to execute its activity under a key."""

    key: KeyHandle
    question: Question
    ttl: timedelta | None
    waited_for: str | None
    """The run of the key whose end the call has waited for."""
    owner: Owner
    """The call."""
    number: int
    """1 for the first attempt. An operator's reset begins at 1 again."""
    asked_at: datetime
    """Server time at which the call was first seen."""
    now: datetime
    """Server time."""
    started_at: datetime
    """Server time at which this attempt was started."""
    task_queue: str
    """Where the workflows of keys live."""
    began: float = field(default_factory=time.monotonic)
    """When this attempt was started, on this process's clock."""

    async def run(self, effect: Effect[T], *, encode: Callable[[T], Payload]) -> Payload:
        """Execute, or return what keeps this attempt from it. The payload is marked as what it is.

        Args:
            effect: Has the effect.
            encode: Encodes its result, as it is recorded.

        Raises:
            Exception: What the effect raised. The service decides whether it is attempted again.
        """
        try:
            found = await self._acquire()
        except (RPCError, DedupeError) as error:
            activity.logger.warning("left deduplication key %r to a claim: %s", self._key, error)
            return encode_referral(self._wait())
        except Exception as error:  # noqa: BLE001 - a payload codec may raise anything; a claim has more patience
            activity.logger.warning("left deduplication key %r to a claim: %r", self._key, error)
            return encode_referral(self._wait())
        match found:
            case Answer():
                return found.encode()
            case _Acquired():
                return await self._execute(found, effect, encode)
            case _:
                return encode_referral(found)

    async def _acquire(self) -> "Answer | _Acquired | Referral":
        """Take the key, find it taken by an attempt of this very call, or learn why it cannot be had."""
        if self.number == 1 and self.waited_for is None:
            begun = await begin(self.key, Absent(), self._beginning, now=self.now)
            if isinstance(begun, Begun):
                return self._begun(begun)
        for _ in range(_ROUNDS):
            found = await self._find()
            if found is not None:
                return found
        return self._wait()

    async def _find(self) -> "Answer | _Acquired | Referral | None":
        """Return what the record is to this attempt; None where another call was faster: read again."""
        record = await self.key.read(now=self.now)
        mine = await self._mine(record)
        if mine is not None:
            return mine
        decision = decide(self.question, record, asked_at=self.asked_at, waited_for=self.waited_for)
        match decision:
            case Answer():
                return decision
            case Refuse(error):
                return Refused(type=str(error.type), message=error.message)
            case Share(execution) | Hold(Held(execution=execution)):
                return self._wait(execution.run_id)
            case Begin(before):
                begun = await begin(self.key, before, self._beginning, now=self.now)
                if isinstance(begun, UnderWay):
                    return self._wait()
                return None if begun is None else self._begun(begun)
            case _ as never:
                assert_never(never)

    def _begun(self, begun: Begun) -> "_Acquired | Wait":
        """Return that this attempt holds the key, and is the first one that does."""
        if begun.start.unknown is not None:  # an execution before it may have had its effect
            return self._wait(begun.run_id)
        return _Acquired(begun, alone=True)

    async def _mine(self, record: Record) -> "Answer | _Acquired | Wait | None":
        """Return what a run says that names this call; None where the current run does not."""
        if isinstance(record, Absent):
            return None
        execution = record.execution
        if execution.owner is None or not execution.owner.is_same_call(self.owner):
            return None
        match record:
            case Executing():
                begun = Begun(run_id=execution.run_id, start=execution.start)
                if execution.start.hold and not self._follows_an_answer(execution):
                    why = "an attempt ended without an answer"
                    return await self._hold(begun, why, over_at=over_at(execution, now=self.now))
                return _Acquired(begun, alone=False)
            case Held():
                return self._wait(execution.run_id)
            case Settled():
                return _own_answer(record)

    def _follows_an_answer(self, execution: Execution) -> bool:
        """Return whether each attempt before has failed and said so. After a reset nobody can tell."""
        return self.number > 1 and execution.answered == self.number - 1

    async def _execute(
        self, acquired: "_Acquired", effect: Effect[T], encode: Callable[[T], Payload]
    ) -> Payload:
        try:
            result = await effect(acquired.begun.start)
        except BaseException as error:
            if (
                acquired.begun.start.hold
                and isinstance(error, ApplicationError)
                and error.type == CANNOT_TELL
            ):
                why = f"its activity cannot tell: {error.message}"
                held = self._hold(acquired.begun, why, over_at=settled_by(self._now))
                return encode_referral(await _to_its_end(held))
            await _to_its_end(self._leave(acquired, error))
            if acquired.begun.start.hold and is_cancelled_exception(error):
                raise interrupted() from error
            raise
        try:
            payload = encode(result)
        except Exception as error:
            if acquired.begun.start.hold:
                why = f"its effect happened, and its result cannot be encoded ({type(error).__name__})"
                return encode_referral(await _to_its_end(self._hold(acquired.begun, why)))
            await _to_its_end(self._leave(acquired, error))
            raise
        return await _to_its_end(self._record(acquired, payload))

    async def _leave(self, acquired: "_Acquired", error: BaseException) -> None:
        """Note what the next attempt has to know of this one, and those who wait if there will be none."""
        start, run_id = acquired.begun.start, acquired.begun.run_id
        try:
            if start.hold and is_cancelled_exception(error):
                await self._hold(acquired.begun, "its attempt was interrupted")
                return
            if start.hold and isinstance(error, Exception):
                await self.key.answered(run_id)
            elif start.hold:  # it will be completed from elsewhere, or this process ends
                return
            if await is_last_attempt(
                self.key.client, self.owner, number=self.number, started_at=self.started_at
            ):
                await self.key.record(run_id, Abandoned())
        except Exception as failed:  # noqa: BLE001 - they find out, when this attempt must be over
            activity.logger.debug("could not give up deduplication key %r: %r", self._key, failed)

    async def _hold(self, begun: Begun, why: str, *, over_at: datetime | None = None) -> Wait:
        """Hold the key, and return that its call is to wait.

        Raises:
            RPCError: The service did not take the request.
        """
        unknown = UnknownOutcome(why=why, over_at=over_at or self.now)
        await hold(self.key, begun.run_id, begun.start, unknown)
        activity.logger.warning("deduplication key %r is held: %s", self._key, why)
        return Wait(asked_at=self.asked_at, run_id=begun.run_id, held=why)

    async def _record(self, acquired: "_Acquired", result: Payload) -> Payload:
        """Record the result, and return what the job gets."""
        run_id = acquired.begun.run_id
        try:
            was_open = await self.key.record(run_id, Succeeded(result), at=self._ended_at)
            if was_open and acquired.alone:
                return self._executed(result)
            return await self._recorded(run_id, result, was_open=was_open)
        except OutcomeTooLargeError as error:
            return await self._record_too_large(acquired, str(error))
        except Exception as error:  # noqa: BLE001 - the effect has happened: the job records it
            activity.logger.warning("could not record deduplication key %r: %r", self._key, error)
            return unrecorded(result)

    async def _record_too_large(self, acquired: "_Acquired", reason: str) -> Payload:
        """Record a failure in place of the result, or hold: another attempt would have the effect again.

        It is not flagged non-retryable, so the next execution keeps the idempotency key: the effect has
        happened.
        """
        run_id = acquired.begun.run_id
        if acquired.begun.start.hold:
            return encode_referral(await self._hold(acquired.begun, f"its effect happened, and {reason}"))
        cause = Failure(message=reason, application_failure_info=ApplicationFailureInfo(type=TOO_LARGE))
        failure = Failure(message="Activity task failed", cause=cause)
        failure.activity_failure_info.activity_id = self.owner.activity_id
        failure.activity_failure_info.activity_type.name = self.question.activity
        failed = Failed(failure)
        if await self.key.record(run_id, failed):
            await show(self.key, run_id, acquired.begun.start)
        return Answer(outcome=failed, settled_at=self.now, how=How.EXECUTED).encode()

    async def _recorded(self, run_id: str, result: Payload, *, was_open: bool) -> Payload:
        """Return what stands in the record, where this attempt may not be the only one."""
        run = await (self.key.after_signal(run_id) if was_open else self.key.run(run_id))
        if run is not None and run.end is not None and not isinstance(run.end.outcome, Abandoned):
            return Answer(outcome=run.end.outcome, settled_at=run.end.at, how=How.EXECUTED).encode()
        if was_open:
            return self._executed(result)
        match record := await self.key.read(now=self.now):
            case Absent(before=Execution() as ended) if ended.run_id == run_id:
                # An operator ended the run, who did not mean the effect: it gets another record.
                begun = await begin(self.key, record, self._beginning, now=self.now)
                if isinstance(begun, Begun) and await self.key.record(begun.run_id, Succeeded(result)):
                    return self._executed(result)
                return encode_referral(self._wait())
            case Absent():
                return self._executed(result)  # dropped by force: it happened all the same
            case Executing() | Held() | Settled():
                # Another call was sure that this one is gone, and executes.
                return encode_referral(self._wait())

    def _executed(self, result: Payload) -> Payload:
        return Answer(outcome=Succeeded(result), settled_at=self.now, how=How.EXECUTED).encode()

    def _wait(self, run_id: str | None = None) -> Wait:
        return Wait(asked_at=self.asked_at, run_id=run_id)

    @property
    def _ended_at(self) -> datetime | None:
        """Now, by the job's clock, where it matters."""
        return None if self.ttl is None else self._now

    @property
    def _now(self) -> datetime:
        return self.started_at + timedelta(seconds=time.monotonic() - self.began)

    @property
    def _key(self) -> str:
        return self.question.key

    @property
    def _beginning(self) -> Beginning:
        owner = self.owner
        return Beginning(
            question=self.question,
            call=f"{owner.workflow_id} {owner.run_id} {owner.activity_id}",
            caller=owner.workflow_id,
            task_queue=self.task_queue,
            ttl=self.ttl,
            owner=owner,
        )


@dataclass(frozen=True)
class _Acquired:
    """The key is held for this call."""

    begun: Begun
    alone: bool
    """Whether this attempt acquired it, so that no other attempt of the call can have begun before."""


def _own_answer(settled: Settled) -> Answer | None:
    """Return the outcome that another attempt of this call recorded."""
    outcome: Outcome = settled.outcome
    match outcome:
        case Succeeded() | Failed():
            return Answer(outcome=outcome, settled_at=settled.settled_at, how=How.EXECUTED)
        case Abandoned():
            return None
        case _ as never:
            assert_never(never)


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Do what has to be done after an effect, whatever interrupts the attempt meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
    return task.result()
