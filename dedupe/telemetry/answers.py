"""Answers: one line of the log, one count and one call of the user's hook for each call that was answered.

All of it happens in the job, once for each call: not when its history is replayed.
"""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property

from temporalio import workflow
from temporalio.common import MetricCounter, MetricHistogramTimedelta
from temporalio.exceptions import is_cancelled_exception

from dedupe.errors import DedupeError, DeduplicationConflictError
from dedupe.model.failed_result import FailedResult
from dedupe.model.messages import Executor


class CallAnswer(StrEnum):
    """How a call was answered."""

    EXECUTED = "executed"
    """It executed the activity."""
    JOINED = "joined"
    """It waited for the call that executed, and got its result."""
    REUSED = "reused"
    """It got the result that was recorded before it was made."""
    FAILED = "failed"
    """The activity failed, or had done so before and the call skips failures; or the call timed out."""
    CONFLICT = "conflict"
    """The key stands for another activity, or for other arguments."""
    REFUSED = "refused"
    """The call could not be carried out."""
    CANCELLED = "cancelled"
    """The activity was cancelled, or the call before it had an answer."""


@dataclass(frozen=True, kw_only=True)
class AnsweredCall:
    """A call and how it was answered."""

    answer: CallAnswer
    key: str
    """The deduplication key; its HMAC where the project hides its keys."""
    key_workflow_id: str
    """Id of the key's workflow."""
    activity: str
    job_id: str
    """Workflow id of the job that made the call."""
    job_run_id: str
    job_type: str
    called_at: datetime
    """The job's time."""
    took: timedelta
    """By the job's time."""
    failure: str | None = None
    """The type and message of the failure or error; None where there was none."""
    executed_by: str | None = None
    """Workflow id of the job whose call executed the activity, which may be this one; None: nobody did, or it
    is not known."""
    traceparent: str | None = None
    """Where the spans of that call belong, in the W3C's format; None where neither the SDK's interceptor nor
    its plugin for OpenTelemetry traces it."""


OnAnswer = Callable[[AnsweredCall], None]


def answer_of(error: BaseException) -> CallAnswer:
    """Return how a call was answered that raised `error`."""
    if is_cancelled_exception(error):
        return CallAnswer.CANCELLED
    if isinstance(error, DeduplicationConflictError):
        return CallAnswer.CONFLICT
    return CallAnswer.REFUSED if isinstance(error, DedupeError) else CallAnswer.FAILED


_HEARD: ContextVar[list[CallAnswer] | None] = ContextVar("dedupe-answers", default=None)


@contextmanager
def answers_heard() -> Generator[list[CallAnswer]]:
    """Collect how the calls were answered that are started in the block, also while a history is replayed."""
    answers: list[CallAnswer] = []
    token = _HEARD.set(answers)
    try:
        yield answers
    finally:
        _HEARD.reset(token)


class Answers:
    """The answers to the calls of one job."""

    def __init__(self, on_answer: OnAnswer | None) -> None:
        """Begin with none.

        Args:
            on_answer: The user's hook.
        """
        self._on_answer = on_answer

    @cached_property
    def _calls(self) -> MetricCounter:
        return workflow.metric_meter().create_counter(
            "dedupe_calls", "Calls with a deduplication key, by how they were answered"
        )

    @cached_property
    def _latency(self) -> MetricHistogramTimedelta:
        return workflow.metric_meter().create_histogram_timedelta(
            "dedupe_call_latency", "From a call with a deduplication key to its answer, by the job's time"
        )

    def report(
        self,
        answer: CallAnswer,
        *,
        key: str,
        key_workflow_id: str,
        activity: str,
        called_at: datetime,
        end: object,
        executor: Executor | None,
    ) -> None:
        """Report how a call was answered.

        Args:
            answer: How.
            key: The deduplication key.
            key_workflow_id: Id of the key's workflow.
            activity: Its name.
            called_at: The job's time when the call was made.
            end: What the call returns or raises.
            executor: Whose execution that is; None: not known.
        """
        if (heard := _HEARD.get()) is not None:
            heard.append(answer)
        if workflow.unsafe.is_replaying():
            return
        took = workflow.now() - called_at
        labels = {"answer": answer.value}
        self._calls.add(1, labels)
        self._latency.record(took, labels)
        if workflow.logger.isEnabledFor(logging.INFO):
            workflow.logger.info(
                "deduplication key %r: %s %s",
                key,
                activity,
                answer.value,
                extra={"deduplication_key": key, "answer": answer.value, "key_workflow_id": key_workflow_id},
            )
        if self._on_answer is None:
            return
        info = workflow.info()
        try:
            with workflow.unsafe.sandbox_unrestricted():
                self._on_answer(
                    AnsweredCall(
                        answer=answer,
                        key=key,
                        key_workflow_id=key_workflow_id,
                        activity=activity,
                        job_id=info.workflow_id,
                        job_run_id=info.run_id,
                        job_type=info.workflow_type,
                        called_at=called_at,
                        took=took,
                        failure=_failure_of(end),
                        executed_by=None if executor is None else executor.job_id,
                        traceparent=None if executor is None else executor.traceparent,
                    )
                )
        except Exception:  # noqa: BLE001 - the hook is no part of the job
            workflow.logger.exception("on_answer failed for deduplication key %r", key)


def _failure_of(end: object) -> str | None:
    if isinstance(end, FailedResult):
        return f"{end.type}: {end.message}"
    if not isinstance(end, BaseException):
        return None
    cause = end.__cause__ if end.__cause__ is not None and not isinstance(end, DedupeError) else end
    return f"{getattr(cause, 'type', None) or type(cause).__name__}: {getattr(cause, 'message', cause)}"
