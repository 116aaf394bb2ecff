"""Resolve: a person says what became of a held key's execution."""

from datetime import datetime
from typing import Any

from dedupe.errors import KeyNotResolvedError
from dedupe.model.findings import DidNotHappen, Happened, encode_finding
from dedupe.model.messages import Resolution
from dedupe.model.outcome import Failed, Succeeded, decode_outcome
from dedupe.model.record import Absent, Executing, Held, Settled
from dedupe.operate.view import readable
from dedupe.record.handle import KeyHandle, OutcomeTooLargeError


async def resolve(
    handle: KeyHandle,
    key: str,
    finding: Happened[Any] | DidNotHappen,
    *,
    now: datetime,
    force: bool,
    reason: str,
) -> None:
    """Record a finding, and check that it is what counts.

    Raises:
        KeyNotResolvedError: It is not.
        UnreadableRecordError: The record cannot be decoded.
        RPCError: The service could not be asked.
        Exception: The client's payload converter does not take the result.
    """
    with readable(handle.key_id):
        record = await handle.read(now=now)
    if not isinstance(record, Held):
        raise KeyNotResolvedError(key=key, reason=_why_not(record))
    if record.unknown.over_at > now and not force:
        over = record.unknown.over_at
        why = f"its attempt may be under way until {over:%H:%M:%S} UTC; wait, or use force=True"
        raise KeyNotResolvedError(key=key, reason=why)
    outcome = decode_outcome(encode_finding(finding, encode=handle.encode_result))
    run_id = record.execution.run_id
    try:
        await handle.record(run_id, outcome, note=Resolution(reason=reason))
    except OutcomeTooLargeError as error:
        raise KeyNotResolvedError(key=key, reason=str(error)) from error
    with readable(handle.key_id):
        run = await handle.after_signal(run_id, was_held=True)
    if run is not None and run.end is None and run.closed is None:
        raise KeyNotResolvedError(
            key=key, reason="it was said, and does not show yet: look again in a minute"
        )
    if run is None or run.end is None or run.end.outcome != outcome:
        raise KeyNotResolvedError(key=key, reason="it has ended another way meanwhile")


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
