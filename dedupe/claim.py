"""The claim: a job's round trip to the key's workflow, where the peek did not answer.

It starts the key's workflow (conflict policy FAIL: acquire, or learn that it is held), or joins the one that
holds the key, and stays open, holding no slot, until that workflow completes it. A claim that is never told
comes back after its wait slice, reads the record and answers itself. Invariant: whatever a claim believes,
only the key's workflow begins an execution.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError, RPCStatusCode

from dedupe.decision import Decision, Execute, Executing, Record, Refuse, Settled, Unknown, Wait, decide
from dedupe.errors import DedupeError, InvalidCallError, UnreadableRecordError
from dedupe.key_handle import KeyHandle, Signalled
from dedupe.messages import (
    WAITING,
    Attach,
    Plan,
    Question,
    Rerun,
    Sighting,
    Start,
    Waiter,
)
from dedupe.outcome import Answer

_ROUNDS = 10
"""How often a claim looks again at a key whose runs come and go, before it backs off."""
_PATIENCE = 10
"""Attempts, about a minute of them, until a record that cannot be decoded is an error."""
_LAST_LOOKS = 5
"""Looks at it that the last attempt takes; those before may have waited only, with nothing wrong."""
_LOOK_AGAIN = timedelta(seconds=3)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim: what was asked, and who asks."""

    key: KeyHandle
    question: Question
    plan: Plan
    arguments: Payload
    waiter: Waiter
    asked_at: datetime
    """Server time at which the claim was first scheduled."""
    attempt: int
    elapsed: timedelta
    """From the first attempt to this one."""
    slice: timedelta
    """How long an attempt may take."""

    @classmethod
    def of(cls, question: Question, plan: Plan, arguments: Payload) -> "Claim":
        """Return the claim that the running activity is."""
        info = activity.info()
        return cls(
            key=KeyHandle(client=activity.client(), key_id=question.key_id),
            question=question,
            plan=plan,
            arguments=arguments,
            waiter=Waiter(
                workflow_id=info.workflow_id or "",
                run_id=info.workflow_run_id or "",
                activity_id=info.activity_id,
                workflow_type=info.workflow_type or "",
                task_queue=info.task_queue,
            ),
            asked_at=info.scheduled_time,
            attempt=info.attempt,
            elapsed=info.current_attempt_scheduled_time - info.scheduled_time,
            slice=info.start_to_close_timeout or _LOOK_AGAIN,
        )

    @property
    def early_returns(self) -> int:
        """How many attempts, about, ended before their slice was over: mostly since they were told to."""
        return max(self.attempt - 1 - self.elapsed // self.slice, 0)

    async def read(self) -> Record:
        """Return the key's record.

        Raises:
            UnreadableRecordError: It could not be decoded, attempt after attempt.
        """
        looks = 0
        while True:
            looks += 1
            try:
                return await self.key.read(with_fingerprint=self.question.fingerprint is not None)
            except (RPCError, DedupeError):
                raise
            except Exception as error:
                if self.attempt < _PATIENCE:
                    raise
                if looks == _LAST_LOOKS:
                    raise UnreadableRecordError(key=self.question.key, reason=type(error).__name__) from error
            await asyncio.sleep(min(_LOOK_AGAIN, self.slice / 10).total_seconds())

    def decide(self, record: Record) -> Decision:
        """Return what this claim gets from `record`."""
        return decide(self.question, asked_at=self.asked_at, record=record)

    def start(self, *, idempotency_key: str | None) -> Start:
        """Return the input of the key's workflow, if this claim is to start it."""
        return Start(
            key=self.question.key,
            activity=self.question.activity,
            plan=self.plan,
            caller=self.waiter.workflow_id,
            waiters=(self.waiter,),
            idempotency_key=idempotency_key,
        )


@dataclass(frozen=True, kw_only=True)
class Claims:
    """How claims are made on every server but the time-skipping one."""

    task_queue: str
    """Where the workflows of the keys live."""

    async def claim(self, claim: Claim, sighting: Sighting) -> Payload:
        """Return the encoded answer, or leave the activity open to be completed with it.

        Raises:
            DedupeError: The call cannot be carried out. Never retried.
            ApplicationError: Of type `WAITING`: nobody can tell this claim, so it comes back by itself.
        """
        if claim.attempt == 1 and await self._take_at_sight(claim, sighting):
            activity.raise_complete_async()
        for _ in range(_ROUNDS):
            record = await claim.read()
            match claim.decide(record):
                case Answer() as answer:
                    return answer.encode()
                case Refuse(error):
                    raise error
                case Wait() | Execute():
                    if await self._join(claim, record):
                        activity.raise_complete_async()
                case _ as never:
                    assert_never(never)
        raise waiting(claim.question.key)

    async def _take_at_sight(self, claim: Claim, sighting: Sighting) -> bool:
        """Act on what the peek saw, without another look. Return whether the claim is now waiting.

        The peek may be old by now. What has been executed since, and cut off, shows in a closed run.
        """
        if sighting.unknown:
            return await self._start(
                claim, idempotency_key=None, reuse=WorkflowIDReusePolicy.REJECT_DUPLICATE
            )
        return sighting.executing and await self._attach(claim, turn=sighting.turn)

    async def _join(self, claim: Claim, record: Record) -> bool:
        """Make the key's workflow answer this claim. Return False where its run has just been closed."""
        match record:
            case Unknown(idempotency_key=idempotency_key):
                return await self._start(claim, idempotency_key=idempotency_key)
            case Executing(execution=execution):
                return await self._attach(claim, turn=execution.turn)
            case Settled(execution=execution):
                rerun = Rerun(
                    generation=execution.generation,
                    idempotency_key=execution.idempotency_key,
                    plan=claim.plan,
                    caller=claim.waiter.workflow_id,
                )
                if not _taken(await claim.key.rerun(rerun, claim.arguments, attempt=claim.attempt), claim):
                    return False
                following = replace(execution, generation=execution.generation + 1)
                return await self._attach(claim, turn=following.turn)
            case _ as never:
                assert_never(never)

    async def _start(
        self,
        claim: Claim,
        *,
        idempotency_key: str | None,
        reuse: WorkflowIDReusePolicy = WorkflowIDReusePolicy.ALLOW_DUPLICATE,
    ) -> bool:
        start = claim.start(idempotency_key=idempotency_key)
        if await start_key(claim, start, task_queue=self.task_queue, reuse=reuse):
            return True
        return await self._attach(claim, turn="at start")

    async def _attach(self, claim: Claim, *, turn: str) -> bool:
        attach = Attach(question=claim.question.within_key(), waiter=claim.waiter, asked_at=claim.asked_at)
        return _taken(await claim.key.attach(attach, turn=f"{turn}/{claim.early_returns}"), claim)


async def start_key(
    claim: Claim,
    start: Start,
    *,
    task_queue: str,
    reuse: WorkflowIDReusePolicy = WorkflowIDReusePolicy.ALLOW_DUPLICATE,
) -> bool:
    """Acquire the key. Return whether this claim did; if not, somebody holds it.

    Raises:
        InvalidCallError: The service will never take the request, mostly because the arguments are too large.
    """
    try:
        return await claim.key.start(start, claim.arguments, task_queue=task_queue, reuse=reuse)
    except RPCError as error:
        if error.status != RPCStatusCode.INVALID_ARGUMENT:
            raise
        raise InvalidCallError(
            activity=claim.question.activity, key=claim.question.key, reason=error.message
        ) from error


def waiting(key: str, *, delay: timedelta | None = None) -> ApplicationError:
    """Return the benign error that makes a claim come back after `delay`, in time for its own deadline."""
    info = activity.info()
    delay = min(timedelta(seconds=info.attempt), timedelta(minutes=1)) if delay is None else delay
    if info.schedule_to_close_timeout is not None:
        elapsed = info.current_attempt_scheduled_time - info.scheduled_time
        remaining = info.schedule_to_close_timeout - elapsed - timedelta(milliseconds=20)
        if remaining > timedelta(milliseconds=20):
            delay = min(delay, remaining)
    return ApplicationError(
        f"waiting for deduplication key {key!r}",
        type=WAITING,
        next_retry_delay=delay,
        category=ApplicationErrorCategory.BENIGN,
    )


def _taken(signalled: Signalled, claim: Claim) -> bool:
    """Return whether the signal will be seen to.

    Raises:
        ApplicationError: Of type `WAITING`: the run takes no more signals.
    """
    if signalled is Signalled.REFUSED:
        raise waiting(claim.question.key)
    return signalled is Signalled.TAKEN
