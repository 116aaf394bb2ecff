"""The page of a job in the Web UI: its current details say how its calls were answered.

The SDK keeps current details in memory, and the service asks for them when somebody opens the page: they cost
no event and no request. They belong to the user; a job that sets its own has those alone.
"""

from collections import deque

from temporalio import workflow

from dedupe.model.messages import Executor
from dedupe.telemetry.answers import CallAnswer

_SHOWN = 20
"""Calls, the latest ones."""
_LONGEST = 100
"""Characters of a key or an id."""


class Page:
    """What the page of one run of a job says."""

    def __init__(self) -> None:
        """Begin with no call."""
        self._lines: deque[str] = deque(maxlen=_SHOWN)
        self._answered = 0
        self._details = ""

    def add(self, answer: CallAnswer, *, key: str, activity: str, executor: Executor | None) -> None:
        """Add a call that was answered; `executor` is whose execution that is."""
        self._answered += 1
        by = ""
        if executor is not None and executor.job_id != workflow.info().workflow_id:
            by = f", executed by {_quoted(executor.job_id)}"
        self._lines.append(f"- {_quoted(key)}: {_quoted(activity)}, {answer}{by}")
        if workflow.get_current_details() in {"", self._details}:
            self._details = "\n".join([self._head(), "", *self._lines])
            workflow.set_current_details(self._details)

    def _head(self) -> str:
        if self._answered > _SHOWN:
            return f"The last {_SHOWN} of {self._answered:,} calls with a deduplication key:"
        return "Calls with a deduplication key:"


def _quoted(text: str) -> str:
    """Return a text as it is shown in Markdown, on one line."""
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    words = shown.replace("`", "'").split()
    return f"`{' '.join(words)}`"
