"""The decision: which call gets what.

One pure function, used by the peek and the claim (over what they read in the history) and by the key's
workflow (over its own state). A key is unknown, executing or settled; a call is answered, waits, executes or
is refused. Time is server time: a failure recorded after a call was made answers that call, so a hundred
waiters on a failing key do not run it a hundred times.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from dedupe.errors import DeduplicationConflictError
from dedupe.messages import Question
from dedupe.outcome import Answer, Failed, Outcome, Succeeded


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """Nothing is recorded: the key is new, forgotten, expired, or its run was ended from outside."""

    idempotency_key: str | None = None
    """Of an execution that was cut off, so that its effect may have happened."""


@dataclass(frozen=True, kw_only=True)
class ExecutionRecord:
    """One execution of the key's activity: all attempts under one retry policy."""

    life: str
    """Which life of the key: the id of its first run. It ends where the key is forgotten or expires."""
    activity: str
    generation: int
    idempotency_key: str
    fingerprint: str | None
    """Of the arguments; None where nobody asked for it."""
    started_at: datetime

    @property
    def turn(self) -> str:
        """What tells this execution from all others of the key."""
        return f"{self.idempotency_key}/{self.generation}"


@dataclass(frozen=True, kw_only=True)
class Executing:
    """The activity is on its way."""

    execution: ExecutionRecord


@dataclass(frozen=True, kw_only=True)
class Settled:
    """The execution ended."""

    execution: ExecutionRecord
    outcome: Outcome
    settled_at: datetime
    expires_at: datetime | None
    """When it stops being a record; None: never, or the open run it was read from sees to that."""


Record = Unknown | Executing | Settled


@dataclass(frozen=True)
class Execute:
    """The call's activity is to be executed."""


@dataclass(frozen=True)
class Wait:
    """The call shares the end of the execution that is on its way."""


@dataclass(frozen=True)
class Refuse:
    """The key stands for something else."""

    error: DeduplicationConflictError


Decision = Execute | Wait | Answer | Refuse


def decide(question: Question, *, asked_at: datetime, record: Record) -> Decision:
    """Return what a call made at `asked_at` gets from `record`."""
    match record:
        case Unknown():
            return Execute()
        case Executing(execution=execution):
            return _conflict(question, execution) or Wait()
        case Settled(execution=execution, outcome=outcome, settled_at=settled_at):
            reused = settled_at <= asked_at
            match outcome:
                case Failed(is_definite=definite) if reused and not question.skip_failure:
                    # Where the effect may have happened, it did so with the recorded arguments.
                    return _conflict(question, execution, arguments_matter=not definite) or Execute()
                case Succeeded() | Failed():
                    answer = Answer(outcome=outcome, settled_at=settled_at, reused=reused)
                    return _conflict(question, execution) or answer
                case _ as never:
                    assert_never(never)
        case _ as never:
            assert_never(never)


def _conflict(
    question: Question, execution: ExecutionRecord, *, arguments_matter: bool = True
) -> Refuse | None:
    """Refuse a call that cannot share what is recorded."""
    if question.activity != execution.activity:
        return Refuse(
            DeduplicationConflictError(
                key=question.key,
                recorded=f"activity {execution.activity!r}",
                called=f"of activity {question.activity!r}",
            )
        )
    if arguments_matter and len({question.fingerprint, execution.fingerprint} - {None}) > 1:
        return Refuse(
            DeduplicationConflictError(
                key=question.key,
                recorded=f"activity {execution.activity!r} with other arguments",
                called='made with on_mismatch="raise"',
            )
        )
    return None
