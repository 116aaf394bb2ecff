"""Keys from outside: what is recorded, and how to drop it. For operators and tests.

All of it is between the caller and the service: no worker has to run.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from temporalio.client import Client
from temporalio.service import RPCError

from dedupe.errors import (
    DedupeError,
    InvalidDeduplicationKeyError,
    KeyChangedError,
    KeyExecutingError,
    KeyHeldError,
    KeyNotResolvedError,
    KeyNotRetriedError,
)
from dedupe.key.attempts import attempts_of
from dedupe.key.owner import Alive, Gone, whereabouts
from dedupe.model.findings import DidNotHappen, Happened, encode_finding
from dedupe.model.keys import SHORTENED_HEAD, Keyspace, Scope, ScopedKey, prefix_of
from dedupe.model.messages import Resolution
from dedupe.model.names import DELEGATED, FORGOTTEN, IN_PLACE
from dedupe.model.outcome import Failed, Succeeded, decode_outcome
from dedupe.model.record import Absent, Executing, Execution, Held, Settled
from dedupe.operate.listing import AT_ONCE, Filter, closed_runs, in_order, key_ids
from dedupe.operate.retry import recorded_call, require_failed, start_again
from dedupe.operate.view import KeyRecord, KeyState, readable, view, view_of_earlier
from dedupe.record.handle import KeyHandle, OutcomeTooLargeError
from dedupe.record.search import ACTIVITY, LONGEST, STATE, SearchState
from dedupe.record.timeskipping import is_time_skipping, server_time

_PATIENCE = timedelta(seconds=5)
_ROUNDS = 5
"""How often a key whose runs come and go is read again, until it is forgotten."""


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What became of one of many keys that were to be forgotten."""

    key: str
    """As it was given."""
    error: DedupeError | RPCError | None = None
    """Why it was not forgotten; None: it was, or there was nothing."""
    was_recorded: bool = False
    """Whether there was anything to drop."""


