"""The decision: which call gets what.

One pure function, used by whoever reads a record for a call: the peek, the twin of an activity and the claim.
A key is absent, executing, held or settled; a call is answered, waits, executes or is refused. A failure
answers the calls that asked before it was recorded, so a hundred waiters on a failing key do not run it a
hundred times.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from dedupe.errors import DedupeError, DeduplicationConflictError, InvalidCallError
from dedupe.model.answer import Answer, How
from dedupe.model.messages import Executor, Question
from dedupe.model.outcome import Abandoned, Failed, Succeeded
from dedupe.model.record import Absent, Executing, Execution, Held, Record, Settled


@dataclass(frozen=True)
class Begin:
    """The call's activity is to be executed, after `record`."""

    record: Absent | Settled


@dataclass(frozen=True)
class Share:
    """The call shares the end of the execution that is on its way."""

    execution: Execution


@dataclass(frozen=True)
class Hold:
    """The key is held: the call waits until somebody says what happened, or has its job find out."""

    record: Held


@dataclass(frozen=True)
class Refuse:
    """The key stands for something else, or the call for a circle."""

    error: DedupeError


Decision = Begin | Share | Hold | Answer | Refuse


def decide(
    question: Question, record: Record, *, asked_at: datetime, waited_for: str | None = None
) -> Decision:
    """Return what a call gets from `record`.

    Args:
        question: What the call wants to know.
        record: What is recorded under its key.
        asked_at: Server time at which the call was first seen.
        waited_for: The run that the call saw executing. Its end answers the call, whenever that was.
    """
    match record:
        case Absent(before=Execution() as cut_off):
            # It is continued under its idempotency key, which is that of one activity.
            return _conflict(question, cut_off) or Begin(record)
        case Absent():
            return Begin(record)
        case Executing(execution=execution):
            return _conflict(question, execution) or _circle(question, execution) or Share(execution)
        case Held(execution=execution):
            return _conflict(question, execution) or _circle(question, execution) or Hold(record)
        case Settled(execution=execution, outcome=outcome, settled_at=settled_at):
            if isinstance(outcome, Abandoned):
                return _conflict(question, execution) or Begin(record)
            joined = settled_at > asked_at or execution.run_id == waited_for
            answer = Answer(
                outcome=outcome,
                settled_at=settled_at,
                how=How.JOINED if joined else How.REUSED,
                executor=Executor(job_id=execution.start.caller, traceparent=execution.start.traceparent),
            )
            match outcome:
                case Failed() as failed if not joined and (
                    not question.skip_failure or failed.is_cancellation
                ):
                    # Where the effect may have happened, it did so with the recorded arguments.
                    return _conflict(question, execution, arguments_matter=not failed.is_definite) or Begin(
                        record
                    )
                case Succeeded() | Failed():
                    return _conflict(question, execution) or answer
                case _ as never:
                    assert_never(never)
        case _ as never:
            assert_never(never)


def _circle(question: Question, execution: Execution) -> Refuse | None:
    """Refuse a call that would wait for an execution which may be waiting for the call's job."""
    if execution.start.idempotency_key not in question.within:
        return None
    reason = (
        "its job was started by the execution of this very key, and each would wait for the other; "
        "let the activity return what the job needs, or give the job another key"
    )
    return Refuse(InvalidCallError(activity=question.activity, key=question.key, reason=reason))


def _conflict(question: Question, execution: Execution, *, arguments_matter: bool = True) -> Refuse | None:
    """Refuse a call that cannot share what is recorded."""
    start = execution.start
    if question.activity != start.activity:
        return Refuse(
            DeduplicationConflictError(
                key=question.key,
                recorded=f"activity {start.activity!r}",
                called=f"of activity {question.activity!r}",
            )
        )
    if arguments_matter and len({question.fingerprint, start.fingerprint} - {None}) > 1:
        return Refuse(
            DeduplicationConflictError(
                key=question.key,
                recorded=f"activity {start.activity!r} with other arguments, those of job {start.caller!r}",
                called='made with on_mismatch="raise"',
            )
        )
    return None
