"""Answers: an outcome on its way to one call."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure

from dedupe.model.marks import CALL, EXECUTOR, LARGE, decode_marked, encode_failure, marked, unmarked
from dedupe.model.messages import Executor, FailureMessage
from dedupe.model.names import MARK
from dedupe.model.outcome import Failed, Succeeded
from dedupe.model.payloads import decode, encode


class How(StrEnum):
    """How a call came by its answer."""

    EXECUTED = "executed"
    """Its own execution."""
    JOINED = "joined"
    """It waited for another call's execution."""
    REUSED = "reused"
    """The outcome was recorded before the call was made."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An outcome as one call gets it."""

    outcome: Succeeded | Failed
    settled_at: datetime
    """Server time at which the outcome was recorded."""
    how: How
    executor: Executor | None = None
    """The call that executed; None: this one."""

    @property
    def reused(self) -> bool:
        """Whether the outcome was recorded before the call was made."""
        return self.how is How.REUSED

    def encode(self) -> Payload:
        """Return the payload that carries this answer."""
        match self.outcome:
            case Succeeded(result):
                payload = marked(result, self.how.value.encode())
                if self.executor is not None and payload.ByteSize() <= LARGE:
                    payload.metadata[EXECUTOR] = encode(self.executor).payload.data
                return payload
            case Failed(failure):
                facts = FailureMessage(
                    failure={}, failed_at=self.settled_at, reused=self.reused, executor=self.executor
                )
                return encode_failure(failure, facts)
            case _ as never:
                assert_never(never)


@dataclass(frozen=True, kw_only=True)
class FailedAnswer:
    """A failure as it came to one call."""

    failure: Failure
    failed_at: datetime
    """Server time at which the failure was recorded."""
    reused: bool
    """Whether it was recorded before the call was made."""
    executor: Executor | None = None
    """The call that executed; None: this one, or that is not known."""


@dataclass(frozen=True, kw_only=True)
class SucceededAnswer:
    """A result as it came to one call."""

    result: Payload
    how: How
    executor: Executor | None = None
    """The call that executed; None: this one, or that is not known."""


def about(payload: Payload, *, activity: str, key_id: str) -> Payload:
    """Return an answer that says what it answers, for who reads the history of a job."""
    payload.metadata[CALL] = f"{activity} {key_id}".encode()
    return payload


def call_of(payload: Payload) -> tuple[str, str]:
    """Return the activity and the key's id that `about` has noted; "?" where it has not."""
    activity, _, key_id = payload.metadata.get(CALL, b"? ?").decode().rpartition(" ")
    return activity, key_id


def decode_answer(payload: Payload) -> SucceededAnswer | FailedAnswer | None:
    """Return the result, or the failure, that a payload carries; None where it is not an answer."""
    mark = payload.metadata.get(MARK, b"").decode()
    if mark in set(How):
        executor = payload.metadata.get(EXECUTOR)
        return SucceededAnswer(
            result=unmarked(payload),
            how=How(mark),
            executor=None if executor is None else decode(Executor, Payload(data=executor)),
        )
    match decode_marked(payload):
        case (Failure() as failure, FailureMessage(failed_at=datetime() as failed_at) as facts):
            return FailedAnswer(
                failure=failure, failed_at=failed_at, reused=facts.reused, executor=facts.executor
            )
        case _:
            return None
