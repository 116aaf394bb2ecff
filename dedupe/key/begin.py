"""Begin: the next execution of a key, in place or delegated: it acquires the key, or replaces a run."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from temporalio.api.common.v1 import Payload
from temporalio.client import Client

from dedupe.key.owner import Alive, whereabouts
from dedupe.model.messages import Owner, Plan, Question, Start, UnknownOutcome
from dedupe.model.names import REPLACED
from dedupe.model.outcome import Abandoned
from dedupe.model.record import Absent, Execution, Settled, following
from dedupe.record.handle import KeyHandle


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """All that an execution begins with but its place in the key's life."""

    question: Question
    call: str
    """What names the call that executes, and no other."""
    caller: str
    """Workflow id of its job."""
    task_queue: str
    """Where the workflows of keys live."""
    ttl: timedelta | None = None
    owner: Owner | None = None
    plan: Plan | None = None
    arguments: Payload | None = None
    closes_when_settled: bool = False

    def start(self, record: Absent | Settled, *, now: datetime) -> Start:
        """Return the input of the run that follows `record`."""
        succession = following(record, key_id=self.question.key_id, call=self.call)
        return Start(
            key=self.question.key,
            activity=self.question.activity,
            generation=succession.generation,
            idempotency_key=succession.idempotency_key,
            fingerprint=self.question.fingerprint,
            ttl=self.ttl,
            caller=self.caller,
            call=self.call if self.owner is None else "",
            traceparent=self.question.traceparent,
            owner=self.owner,
            plan=self.plan,
            hold=self.question.hold,
            unknown=_unknown(record, now=now),
            # The time-skipping server knows no search attributes.
            searchable=self.question.searchable and not self.closes_when_settled,
            closes_when_settled=self.closes_when_settled,
        )


@dataclass(frozen=True, kw_only=True)
class Begun:
    """An execution that the call has begun."""

    run_id: str
    start: Start


@dataclass(frozen=True)
class UnderWay:
    """Another call still has an attempt of the last execution under way: come back later."""


async def begin(
    key: KeyHandle, record: Absent | Settled, beginning: Beginning, *, now: datetime
) -> Begun | UnderWay | None:
    """Begin an execution after `record`.

    Returns:
        The execution; or that the last one is not over; None where another call was faster.

    Raises:
        RPCError: The service did not take a request.
    """
    if await is_under_way(key.client, record, beginning.owner, now=now):
        return UnderWay()
    match record:
        case Settled(execution=last) | Absent(expired=Execution() as last) if last.is_open:
            await key.end(last.run_id, details=REPLACED, reason="replaced by the next execution")
        case Absent() | Settled():
            pass
    start = beginning.start(record, now=now)
    again = isinstance(record, Settled) or record.last_run is not None
    run_id = await key.acquire(
        start, task_queue=beginning.task_queue, arguments=beginning.arguments, again=again
    )
    return None if run_id is None else Begun(run_id=run_id, start=start)


def _unknown(record: Absent | Settled, *, now: datetime) -> UnknownOutcome | None:
    """Return why nothing is executed after `record`: the run before was to be held, and somebody ended it."""
    if not (isinstance(record, Absent) and record.before is not None and record.before.start.hold):
        return None
    return UnknownOutcome(why="its workflow was ended from outside, and may have had its effect", over_at=now)


async def is_under_way(
    client: Client, record: Absent | Settled, asking: Owner | None, *, now: datetime
) -> bool:
    """Return whether another call than `asking` may have an attempt under way that `record` does not show.

    A record may be that of a late attempt, while the next one executes; and a run may have been ended from
    outside, while its effect goes on.

    Raises:
        RPCError: The service could not be asked.
    """
    last = _last(record)
    owner = None if last is None else last.owner
    if owner is None or (asking is not None and owner.is_same_call(asking)):
        return False
    return isinstance(await whereabouts(client, owner, now=now), Alive)


def _last(record: Absent | Settled) -> Execution | None:
    """Return the execution before the next one; None where there is none, or nothing is left of it."""
    match record:
        case Settled(outcome=Abandoned()):
            return None
        case Settled(execution=last):
            return last
        case Absent(before=before, expired=expired):
            return before or expired
        case _ as never:
            assert_never(never)
