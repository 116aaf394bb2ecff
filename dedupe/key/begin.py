"""Begin: the next execution of a key, in place or delegated: it acquires the key, or replaces a run."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio.api.common.v1 import Payload

from dedupe.key.owner import Alive, whereabouts
from dedupe.model.messages import REPLACED, Owner, Plan, Question, Start
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

    def start(self, record: Absent | Settled) -> Start:
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
            owner=self.owner,
            plan=self.plan,
            closes_when_settled=self.closes_when_settled,
        )


@dataclass(frozen=True, kw_only=True)
class Begun:
    """An execution that the call has begun."""

    run_id: str
    start: Start


async def begin(
    key: KeyHandle, record: Absent | Settled, beginning: Beginning, *, now: datetime
) -> Begun | None:
    """Begin an execution after `record`.

    Returns:
        The execution; None where another call was faster, or an attempt of the last one is not over yet.

    Raises:
        RPCError: The service did not take a request.
    """
    match record:
        case Settled(execution=last) | Absent(expired=Execution() as last):
            if await _is_under_way(key, last, beginning, now=now):
                return None
            if last.is_open:
                await key.end(last.run_id, details=REPLACED, reason="replaced by the next execution")
        case Absent():
            pass
    start = beginning.start(record)
    again = isinstance(record, Settled) or record.any_run
    run_id = await key.acquire(
        start, task_queue=beginning.task_queue, arguments=beginning.arguments, again=again
    )
    return None if run_id is None else Begun(run_id=run_id, start=start)


async def _is_under_way(key: KeyHandle, last: Execution, beginning: Beginning, *, now: datetime) -> bool:
    """Return whether another attempt of a settled execution is not over: a late one has recorded first."""
    owner = last.owner
    if owner is None or (beginning.owner is not None and owner.is_same_call(beginning.owner)):
        return False
    return isinstance(await whereabouts(key.client, owner, now=now), Alive)
