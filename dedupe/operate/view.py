"""What an operator sees of a key: its record, in words and times."""

import base64
import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from temporalio.api.common.v1 import Payload
from temporalio.converter import DataConverter
from temporalio.exceptions import FailureError
from temporalio.service import RPCError

from dedupe.errors import DedupeError, UnreadableRecordError
from dedupe.key.attempts import Attempts
from dedupe.model.messages import Start
from dedupe.model.outcome import Abandoned, Failed, Succeeded
from dedupe.model.record import Closed, Executing, Held, Run, Settled


class KeyState(StrEnum):
    """Where a key stands."""

    EXECUTING = "executing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    HELD = "held"
    """Nobody knows whether the effect happened, and the call asked to hold it then: all calls wait until
    somebody says what happened."""
    ABANDONED = "abandoned"
    """The call that executed is gone, and nobody knows whether the effect happened. The next call executes,
    under the same idempotency key."""


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
    started_by_run: str | None = None
    """Run id of that job; None where the execution is delegated."""
    settled_at: datetime | None
    """When its end was recorded; None while it is executing."""
    expires_at: datetime | None
    """When the record will be dropped; None: never, or not settled yet."""
    result_json: str | None
    """What the activity returned, as JSON; None unless it succeeded."""
    failure: str | None
    """Why it failed; None unless it did."""
    held: str | None = None
    """Why nobody knows what happened; None unless it is held."""
    held_since: datetime | None = None
    trace_id: str | None = None
    """Of the trace that has the spans of its execution, in hexadecimal; None where the SDK's interceptor or
    plugin for OpenTelemetry did not trace the call."""
    recorded_by: str | None = None
    """The identity of the worker that recorded its end, as it is in the Web UI; None where the execution is
    delegated."""
    resolution: str | None = None
    """Who said what had happened, and why, where it was held before."""
    attempts: Attempts | None = None
    """How it is getting on; None unless it is executing. `list` leaves it out."""
    ended: str | None = None
    """How it stopped being what is recorded under the key; None: it is."""


def view(
    key_id: str,
    record: Executing | Held | Settled,
    *,
    is_executing: bool,
    converter: DataConverter,
) -> KeyRecord:
    """Return a record as an operator sees it.

    Args:
        key_id: Id of the key's workflow.
        record: What is recorded.
        is_executing: Whether the call that holds the key is still there, where it has not ended.
        converter: Decodes failures.

    Raises:
        Exception: The failure converter cannot read a failure.
    """
    start, started_at = record.execution.start, record.execution.started_at
    match record:
        case Executing():
            state = KeyState.EXECUTING if is_executing else KeyState.ABANDONED
            return _record(key_id, start, state, started_at=started_at)
        case Held(unknown=unknown):
            held = _record(key_id, start, KeyState.HELD, started_at=started_at)
            return replace(held, held=unknown.why, held_since=unknown.since)
        case Settled():
            return _settled(key_id, record, converter)
        case _ as never:
            assert_never(never)


_ENDED = {
    Closed.ITSELF: "it expired",
    Closed.REPLACED: "executed again",
    Closed.FORGOTTEN: "forgotten",
    Closed.OUTSIDE: "its workflow was ended by something else",
}


def view_of_earlier(key_id: str, run: Run, closed: Closed, *, converter: DataConverter) -> KeyRecord:
    """Return what was recorded once, as an operator sees it.

    Args:
        key_id: Id of the key's workflow.
        run: What its history says.
        closed: What ended it.
        converter: Decodes failures.

    Raises:
        Exception: The failure converter cannot read a failure.
    """
    execution, end = run.execution, run.end
    record: Executing | Held | Settled = Executing(execution=execution)
    if end is not None:
        record = Settled(
            execution=execution,
            outcome=end.outcome,
            settled_at=end.at,
            expires_at=None,
            resolution=end.resolution,
            recorded_by=end.recorded_by,
        )
    elif run.unknown is not None:
        record = Held(execution=execution, unknown=run.unknown)
    seen = view(key_id, record, is_executing=False, converter=converter)
    return replace(seen, ended=_ENDED[closed])


def _settled(key_id: str, settled: Settled, converter: DataConverter) -> KeyRecord:
    execution = settled.execution
    state, result, failure = KeyState.FAILED, None, None
    match settled.outcome:
        case Succeeded(payload):
            state, result = KeyState.SUCCEEDED, _json(payload)
        case Failed() as failed:
            failure = _reason(failed, converter)
        case Abandoned():
            state = KeyState.ABANDONED
        case _ as never:
            assert_never(never)
    record = _record(
        key_id,
        execution.start,
        state,
        started_at=execution.started_at,
        settled_at=settled.settled_at,
        expires_at=settled.expires_at,
        result_json=result,
        failure=failure,
    )
    return replace(record, resolution=settled.resolution, recorded_by=settled.recorded_by)


def _reason(failed: Failed, converter: DataConverter) -> str:
    error = converter.failure_converter.from_failure(failed.failure, converter.payload_converter)
    cause = error.cause if isinstance(error, FailureError) else None
    return f"{type(error).__name__}: {error}" if cause is None else str(cause)


@contextmanager
def readable(key_id: str) -> Generator[None]:
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


def _record(
    key_id: str,
    start: Start,
    state: KeyState,
    *,
    started_at: datetime,
    settled_at: datetime | None = None,
    expires_at: datetime | None = None,
    result_json: str | None = None,
    failure: str | None = None,
) -> KeyRecord:
    return KeyRecord(
        key=start.key,
        workflow_id=key_id,
        state=state,
        activity=start.activity,
        generation=start.generation,
        idempotency_key=start.idempotency_key,
        started_at=started_at,
        started_by=start.caller,
        started_by_run=None if start.owner is None else start.owner.run_id,
        trace_id=None if start.traceparent is None else start.traceparent.split("-")[1],
        settled_at=settled_at,
        expires_at=expires_at,
        result_json=result_json,
        failure=failure,
    )


def _json(payload: Payload) -> str:
    encoding = payload.metadata.get("encoding", b"").decode()
    if encoding.startswith("json/"):
        return payload.data.decode()
    if encoding == "binary/null":
        return "null"
    return json.dumps({"encoding": encoding, "data": base64.b64encode(payload.data).decode()})
