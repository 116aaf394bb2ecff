"""Keys from outside: what is recorded, and how to drop it. For operators and tests.

All of it is read from the service; no worker has to run, but for `DedupeKeys.forget`, which the key's
workflow has to take notice of.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.exceptions import FailureError
from temporalio.service import RPCError

from dedupe.decision import Executing, Record, Settled, Unknown
from dedupe.errors import (
    DedupeError,
    InvalidDeduplicationKeyError,
    KeyExecutingError,
    KeyNotForgottenError,
    UnreadableRecordError,
)
from dedupe.key_handle import KeyHandle, Signalled
from dedupe.keys import SHORTENED_HEAD, Keyspace, Scope, ScopedKey, prefix_of
from dedupe.ledger import Ledger
from dedupe.messages import KEY_WORKFLOW, Forget, Plan, Start
from dedupe.outcome import Failed, Succeeded
from dedupe.timeskipping import is_time_skipping, server_time, unless_expired

_FORGET_TIMEOUT = timedelta(seconds=10)
_POLL = timedelta(milliseconds=50)
_POLLS_A_SIGNAL = 20


class KeyState(StrEnum):
    """Where a key stands."""

    EXECUTING = "executing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class KeyRecord:
    """What is recorded under one key."""

    key: str
    """The key; its HMAC where the project hides its keys."""
    workflow_id: str
    """Id of the key's workflow."""
    state: KeyState
    activity: str
    generation: int
    """1 for the key's first execution, one more for each that follows a failure."""
    idempotency_key: str
    started_at: datetime
    started_by: str
    """Workflow id of the job whose call was executed."""
    settled_at: datetime | None
    """When the execution ended; None while it is executing."""
    expires_at: datetime | None
    """When the record will be dropped; None: never, or not settled yet."""
    result_json: str | None
    """What the activity returned, as JSON; None unless it succeeded."""
    failure: str | None
    """Why it failed; None unless it did."""


