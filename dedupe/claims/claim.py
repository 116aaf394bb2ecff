"""The claim: an activity that waits for a key, and reads until there is an answer for its job.

It holds nothing, and nobody has to notify it. While few wait in its worker it follows the history of the run
that executes, and answers the moment an outcome is recorded; beyond that it comes back by itself, ever less
often. It asks what became of the call that executes, and takes the place of one that is gone.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError, RPCStatusCode

from dedupe.claims.crowd import Crowd
from dedupe.claims.timeskipping import turn
from dedupe.errors import DedupeError, InvalidCallError, UnreadableRecordError
from dedupe.execution.sticky import unstick
from dedupe.key.attempts import Story
from dedupe.key.begin import Beginning, UnderWay, begin, is_under_way
from dedupe.key.owner import Alive, Ended, Gone, Missing, Unclear
from dedupe.key.unknown import record_or_hold
from dedupe.model.answer import Answer, How
from dedupe.model.decision import Begin, Hold, Refuse, Share, decide
from dedupe.model.messages import Claim, Execute, Reconcile, Wait, earliest
from dedupe.model.names import WAITING
from dedupe.model.outcome import Abandoned
from dedupe.model.payloads import encode_referral
from dedupe.model.record import (
    MARGIN,
    Absent,
    Closed,
    Execution,
    Held,
    Record,
    Run,
    Settled,
    Unknown,
    record_of,
)
from dedupe.record.handle import KeyHandle

_ROUNDS = 10
"""How often an attempt reads a key whose runs come and go, before it backs off."""
_PATIENCE = 10
"""Attempts, about a minute of them, until a record that cannot be decoded is an error."""
_TELL_AFTER = timedelta(seconds=5)
"""Of waiting, from when on a call says what it waits for."""
_FIRST_DELAY = timedelta(seconds=1)
_FIRST_DELAY_WITH_TIME_SKIPPED = timedelta(milliseconds=10)
_AGAIN = timedelta(milliseconds=100)
_ASK_AFTER = timedelta(seconds=2)
"""How long an execution is under way before it is asked what became of its owner."""
_PART_FOLLOWED = 0.8
"""Of a wait slice: an attempt has to end by itself."""
_LEG = timedelta(seconds=10)
"""How long a history is followed before it is asked again what became of the owner."""


async def carry_out(claim: Claim, arguments: Payload, *, crowd: Crowd) -> Payload:
    """Return the answer, or that the call is to execute.

    Args:
        claim: What the job's call wants.
        arguments: The packed arguments of what is delegated.
        crowd: The claims of this worker.

    Raises:
        DedupeError: The call cannot be carried out. Never retried.
        ApplicationError: Of type `WAITING`: come back later.
    """
    info = activity.info()
    came_back = crowd.came_back(info)
    try:
        async with turn(skips_time=crowd.skips_time):
            answer = await _Attempt(crowd, claim, arguments, info).answer()
    except ApplicationError as error:
        if error.type == WAITING:
            crowd.send_back(info)
        raise
    if info.attempt > 1 and not came_back:
        await unstick(crowd.client, info)
    return answer


class _Attempt:
    def __init__(self, crowd: Crowd, claim: Claim, arguments: Payload, info: activity.Info) -> None:
        self.crowd = crowd
        self.claim = claim
        self.arguments = arguments
        self.info = info
        self.key = KeyHandle(client=crowd.client, key_id=claim.question.key_id)
        self.asked_at = earliest(claim.asked_at, info.scheduled_time)
        self.story, self.missing_since = _remembered(info.heartbeat_details)
        self.unknown: Unknown | None = None
        self._began = time.monotonic()

    @property
    def now(self) -> datetime:
        """Server time, about."""
        return self.info.current_attempt_scheduled_time + self._elapsed

    @property
    def _call(self) -> str:
        """What names this call, and no other."""
        return f"{self.info.workflow_id} {self.info.workflow_run_id} {self.info.activity_id}"

    @property
    def _elapsed(self) -> timedelta:
        return timedelta(seconds=time.monotonic() - self._began)

    async def answer(self) -> Payload:
        """Read until there is an answer, or it is better to come back later."""
        for _ in range(_ROUNDS):
            record = await self._read()
            decision = decide(
                self.claim.question, record, asked_at=self.asked_at, waited_for=self.claim.waited_for
            )
            match decision:
                case Answer():
                    mine = isinstance(record, Settled) and record.execution.start.call == self._call
                    return (replace(decision, how=How.EXECUTED, executor=None) if mine else decision).encode()
                case Refuse(error):
                    raise error
                case Share(execution):
                    await self._wait(execution)
                case Hold(held):
                    self.unknown = held.unknown
                    if self._may_reconcile(held):
                        return encode_referral(self._reconcile(held.execution))
                    await self._wait_for(held.execution, held.unknown)
                case Begin():
                    if (answer := await self._begin(decision)) is not None:
                        return answer
                case _ as never:
                    assert_never(never)
        raise self._waiting(_AGAIN)

    async def _read(self) -> Record:
        """Return what this call has to know: the run that it waited for, if that has ended, or the current
        one.

        Raises:
            UnreadableRecordError: It could not be decoded, attempt after attempt.
        """
        try:
            record = await self.key.read(now=self.now)
            waited_for = self.claim.waited_for
            if waited_for is not None and _run_of(record) != waited_for:
                run = await self.key.run(waited_for)
                if run is not None and _has_answer(run):
                    return record_of(run, now=run.execution.started_at)
        except (RPCError, DedupeError):
            raise
        except Exception as error:
            if self.info.attempt < _PATIENCE:
                raise
            raise UnreadableRecordError(key=self.claim.question.key, reason=type(error).__name__) from error
        return record

    async def _begin(self, decision: Begin) -> Payload | None:
        """Let the job execute, or begin a delegated execution, for which this claim then waits."""
        if self.claim.plan is None:
            if await is_under_way(self.crowd.client, decision.record, None, now=self.now):
                raise self._waiting(_FIRST_DELAY)
            return encode_referral(
                Execute(asked_at=self.asked_at, waited_for=self.claim.waited_for)
                if self.claim.question.activity in self.crowd.in_place
                else Wait(asked_at=self.asked_at, run_id=self.claim.waited_for, delegated=True)
            )
        info = self.info
        beginning = Beginning(
            question=self.claim.question,
            call=self._call,
            caller=info.workflow_id or "",
            task_queue=self.crowd.task_queue,
            ttl=self.claim.ttl,
            plan=self.claim.plan,
            arguments=self.arguments,
            closes_when_settled=self.crowd.skips_time,
        )
        try:
            begun = await begin(self.key, decision.record, beginning, now=self.now)
        except RPCError as error:
            if error.status != RPCStatusCode.INVALID_ARGUMENT:
                raise
            # The service will never take the request, most likely because the arguments are too large.
            raise InvalidCallError(
                activity=self.claim.question.activity, key=self.claim.question.key, reason=error.message
            ) from error
        if isinstance(begun, UnderWay):
            raise self._waiting(_FIRST_DELAY)
        if begun is not None:
            execution = Execution(run_id=begun.run_id, start=begun.start, started_at=self.now)
            if begun.start.unknown is None:
                await self._wait_for(execution)
        return None

    async def _wait(self, execution: Execution) -> None:
        """Wait for the end of somebody's execution; see to it if nobody's is left."""
        owner = execution.owner
        if owner is not None and self.now - execution.started_at >= _ASK_AFTER:
            match await self.crowd.whereabouts(execution, owner, now=self.now):
                case Alive() | Unclear():
                    pass
                case Ended(outcome):
                    await record_or_hold(self.key, execution, outcome, now=self.now)
                    return
                case Gone(begun) if begun and begun == execution.answered:
                    await self.key.record(execution.run_id, Abandoned())
                    return
                case Gone():
                    await record_or_hold(self.key, execution, Abandoned(), now=self.now)
                    return
                case Missing() if self._has_been_missing_for(execution):
                    await record_or_hold(self.key, execution, Abandoned(), now=self.now)
                    return
                case Missing():
                    raise self._waiting(_FIRST_DELAY)
                case _ as never:
                    assert_never(never)
        await self._wait_for(execution)

    def _may_reconcile(self, held: Held) -> bool:
        """Return whether the job is to ask now what became of a held execution.

        Raises:
            ApplicationError: Of type `WAITING`: it is to ask later.
        """
        if not self.claim.question.reconciles:
            return False
        due = max(held.unknown.over_at, self.claim.reconcile_at or held.unknown.over_at)
        if due <= self.now:
            return True
        self.story = _story_of(held.unknown).words
        raise self._waiting(at_most=due - self.now)

    def _reconcile(self, execution: Execution) -> Reconcile:
        return Reconcile(
            asked_at=self.asked_at,
            run_id=execution.run_id,
            idempotency_key=execution.start.idempotency_key,
            generation=execution.start.generation,
        )

    async def _wait_for(self, execution: Execution, unknown: Unknown | None = None) -> None:
        """Follow a run for a while, or to its end, if there is room. The call shares that end.

        Args:
            execution: Of the run.
            unknown: Why it is held; None: it is not.

        Raises:
            ApplicationError: Of type `WAITING`: there is no room, or no time left.
        """
        self.claim = self.claim.model_copy(update={"waited_for": execution.run_id})
        async with self.crowd.slot() as is_free:
            if not is_free or await self._follow(execution, unknown):
                if self.now - self.info.scheduled_time >= _TELL_AFTER:
                    await self._tell(execution, unknown)
                raise self._waiting()

    async def _tell(self, execution: Execution, unknown: Unknown | None) -> None:
        """Find out what this call is waiting for, and have it shown with the pending activity."""
        if unknown is not None:
            story = _story_of(unknown)
        else:
            story = await self.crowd.story(execution, key_id=self.key.key_id, now=self.now)
        if story.is_stuck and self.story != story.words:
            activity.logger.warning("waiting for deduplication key %r: %s", self.key.key_id, story.words)
        self.story = story.words

    async def _follow(self, execution: Execution, unknown: Unknown | None) -> bool:
        """Return whether this attempt is to end before the run does."""
        remaining = _PART_FOLLOWED * (self.info.start_to_close_timeout or _LEG) - self._elapsed
        known = 0 if unknown is None else unknown.event_id
        end = asyncio.ensure_future(self.key.wait(execution.run_id, after=known))
        stopping = asyncio.ensure_future(activity.wait_for_worker_shutdown())
        beating = asyncio.ensure_future(self._beat(execution, unknown))
        try:
            await asyncio.wait(
                {end, stopping},
                timeout=min(_LEG, remaining).total_seconds(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if end.done():
                end.result()
                return False
            return stopping.done() or remaining <= _LEG
        finally:
            for task in (end, stopping, beating):
                task.cancel()

    async def _beat(self, execution: Execution, unknown: Unknown | None) -> None:
        """Tell the service that this attempt is alive, so that another worker goes on if this one dies."""
        while self.info.heartbeat_timeout is not None:
            if self.now - self.info.scheduled_time >= _TELL_AFTER:
                await self._tell(execution, unknown)
            self._heartbeat()
            await asyncio.sleep(self.info.heartbeat_timeout.total_seconds() / 3)

    def _has_been_missing_for(self, execution: Execution) -> bool:
        """Return whether a job that the service has forgotten can have no attempt under way any more.

        When that was first seen is kept in the heartbeat details, from attempt to attempt.
        """
        if self.missing_since is None:
            self.missing_since = self.now
            self._heartbeat()
            return False
        since = self.missing_since
        longest = execution.owner.longest_attempt if execution.owner is not None else None
        return since + (longest or timedelta(0)) + MARGIN <= self.now

    def _heartbeat(self) -> None:
        activity.heartbeat(self.story, None if self.missing_since is None else self.missing_since.isoformat())

    def _waiting(
        self, delay: timedelta | None = None, *, at_most: timedelta = timedelta.max
    ) -> ApplicationError:
        """Return the benign error that makes this claim come back, in time for its own deadline."""
        info = self.info
        elapsed = self.now - info.scheduled_time
        if delay is None:
            first = _FIRST_DELAY_WITH_TIME_SKIPPED if self.crowd.skips_time else _FIRST_DELAY
            longest = info.start_to_close_timeout or _FIRST_DELAY
            delay = max(first, elapsed / 4)
            if not self.crowd.skips_time:
                delay = self.crowd.spaced(self.key.key_id, min(delay, longest))
        delay = min(delay, at_most)
        if info.schedule_to_close_timeout is not None:
            remaining = info.schedule_to_close_timeout - elapsed - timedelta(milliseconds=20)
            if remaining > timedelta(milliseconds=20):
                delay = min(delay, remaining)
        return ApplicationError(
            f"waiting for deduplication key {self.claim.question.key!r}{self.story and ': '}{self.story}",
            *([] if self.unknown is None else [self.unknown.why]),
            type=WAITING,
            next_retry_delay=delay,
            category=ApplicationErrorCategory.BENIGN,
        )


def _remembered(details: Sequence[Any]) -> tuple[str, datetime | None]:
    """Return what an earlier attempt knew: the story, and since when the job that executes is missing."""
    story, since = [*details, None, None][:2]
    return str(story or ""), None if since is None else datetime.fromisoformat(str(since)).astimezone(UTC)


def _story_of(unknown: Unknown) -> Story:
    """Return what those who wait for a held execution are waiting for."""
    words = (
        f"it is held since {unknown.since:%Y-%m-%d %H:%M:%S} UTC, as nobody knows whether its effect "
        f"happened ({unknown.why}); resolve it"
    )
    return Story(words=words, is_stuck=True)


def _run_of(record: Record) -> str | None:
    return None if isinstance(record, Absent) else record.execution.run_id


def _has_answer(run: Run) -> bool:
    """Return whether a run that was replaced since had ended before."""
    return (
        run.end is not None
        and not isinstance(run.end.outcome, Abandoned)
        and run.closed is not Closed.OUTSIDE
    )
