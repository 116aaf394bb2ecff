"""Keys from outside: what is recorded, and how to drop it. For operators and tests.

All of it is between the caller and the service: no worker has to run.
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar

from temporalio.client import Client
from temporalio.service import RPCError

from dedupe.errors import (
    DedupeError,
    InvalidDeduplicationKeyError,
    KeyNotRetriedError,
)
from dedupe.key.attempts import attempts_of
from dedupe.model.findings import DidNotHappen, Happened
from dedupe.model.keys import SHORTENED_HEAD, Keyspace, Scope, ScopedKey, prefix_of
from dedupe.model.names import DELEGATED, IN_PLACE
from dedupe.model.record import Absent, Executing
from dedupe.operate.forget import Forgetting, Forgotten, forget, is_executing
from dedupe.operate.listing import AT_ONCE, Filter, closed_runs, in_order, key_ids
from dedupe.operate.resolve import resolve
from dedupe.operate.retry import recorded_call, require_failed, start_again
from dedupe.operate.view import KeyRecord, KeyState, readable, view, view_of_earlier
from dedupe.record.handle import KeyHandle
from dedupe.record.search import ACTIVITY, LONGEST, STATE, SearchState
from dedupe.record.timeskipping import is_time_skipping, server_time


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
        handle = self._handle(key_id)
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
        forgetting = Forgetting(clock=self._now, force=force, reason=reason)
        return await forget(self._handle(scoped.format()), scoped.key, forgetting)

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
        handle = self._handle(scoped.format())
        await resolve(handle, scoped.key, finding, now=await self._now(), force=force, reason=reason)

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
        handle = self._handle(scoped.format())
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
        forgetting = Forgetting(clock=self._now, force=force, reason=reason)

        async def forgotten(key: str | KeyRecord) -> Forgotten:
            name = key if isinstance(key, str) else key.key
            try:
                if isinstance(key, str):
                    was = await self.forget(key, scope=scope, job=job, force=force, reason=reason)
                else:
                    listed = replace(forgetting, listed=key)
                    was = await forget(self._handle(key.workflow_id), name, listed)
            except (DedupeError, RPCError) as error:
                return Forgotten(key=name, error=error)
            return Forgotten(key=name, was_recorded=was)

        async def given() -> AsyncIterator[str | KeyRecord]:
            for key in keys:
                yield key

        async for each in in_order(given(), forgotten, at_once=AT_ONCE):
            yield each

    async def _get(self, key_id: str, *, attempts: bool = False) -> KeyRecord | None:
        now = await self._now()
        with readable(key_id):
            record = await self._handle(key_id).read(now=now)
            if isinstance(record, Absent):
                return None
            alive = isinstance(record, Executing) and await is_executing(self._client, record, now=now)
            seen = view(key_id, record, is_executing=alive, converter=self._client.data_converter)
            if not (alive and attempts):
                return seen
            found = await attempts_of(self._client, record.execution, key_id=key_id)
            return replace(seen, attempts=found)

    def _handle(self, key_id: str) -> KeyHandle:
        return KeyHandle(client=self._client, key_id=key_id)

    async def _now(self) -> datetime:
        return await server_time(self._client) if await self._is_time_skipping() else datetime.now(UTC)

    async def _is_time_skipping(self) -> bool:
        if self._skips_time is None:
            self._skips_time = await is_time_skipping(self._client)
        return self._skips_time


def _attributes(*, state: KeyState | None, activity: str | None) -> dict[str, str]:
    """Return the search attributes of keys that are chosen, as far as these say it."""
    attributes = {} if activity is None else {ACTIVITY.name: activity[:LONGEST]}
    if state is KeyState.FAILED or state is KeyState.HELD:
        attributes[STATE.name] = SearchState(state.value).value
    return attributes
