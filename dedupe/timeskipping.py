"""The time-skipping test server, and the three ways in which it differs.

It does not skip time while an activity is open, and cannot complete one by id during its back-off: here a
claim waits by failing with a retry delay, and nobody tells it. It leaps ten years once the awaited workflow
has closed, which times out every open one: here the key's workflow closes as soon as it has settled, and its
closed run is the record. So a TTL is judged by server time stamps.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import assert_never
from weakref import WeakKeyDictionary

from google.protobuf.empty_pb2 import Empty
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from dedupe.claim import Claim, start_key, waiting
from dedupe.decision import Execute, Record, Refuse, Settled, Unknown, Wait
from dedupe.messages import Start
from dedupe.outcome import Answer, Failed

_NO_TEST_SERVICE = {
    RPCStatusCode.UNIMPLEMENTED,
    # What gateways in front of a service say of a call they do not know.
    RPCStatusCode.NOT_FOUND,
    RPCStatusCode.PERMISSION_DENIED,
    RPCStatusCode.UNKNOWN,
}
_FIRST_DELAY = timedelta(milliseconds=10)


async def is_time_skipping(client: Client) -> bool:
    """Return whether the client's server skips time.

    Raises:
        RPCError: The server could not be asked.
    """
    try:
        await client.test_service.get_current_time(Empty(), retry=True)
    except RPCError as error:
        if error.status in _NO_TEST_SERVICE:
            return False
        raise
    return True


async def server_time(client: Client) -> datetime:
    """Return the time-skipping server's own time."""
    response = await client.test_service.get_current_time(Empty(), retry=True)
    return response.time.ToDatetime(tzinfo=UTC)


def unless_expired(record: Record, *, now: datetime) -> Record:
    """Return the record if it is still held at `now`."""
    match record:
        case Settled(expires_at=expires_at) if expires_at is not None and expires_at <= now:
            return Unknown()
        case _:
            return record


# Nothing else keeps two claims of a process, whichever plugin and worker they came by, from both starting a
# key over the same closed run.
_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def claim_with_time_skipped(claim: Claim, *, task_queue: str) -> Payload:
    """Return the encoded answer; what `Claims.claim` is on any other server.

    Raises:
        DedupeError: The call cannot be carried out. Never retried.
        ApplicationError: Of type `WAITING`: come back later.
    """
    now = activity.info().current_attempt_scheduled_time
    async with _TURNS.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        record = unless_expired(await claim.read(), now=now)
        match claim.decide(record):
            case Answer() as answer:
                return answer.encode()
            case Refuse(error):
                raise error
            case Execute():
                await _start(claim, record, now=now, task_queue=task_queue)
            case Wait():
                pass
            case _ as never:
                assert_never(never)
    raise waiting(claim.question.key, delay=max(_FIRST_DELAY, (now - claim.asked_at) / 4))


async def _start(claim: Claim, record: Record, *, now: datetime, task_queue: str) -> None:
    """Start the key's workflow, over a closed run only if that is not a record for this claim."""
    if isinstance(record, Unknown) and await start_key(
        claim,
        _next_start(claim, record),
        task_queue=task_queue,
        reuse=WorkflowIDReusePolicy.REJECT_DUPLICATE,
    ):
        return
    record = unless_expired(await claim.read(), now=now)
    if isinstance(claim.decide(record), Execute):
        await start_key(claim, _next_start(claim, record), task_queue=task_queue)


def _next_start(claim: Claim, record: Record) -> Start:
    """Return the input for the run that follows `record`."""
    match record:
        case Settled(execution=execution, outcome=outcome):
            idempotency_key = (
                None if isinstance(outcome, Failed) and outcome.is_definite else execution.idempotency_key
            )
            start = claim.start(idempotency_key=idempotency_key)
            generation = execution.generation + 1
        case Unknown(idempotency_key=idempotency_key):
            start = claim.start(idempotency_key=idempotency_key)
            generation = 1
        case _:
            start = claim.start(idempotency_key=None)
            generation = 1
    return start.model_copy(update={"generation": generation, "waiters": (), "closes_when_settled": True})