class DedupeKeys:
    """The keys of one project in the client's namespace."""

    EXCLUDED: ClassVar[str] = f"WorkflowType != '{IN_PLACE}' AND WorkflowType != '{DELEGATED}'"
    """Part of a visibility query that leaves all keys out: a batch that terminates what is running would drop
    their records otherwise, and the next calls would execute again."""

    def __init__(
        self,
        client: Client,
        *,
        organization: str,
        project: str,
        key_secret: bytes | str | None = None,
        search_attributes: bool = False,
    ) -> None:
        """Look at keys; the settings are those of the project's `DedupePlugin`.

        Raises:
            InvalidKeyspaceError: Organization, project or secret is empty.
        """
        self._client = client
        self._keyspace = Keyspace(
            organization=organization,
            project=project,
            key_secret=key_secret.encode() if isinstance(key_secret, str) else key_secret,
        )
        self._search_attributes = search_attributes
        self._skips_time: bool | None = None

    async def get(
        self, key: str, *, scope: Scope = Scope.PROJECT, job: str | None = None
    ) -> KeyRecord | None:
        """Return what is recorded under a key; None where nothing is.

        Args:
            key: The key as calls give it.
            scope: The scope as calls give it.
            job: The workflow type, for `Scope.JOB`.

        Raises:
            InvalidDeduplicationKeyError: It is not a valid key.
            UnreadableRecordError: The client cannot decode it, or something else has taken the workflow id.
            RPCError: The service could not be asked.
        """
        return await self._get(self.workflow_id(key, scope=scope, job=job), attempts=True)

    def workflow_id(self, key: str, *, scope: Scope = Scope.PROJECT, job: str | None = None) -> str:
        """Return the id of a key's workflow, whether there is one or not.

        Takes what `get` takes.

        Raises:
            InvalidDeduplicationKeyError: It is not a valid key.
        """
        return self._keyspace.scoped(key, scope=scope, job=job).format()

    async def has_any(self, *, scope: Scope = Scope.PROJECT, job: str | None = None) -> bool:
        """Return whether there is, or was, any key of one scope, by the service's visibility.

        Raises:
            RPCError: The service could not be asked.
        """
        ids = prefix_of(scope, self._keyspace.owner(scope, job=job), key_prefix="")
        wanted = Filter(prefix=ids[:SHORTENED_HEAD], or_closed=True)
        async for _ in key_ids(self._client, wanted, page_size=1):
            return True
        return False

    async def list(
        self,
        *,
        prefix: str = "",
        scope: Scope = Scope.PROJECT,
        job: str | None = None,
        state: KeyState | None = None,
        activity: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        query: str | None = None,
    ) -> AsyncIterator[KeyRecord]:
        """Yield the records of one scope.

        They come from the service's visibility, which may lag behind. Each costs a request, many of which are
        under way at once. With search attributes the service itself finds those of an activity, and those
        that failed or are held, if they were begun since their project's plugins have `search_attributes`.

        Args:
            prefix: What their keys begin with.
            scope: The scope as calls give it.
            job: The workflow type, for `Scope.JOB`.
            state: Where they stand.
            activity: The activity they stand for.
            since: When their executions were begun, at the earliest.
            until: When their executions were begun, at the latest.
            query: What their workflows have to match as well, as the service's visibility takes it.

        Raises:
            InvalidDeduplicationKeyError: A prefix was given where the project hides its keys.
            UnreadableRecordError: The client cannot decode one of them.
            ValueError: It is the time-skipping server, which takes no query.
            RPCError: The service could not be asked, or does not take the query.
        """
        if prefix and self._keyspace.key_secret is not None:
            raise InvalidDeduplicationKeyError(
                reason="with a key_secret keys have no prefixes. List them all"
            )
        owner = self._keyspace.owner(scope, job=job)
        head = prefix_of(scope, owner, key_prefix=prefix)[:SHORTENED_HEAD]
        attributes = _attributes(state=state, activity=activity) if self._search_attributes else {}
        wanted = Filter(prefix=head, since=since, until=until, attributes=attributes, matching=query)
        ids = key_ids(self._client, wanted)
        async for record in in_order(ids, self._get, at_once=AT_ONCE):
            if record is None or not record.key.startswith(prefix):
                continue
            if state not in {None, record.state} or activity not in {None, record.activity}:
                continue
            # The ids of others may begin alike, since long ones are cut; some stores take "a" for "A", too.
            if ScopedKey(scope=scope, owner=owner, key=record.key).format() == record.workflow_id:
                yield record

    async def earlier(
        self, key: str, *, scope: Scope = Scope.PROJECT, job: str | None = None
    ) -> AsyncIterator[KeyRecord]:
        """Yield what was recorded under a key before, the latest first: executed again, expired or forgotten.

        It comes from the service's visibility, as far back as the namespace retains what is closed; the
        time-skipping server has none. Takes what `get` takes.

        Raises:
            InvalidDeduplicationKeyError: It is not a valid key.
            UnreadableRecordError: The client cannot decode one of them.
            RPCError: The service could not be asked.
        """
        key_id = self.workflow_id(key, scope=scope, job=job)
        handle = KeyHandle(client=self._client, key_id=key_id)
        async for run_id in closed_runs(self._client, key_id=key_id):
            with readable(key_id):
                run = await handle.run(run_id, although_forgotten=True)
                if run is not None and run.closed is not None:
                    yield view_of_earlier(key_id, run, run.closed, converter=self._client.data_converter)

    async def forget(
        self,
        key: str,
        *,
        scope: Scope = Scope.PROJECT,
        job: str | None = None,
        force: bool = False,
        reason: str = "",
    ) -> bool:
        """Drop what is recorded under a key; the next call executes.

        Args:
            key: The key as calls give it.
            scope: The scope as calls give it.
            job: The workflow type, for `Scope.JOB`.
            force: Also while the key is executing or held. The activity is cancelled, but its effect may
                still happen, and those who wait execute again.
            reason: Recorded with the run that ends, beside the client's identity.

        Returns:
            Whether there was anything to drop.

        Raises:
            KeyExecutingError: The key is executing, and `force` is not set.
            KeyHeldError: The key is held, and `force` is not set.
            UnreadableRecordError: As in `get`.
            RPCError: The service could not be asked.
        """
        scoped = self._keyspace.scoped(key, scope=scope, job=job)
        return await self._drop(scoped.format(), scoped.key, force=force, reason=reason)

    async def _drop(
        self, key_id: str, key: str, *, force: bool, reason: str, listed: KeyRecord | None = None
    ) -> bool:
        """Drop what is recorded; only what was listed, where it was. Return whether there was anything."""
        handle = KeyHandle(client=self._client, key_id=key_id)
        for _ in range(_ROUNDS):
            with readable(key_id):
                record = await handle.read(now=await self._now())
            if isinstance(record, Absent):
                return False
            if listed is not None and not _is_listed(record, listed):
                raise KeyChangedError(key=key)
            if not force and isinstance(record, Held):
                raise KeyHeldError(key=key, reason=record.unknown.why)
            if not force and not isinstance(record, Held) and await self._is_executing(record):
                break
            if await self._forget(handle, record.execution, reason=reason):
                return True
        raise KeyExecutingError(key=key)

    async def resolve(
        self,
        key: str,
        finding: Happened[Any] | DidNotHappen,
        *,
        scope: Scope = Scope.PROJECT,
        job: str | None = None,
        force: bool = False,
        reason: str = "",
    ) -> None:
        """Say what became of a held key's execution. All calls that wait go on.

        Args:
            key: The key as calls give it.
            finding: `Happened(result)`: they all get this result. `DidNotHappen()`: one of them executes the
                activity, under the same idempotency key.
            scope: The scope as calls give it.
            job: The workflow type, for `Scope.JOB`.
            force: Also while the attempt that gave no answer may still be under way.
            reason: Recorded beside the client's identity.

        Raises:
            KeyNotResolvedError: It is not held, or its attempt may still be under way and `force` is not set;
                it has ended another way meanwhile, or the service does not take so large a result.
            UnreadableRecordError: As in `get`.
            RPCError: The service could not be asked.
            Exception: The client's payload converter does not take the result.
        """
        scoped = self._keyspace.scoped(key, scope=scope, job=job)
        handle = KeyHandle(client=self._client, key_id=scoped.format())
        now = await self._now()
        with readable(handle.key_id):
            record = await handle.read(now=now)
        if not isinstance(record, Held):
            raise KeyNotResolvedError(key=scoped.key, reason=_why_not(record))
        if record.unknown.over_at > now and not force:
            over = record.unknown.over_at
            reason = f"its attempt may be under way until {over:%H:%M:%S} UTC; wait, or use force=True"
            raise KeyNotResolvedError(key=scoped.key, reason=reason)
        outcome = decode_outcome(encode_finding(finding, encode=handle.encode_result))
        run_id = record.execution.run_id
        try:
            await handle.record(run_id, outcome, note=Resolution(reason=reason))
        except OutcomeTooLargeError as error:
            raise KeyNotResolvedError(key=scoped.key, reason=str(error)) from error
        with readable(handle.key_id):
            run = await handle.run(run_id)
        if run is None or run.end is None or run.end.outcome != outcome:
            raise KeyNotResolvedError(key=scoped.key, reason="it has ended another way meanwhile")

    async def retry(self, key: str, *, scope: Scope = Scope.PROJECT, reason: str = "") -> str:
        """Execute again what failed, or what nobody has finished, with the arguments, time-outs and retry
        policy that it had.

        A job of this package makes the call, where the one that failed was made. So there have to be workers
        with the plugin.

        Args:
            key: The key as calls give it.
            scope: The scope as calls give it; that of a job takes the job itself.
            reason: The summary of the job that makes the call.

        Returns:
            The workflow id of that job.

        Raises:
            KeyNotRetriedError: The key has not failed, or the history that holds the arguments is gone.
            UnreadableRecordError: As in `get`; or the arguments cannot be decoded.
            RPCError: The service could not be asked.
        """
        if scope is Scope.JOB:
            raise KeyNotRetriedError(key=key, reason="it belongs to jobs of one type: start one of them")
        scoped = self._keyspace.scoped(key, scope=scope)
        handle = KeyHandle(client=self._client, key_id=scoped.format())
        with readable(handle.key_id):
            record = await handle.read(now=await self._now())
            execution = require_failed(record, key=scoped.key)
            recorded = await recorded_call(self._client, execution, key_id=handle.key_id, key=scoped.key)
        return await start_again(self._client, recorded, execution, key=key, scope=scope, reason=reason)

    async def forget_each(
        self,
        keys: Iterable[str | KeyRecord],
        *,
        scope: Scope = Scope.PROJECT,
        job: str | None = None,
        force: bool = False,
        reason: str = "",
    ) -> AsyncIterator[Forgotten]:
        """Forget many keys, some at once, and yield what became of each. Repeating it does no harm.

        Takes what `forget` takes, and records as they were listed: of such a key nothing else is dropped, as
        an execution that succeeded since.
        """

        async def forget(key: str | KeyRecord) -> Forgotten:
            name = key if isinstance(key, str) else key.key
            try:
                if isinstance(key, str):
                    was = await self.forget(key, scope=scope, job=job, force=force, reason=reason)
                else:
                    was = await self._drop(key.workflow_id, name, force=force, reason=reason, listed=key)
            except (DedupeError, RPCError) as error:
                return Forgotten(key=name, error=error)
            return Forgotten(key=name, was_recorded=was)

        async def given() -> AsyncIterator[str | KeyRecord]:
            for key in keys:
                yield key

        async for forgotten in in_order(given(), forget, at_once=AT_ONCE):
            yield forgotten

    async def _is_executing(self, record: Executing | Settled) -> bool:
        """Return whether an attempt may be under way, even if an earlier one has been recorded meanwhile."""
        owner = record.execution.owner
        if owner is None:
            return isinstance(record, Executing)
        found = await whereabouts(self._client, owner, now=await self._now())
        return isinstance(found, Alive) or (isinstance(record, Executing) and not isinstance(found, Gone))

    async def _forget(self, handle: KeyHandle, execution: Execution, *, reason: str) -> bool:
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
        reason = f"forgotten: {reason}" if reason else "forgotten"
        return await handle.end(run_id, details=FORGOTTEN, reason=reason)

    async def _get(self, key_id: str, *, attempts: bool = False) -> KeyRecord | None:
        handle = KeyHandle(client=self._client, key_id=key_id)
        with readable(key_id):
            record = await handle.read(now=await self._now())
            if isinstance(record, Absent):
                return None
            is_executing = isinstance(record, Executing) and await self._is_executing(record)
            converter = self._client.data_converter
            seen = view(key_id, record, is_executing=is_executing, converter=converter)
            if not (is_executing and attempts):
                return seen
            found = await attempts_of(self._client, record.execution, key_id=key_id)
            return replace(seen, attempts=found)

    async def _now(self) -> datetime:
        return await server_time(self._client) if await self._is_time_skipping() else datetime.now(UTC)

    async def _is_time_skipping(self) -> bool:
        if self._skips_time is None:
            self._skips_time = await is_time_skipping(self._client)
        return self._skips_time


def _attributes(*, state: KeyState | None, activity: str | None) -> dict[str, str]:
    """Return the search attributes of keys that are chosen, as far as these say it."""
    attributes = {} if activity is None else {ACTIVITY.name: activity[:LONGEST]}
    if state in {KeyState.FAILED, KeyState.HELD}:
        attributes[STATE.name] = SearchState(state.value).value
    return attributes


def _why_not(record: Absent | Executing | Settled) -> str:
    match record:
        case Absent():
            return "nothing is recorded under it"
        case Executing():
            return "it is executing"
        case Settled(outcome=Succeeded()):
            return "it has succeeded"
        case Settled(outcome=Failed()):
            return "it has failed"
        case Settled():
            return "it is about to be executed again"


def _is_listed(record: Executing | Held | Settled, listed: KeyRecord) -> bool:
    """Return whether a record is the one that was listed, and stands where it stood."""
    settled_at = record.settled_at if isinstance(record, Settled) else None
    return (record.execution.started_at, settled_at) == (listed.started_at, listed.settled_at)
