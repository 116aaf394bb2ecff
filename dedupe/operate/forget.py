"""Forget: drop what is recorded under a key, so that the next call executes."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio.client import Client
from temporalio.service import RPCError

from dedupe.errors import DedupeError, KeyChangedError, KeyExecutingError, KeyHeldError
from dedupe.key.owner import Alive, Gone, whereabouts
from dedupe.model.names import FORGOTTEN
from dedupe.model.record import Absent, Executing, Execution, Held, Settled
from dedupe.operate.view import KeyRecord, readable
from dedupe.record.handle import KeyHandle

_PATIENCE = timedelta(seconds=5)
_ROUNDS = 5
"""How often a key whose runs come and go is read again, until it is forgotten."""

Clock = Callable[[], Awaitable[datetime]]
"""Returns the server's time."""


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What became of one of many keys that were to be forgotten."""

    key: str
    """As it was given."""
    error: DedupeError | RPCError | None = None
    """Why it was not forgotten; None: it was, or there was nothing."""
    was_recorded: bool = False
    """Whether there was anything to drop."""


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """How a key is to be forgotten."""

    clock: Clock
    force: bool = False
    """Also while it is executing or held."""
    reason: str = ""
    """Recorded with the run that ends."""
    listed: KeyRecord | None = None
    """The record that is meant, as it was listed; None: whatever is there."""


async def forget(handle: KeyHandle, key: str, forgetting: Forgetting) -> bool:
    """Drop what is recorded under a key. Return whether there was anything.

    Raises:
        KeyChangedError: Something else is recorded than what was listed.
        KeyExecutingError: The key is executing, and that is not forced.
        KeyHeldError: The key is held, and that is not forced.
        UnreadableRecordError: It cannot be decoded.
        RPCError: The service could not be asked.
    """
    force, listed = forgetting.force, forgetting.listed
    for _ in range(_ROUNDS):
        now = await forgetting.clock()
        with readable(handle.key_id):
            record = await handle.read(now=now)
        if isinstance(record, Absent):
            return False
        if listed is not None and not _is_listed(record, listed):
            raise KeyChangedError(key=key)
        if not force and isinstance(record, Held):
            raise KeyHeldError(key=key, reason=record.unknown.why)
        if not force and not isinstance(record, Held) and await is_executing(handle.client, record, now=now):
            break
        if await _end(handle, record.execution, reason=forgetting.reason):
            return True
    raise KeyExecutingError(key=key)


async def is_executing(client: Client, record: Executing | Settled, *, now: datetime) -> bool:
    """Return whether an attempt may be under way, even if an earlier one has been recorded meanwhile.

    Raises:
        RPCError: The service could not be asked.
    """
    owner = record.execution.owner
    if owner is None:
        return isinstance(record, Executing)
    found = await whereabouts(client, owner, now=now)
    return isinstance(found, Alive) or (isinstance(record, Executing) and not isinstance(found, Gone))


async def _end(handle: KeyHandle, execution: Execution, *, reason: str) -> bool:
    """End the run that is a record. Return whether it was still the current one."""
    run_id = execution.run_id
    if not execution.is_open:  # on the time-skipping server: put a run that records nothing over it
        start = execution.start.model_copy(update={"owner": None, "plan": None})
        over = await handle.acquire(start, task_queue=await handle.task_queue(), again=True)
        if over is None:
            return False
        with suppress(TimeoutError):  # where a worker ends it, the server goes on skipping time
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                await handle.wait(over)
                return True
        run_id = over
    return await handle.end(
        run_id, details=FORGOTTEN, reason=f"forgotten: {reason}" if reason else "forgotten"
    )


def _is_listed(record: Executing | Held | Settled, listed: KeyRecord) -> bool:
    """Return whether a record is the one that was listed, and stands where it stood."""
    settled_at = record.settled_at if isinstance(record, Settled) else None
    return (record.execution.started_at, settled_at) == (listed.started_at, listed.settled_at)
