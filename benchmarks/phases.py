"""What a miss spends its time on: stretches between the events of its two histories. Pure.

Like `figures` it does without Temporal's packages, since the pictures are drawn where there are none.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Step:
    """An event, and when it was written."""

    whose: str
    """"job" or "key"."""
    event: str
    at: float
    """Seconds after the job was started, median over the misses."""
    spread: tuple[float, float]
    """The quickest and the slowest."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch between two events of a miss."""

    name: str
    whose: str
    """"job", "key", or "server" where a task waits to be picked up."""
    begins: float
    ends: float
    """Both in seconds after the job was started."""


_Mark = tuple[str, str, int]
"""Whose event, its name, and which of that name, counted from 0."""

_PHASES: tuple[tuple[str, str, _Mark, _Mark], ...] = (
    (
        "workflow task waits",
        "server",
        ("job", "WorkflowExecutionStarted", 0),
        ("job", "WorkflowTaskStarted", 0),
    ),
    ("job begins; peek", "job", ("job", "WorkflowTaskStarted", 0), ("job", "WorkflowTaskCompleted", 0)),
    ("the key is acquired", "job", ("job", "ActivityTaskStarted", 0), ("key", "WorkflowExecutionStarted", 0)),
    (
        "the activity; its result is recorded",
        "job",
        ("key", "WorkflowExecutionStarted", 0),
        ("key", "WorkflowExecutionSignaled", 0),
    ),
    (
        "the job is told",
        "job",
        ("key", "WorkflowExecutionSignaled", 0),
        ("job", "ActivityTaskCompleted", 0),
    ),
    ("workflow task waits", "server", ("job", "WorkflowTaskScheduled", 1), ("job", "WorkflowTaskStarted", 1)),
    ("job ends", "job", ("job", "WorkflowTaskStarted", 1), ("job", "WorkflowExecutionCompleted", 0)),
)


def phases(steps: Sequence[Step]) -> list[Phase]:
    """Return what a miss spends its time on. A phase whose events are not there is left out."""
    at: dict[_Mark, float] = {}
    seen = Counter[tuple[str, str]]()
    for step in steps:
        event = step.event.partition(" ")[0]
        at[step.whose, event, seen[step.whose, event]] = step.at
        seen[step.whose, event] += 1
    return [
        Phase(name=name, whose=whose, begins=at[begins], ends=at[ends])
        for name, whose, begins, ends in _PHASES
        if begins in at and ends in at and at[ends] >= at[begins]
    ]
