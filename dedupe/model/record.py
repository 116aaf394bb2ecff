"""What a key is: absent, executing or settled; and what the next execution of it begins with. Pure.

One run of a key's workflow is one execution. A `Run` holds what a reader found in the history of such a run;
`record_of` says what that means, for readers of every kind. Invariant: the first outcome of a run counts, and
what a run means changes only by its next event, or by a record's time being over.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dedupe.model.messages import Owner, Start
from dedupe.model.outcome import Abandoned, Failed, Outcome


@dataclass(frozen=True, kw_only=True)
class Execution:
    """One execution of the key's activity: all attempts under one retry policy."""

    run_id: str
    """Of the key's workflow: one run, one execution."""
    start: Start
    started_at: datetime
    is_open: bool = True
    """Whether that run is open. One that is closed is no lock."""

    @property
    def owner(self) -> Owner | None:
        """The call that executes in place; None where the key's own workflow does."""
        return self.start.owner


@dataclass(frozen=True, kw_only=True)
class Absent:
    """Nothing is recorded: the key is new, forgotten, expired, or its run was ended from outside."""

    before: Execution | None = None
    """An execution that was cut off, so that its effect may have happened: the next one continues it."""
    expired: Execution | None = None
    """One whose record is over."""
    any_run: bool = False
    """Whether the service knows a run of the key."""


@dataclass(frozen=True, kw_only=True)
class Executing:
    """The activity is on its way."""

    execution: Execution


@dataclass(frozen=True, kw_only=True)
class Settled:
    """The execution ended."""

    execution: Execution
    outcome: Outcome
    settled_at: datetime
    """Server time at which the outcome was recorded."""
    expires_at: datetime | None
    """When it stops being a record; None: never."""


Record = Absent | Executing | Settled


class Closed(StrEnum):
    """What ended a run of a key's workflow."""

    ITSELF = "itself"
    """Its record expired; on the time-skipping server its execution ended, or the key was forgotten."""
    REPLACED = "replaced"
    """The protocol, to begin the next execution."""
    FORGOTTEN = "forgotten"
    """An operator who dropped the record."""
    OUTSIDE = "outside"
    """Something that knows nothing of records: an operator's terminate or cancel, a time-out, a failure."""


@dataclass(frozen=True, kw_only=True)
class End:
    """How the execution of a run ended, as the history says it first."""

    outcome: Outcome
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the history of one run of a key's workflow says."""

    execution: Execution
    end: End | None = None
    closed: Closed | None = None


def record_of(run: Run, *, now: datetime) -> Record:
    """Return what the current run of a key means at `now`."""
    execution = run.execution
    match run.closed:
        case None | Closed.ITSELF | Closed.REPLACED if run.end is not None:
            return _settled(run, run.end, now=now)
        case None:
            return Executing(execution=execution)
        case Closed.FORGOTTEN | Closed.ITSELF:
            return Absent(any_run=True)
        case Closed.REPLACED | Closed.OUTSIDE:
            # What is taken away from outside is no reason for a second effect.
            is_over = run.end is not None and (
                _is_definite(run.end.outcome) or _has_expired(run, run.end, now=now)
            )
            return Absent(before=None if is_over else execution, any_run=True)


def _settled(run: Run, end: End, *, now: datetime) -> Record:
    execution = run.execution
    if _has_expired(run, end, now=now):
        return Absent(expired=execution, any_run=True)
    ttl = execution.start.ttl
    return Settled(
        execution=execution,
        outcome=end.outcome,
        settled_at=end.at,
        expires_at=None if ttl is None else end.at + ttl,
    )


def _has_expired(run: Run, end: End, *, now: datetime) -> bool:
    ttl = run.execution.start.ttl
    return ttl is not None and end.at + ttl <= now


def _is_definite(outcome: Outcome) -> bool:
    return isinstance(outcome, Failed) and outcome.is_definite


@dataclass(frozen=True, kw_only=True)
class Succession:
    """What an execution that follows a record begins with."""

    generation: int
    idempotency_key: str


def following(record: Absent | Settled, *, key_id: str, call: str) -> Succession:
    """Return what the next execution begins with.

    The idempotency key moves on only where nothing may have happened under the last one: after a definite
    failure, and where the key begins a new life.

    Args:
        record: What it follows.
        key_id: Id of the key's workflow.
        call: What names the call that executes, and no other.
    """
    generation, kept = 1, None
    match record:
        case Settled(execution=execution, outcome=Failed() as failed):
            generation = execution.start.generation + 1
            kept = None if failed.is_definite else execution.start.idempotency_key
        case Settled(execution=execution, outcome=Abandoned()):
            generation = execution.start.generation
            kept = execution.start.idempotency_key
        case Absent(before=Execution(start=start)):
            generation = start.generation
            kept = start.idempotency_key
        case Absent() | Settled():
            pass
    new = f"{uuid.uuid5(_CALLS, f'{key_id} {call}')}-{generation}"
    return Succession(generation=generation, idempotency_key=kept or new)


_CALLS = uuid.UUID("6f1c0f5e-5f63-4c0e-9a39-0d0f0b1d7c11")
