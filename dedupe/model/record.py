"""What a key is: absent, executing, held or settled; and what the next execution of it begins with. Pure.

One run of a key's workflow is one execution. A `Run` holds what a reader found in the history of such a run;
`record_of` says what that means, for readers of every kind. Invariant: the first outcome of a run counts, and
what a run means changes only by its next event, or by a record's time being over.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from dedupe.errors import CANNOT_TELL
from dedupe.model.messages import Owner, Start
from dedupe.model.names import INTERRUPTED
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
    answered: int = 0
    """Attempts that have failed and said so, as far as that is recorded: see `Start.hold`."""

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
    last_run: str | None = None
    """The last run of the key that the service knows; None where it knows none."""


@dataclass(frozen=True, kw_only=True)
class Executing:
    """The activity is on its way."""

    execution: Execution


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """An attempt has ended without an answer: nobody knows whether its effect happened."""

    why: str
    """For a person to read."""
    since: datetime
    over_at: datetime
    """Server time at which that attempt must be over."""
    event_id: int = 0
    """The event that says so, in the history of the key's run."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """The outcome is unknown, and nothing is executed until somebody says what happened."""

    execution: Execution
    unknown: Unknown


@dataclass(frozen=True, kw_only=True)
class Settled:
    """The execution ended."""

    execution: Execution
    outcome: Outcome
    settled_at: datetime
    """Server time at which the outcome was recorded."""
    expires_at: datetime | None
    """When it stops being a record; None: never."""
    resolution: str | None = None
    """Who said what happened, and why, where an operator did."""
    recorded_by: str | None = None
    """The identity of the client that recorded it; None: the service did, of a delegated execution."""


Record = Absent | Executing | Held | Settled


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
    resolution: str | None = None
    """Who said so, and why, where an operator did."""
    recorded_by: str | None = None
    """The identity of the client that recorded it; None: the service did, of a delegated execution."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the history of one run of a key's workflow says."""

    execution: Execution
    end: End | None = None
    unknown: Unknown | None = None
    """Why it is held, unless it has ended."""
    closed: Closed | None = None


def record_of(run: Run, *, now: datetime) -> Record:
    """Return what the current run of a key means at `now`."""
    execution = run.execution
    match run.closed:
        case None | Closed.ITSELF | Closed.REPLACED if run.end is not None:
            return _settled(run, run.end, now=now)
        case None if run.unknown is not None:
            return Held(execution=execution, unknown=run.unknown)
        case None:
            return Executing(execution=execution)
        case Closed.FORGOTTEN | Closed.ITSELF:
            return Absent(last_run=execution.run_id)
        case Closed.REPLACED | Closed.OUTSIDE:
            # What is taken away from outside is no reason for a second effect.
            is_over = run.end is not None and (
                _is_definite(run.end.outcome) or _has_expired(run, run.end, now=now)
            )
            return Absent(before=None if is_over else execution, last_run=execution.run_id)


def _settled(run: Run, end: End, *, now: datetime) -> Record:
    execution = run.execution
    if _has_expired(run, end, now=now):
        return Absent(expired=execution, last_run=execution.run_id)
    ttl = execution.start.ttl
    return Settled(
        execution=execution,
        outcome=end.outcome,
        settled_at=end.at,
        expires_at=None if ttl is None else end.at + ttl,
        resolution=end.resolution,
        recorded_by=end.recorded_by,
    )


MARGIN = timedelta(seconds=10)
"""By which an attempt may outlast its time-out: the SDK is five seconds late where it does not heartbeat."""


def unknown_after(execution: Execution, outcome: Outcome, *, at: datetime) -> Unknown | None:
    """Return why an execution is to be held that ended so; None where that is an end.

    Invariant: a run that is to be held gets an end only from the activity's own answer, from somebody who has
    found out, or where it is certain that no attempt ended without an answer.

    Args:
        execution: What ended.
        outcome: How.
        at: When that became known. Where it is abandoned, its last attempt is over.
    """
    if not execution.start.hold:
        return None
    match outcome:
        case Failed() as failed if not failed.is_answer:
            cause = failed.failure.cause
            ends = {
                INTERRUPTED: at,
                CANNOT_TELL: settled_by(at),
            }
            over = ends.get(cause.application_failure_info.type) or over_at(execution, now=at)
            return Unknown(
                why=f"its attempt ended without an answer: {cause.message}", since=at, over_at=over
            )
        case Abandoned():
            return Unknown(why="the call that executed it is gone, without an answer", since=at, over_at=at)
        case _:
            return None


def settled_by(at: datetime) -> datetime:
    """Return when that must be over which an attempt had asked for that cannot tell what became of it."""
    return at + MARGIN


def over_at(execution: Execution, *, now: datetime) -> datetime:
    """Return when an attempt must be over that has been given up at `now`: it may still have its effect.

    The first one has begun when it acquired the key, a later one at any time since.
    """
    start = execution.start
    longest = (
        start.owner.longest_attempt
        if start.owner is not None
        else start.plan and (start.plan.start_to_close_timeout or start.plan.schedule_to_close_timeout)
    )
    began = now if execution.answered else execution.started_at
    return began + (longest or timedelta(0)) + MARGIN


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
        case Absent(last_run=str() as last_run):  # the call may be one that has executed in that life, too
            call = f"{call} {last_run}"
        case Absent() | Settled():
            pass
    new = f"{uuid.uuid5(_CALLS, f'{key_id} {call}')}-{generation}"
    return Succession(generation=generation, idempotency_key=kept or new)


_CALLS = uuid.UUID("6f1c0f5e-5f63-4c0e-9a39-0d0f0b1d7c11")