class DedupeKeys:
    """The keys of one project in the client's namespace."""

    def __init__(
        self,
        client: Client,
        *,
        organization: str,
        project: str,
        key_secret: bytes | str | None = None,
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
            InvalidDeduplicationKeyError: It is no key.
            UnreadableRecordError: The client cannot decode it, or something else has taken the workflow id.
            RPCError: The service could not be asked.
        """
        return await self._get(self._keyspace.scoped(key, scope=scope, job=job).format())

    async def list(
        self, *, prefix: str = "", scope: Scope = Scope.PROJECT, job: str | None = None
    ) -> AsyncIterator[KeyRecord]:
        """Yield the records of one scope whose keys begin with `prefix`.

        They come from the service's visibility, which may lag behind; the time-skipping server has none.

        Raises:
            InvalidDeduplicationKeyError: A prefix was given where the project hides its keys.
            UnreadableRecordError: The client cannot decode one of them.
            RPCError: The service could not be asked.
        """
        if prefix and self._keyspace.key_secret is not None:
            raise InvalidDeduplicationKeyError(
                reason="with a key_secret keys have no prefixes. List them all"
            )
        owner = self._keyspace.owner(scope, job=job)
        ids = prefix_of(scope, owner, key_prefix=prefix)[:SHORTENED_HEAD]
        query = (
            f"WorkflowType='{KEY_WORKFLOW}' AND ExecutionStatus='Running' AND WorkflowId STARTS_WITH '{ids}'"
        )
        async for execution in self._client.list_workflows(query):
            record = await self._get(execution.id)
            if record is None or not record.key.startswith(prefix):
                continue
            # The ids of others may begin alike, since long ones are cut; some stores take "a" for "A", too.
            if ScopedKey(scope=scope, owner=owner, key=record.key).format() == execution.id:
                yield record

    async def forget(
        self, key: str, *, scope: Scope = Scope.PROJECT, job: str | None = None, force: bool = False
    ) -> bool:
        """Drop what is recorded under a key; the next call executes.

        Args:
            key: The key as calls give it.
            scope: The scope as calls give it.
            job: The workflow type, for `Scope.JOB`.
            force: Also while the key is executing. The activity is cancelled, but its effect may still
                happen, and those who wait execute again.

        Returns:
            Whether there was anything to drop.

        Raises:
            KeyExecutingError: The key is executing, and `force` is not set.
            KeyNotForgottenError: No worker serves the key's task queue.
            UnreadableRecordError: As in `get`.
            RPCError: The service could not be asked.
        """
        scoped = self._keyspace.scoped(key, scope=scope, job=job)
        handle = KeyHandle(client=self._client, key_id=scoped.format())
        before = await self._read(handle)
        if isinstance(before, Unknown):
            return False
        if isinstance(before, Executing) and not force:
            raise KeyExecutingError(key=scoped.key)
        forget = Forget(force=force, life=before.execution.life)
        for poll in range(_FORGET_TIMEOUT // _POLL):
            if (
                poll % _POLLS_A_SIGNAL == 0  # again, since it may have come while the key still executed
                and await handle.forget(forget) is Signalled.GONE
                and await self._is_time_skipping()
            ):
                await self._start_forgotten(handle, scoped, activity=before.execution.activity)
            match await self._read(handle):
                case Unknown():
                    return True
                case Executing(execution=now) | Settled(execution=now) if now.life != before.execution.life:
                    return True
                case Executing() if not force:
                    raise KeyExecutingError(key=scoped.key)
                case _:
                    await asyncio.sleep(_POLL.total_seconds())
        raise KeyNotForgottenError(key=scoped.key, task_queue=await handle.task_queue())

    async def _start_forgotten(self, handle: KeyHandle, scoped: ScopedKey, *, activity: str) -> None:
        """Put a run that records nothing over the closed one that is the record."""
        task_queue = await handle.task_queue()
        start = Start(
            key=scoped.key,
            activity=activity,
            plan=Plan(task_queue=task_queue),
            closes_when_settled=True,
            forgotten=True,
        )
        await handle.start(start, Payload(), task_queue=task_queue)

    async def _get(self, key_id: str) -> KeyRecord | None:
        ledger = await Ledger.open(self._client, key_id)
        if ledger is None:
            return None
        with _readable(key_id):
            record = await self._unless_expired(await ledger.record())
            if isinstance(record, Unknown):
                return None
            return await self._record(ledger, record)

    async def _record(self, ledger: Ledger, record: Executing | Settled) -> KeyRecord:
        origin = await ledger.origin()
        ttl = origin.plan.ttl
        settled = record if isinstance(record, Settled) else None
        execution = record.execution
        return KeyRecord(
            key=(await ledger.start()).key,
            workflow_id=ledger.key_id,
            state=_state_of(record),
            activity=execution.activity,
            generation=execution.generation,
            idempotency_key=execution.idempotency_key,
            started_at=execution.started_at,
            started_by=origin.caller,
            settled_at=settled.settled_at if settled else None,
            expires_at=settled.settled_at + ttl if settled and ttl is not None else None,
            result_json=_json(settled.outcome.result)
            if settled and isinstance(settled.outcome, Succeeded)
            else None,
            failure=self._reason(settled.outcome)
            if settled and isinstance(settled.outcome, Failed)
            else None,
        )

    def _reason(self, failed: Failed) -> str:
        converter = self._client.data_converter
        error = converter.failure_converter.from_failure(failed.failure, converter.payload_converter)
        cause = error.cause if isinstance(error, FailureError) else None
        return f"{type(error).__name__}: {error}" if cause is None else str(cause)

    async def _read(self, handle: KeyHandle) -> Record:
        with _readable(handle.key_id):
            return await self._unless_expired(await handle.read())

    async def _unless_expired(self, record: Record) -> Record:
        if not await self._is_time_skipping():
            return record
        return unless_expired(record, now=await server_time(self._client))

    async def _is_time_skipping(self) -> bool:
        if self._skips_time is None:
            self._skips_time = await is_time_skipping(self._client)
        return self._skips_time


@contextmanager
def _readable(key_id: str) -> Generator[None]:
    """Say of which key it is that the client's data converter cannot read the record.

    Raises:
        UnreadableRecordError: It cannot. What a payload codec or a model raises may hold parts of the record.
    """
    try:
        yield
    except (RPCError, DedupeError):
        raise
    except Exception as error:  # noqa: BLE001 - a payload codec may raise anything
        raise UnreadableRecordError(key=key_id, reason=type(error).__name__) from None


def _state_of(record: Executing | Settled) -> KeyState:
    if isinstance(record, Executing):
        return KeyState.EXECUTING
    return KeyState.SUCCEEDED if isinstance(record.outcome, Succeeded) else KeyState.FAILED


def _json(payload: Payload) -> str:
    encoding = payload.metadata.get("encoding", b"").decode()
    if encoding.startswith("json/"):
        return payload.data.decode()
    if encoding == "binary/null":
        return "null"
    return json.dumps({"encoding": encoding, "data": base64.b64encode(payload.data).decode()})
