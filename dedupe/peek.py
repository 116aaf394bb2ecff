"""The peek: what one look at a key's record leaves in the history of the job that asked.

A peek is a local activity that reads, and no more: the answer, if it can be had so, or a sighting that spares
the claim a look of its own. Invariant: what the peeks of one workflow task leave fits, with everything else,
into the one message in which the task's commands travel; the service ends a job whose message is too large.
"""

from datetime import UTC, datetime
from typing import assert_never

from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

from dedupe.decision import Execute, Executing, Record, Refuse, Unknown, Wait, decide
from dedupe.key_handle import KeyHandle
from dedupe.messages import Peek, Question, Sighting, encode
from dedupe.outcome import Answer
from dedupe.timeskipping import unless_expired

_EVER = datetime.max.replace(tzinfo=UTC)
_LARGEST_ANSWER = 32 * 1024
"""Bytes of an answer that a peek may leave; larger ones come through the claim."""
_LARGEST_ANSWERS = 1024 * 1024
"""Bytes of all answers that the peeks of one workflow task may leave; its message may have 4 MB."""
_MOST_JOBS = 1_000
"""Jobs of which a worker knows what their peeks have left: more than have a workflow task at once."""


class Peeks:
    """The peeks of one worker."""

    def __init__(self) -> None:
        """Begin with nothing left."""
        self._left: dict[str, tuple[int, int]] = {}
        """By run id, the last ones last: which of the job's tasks it is, and the bytes left in it so far."""

    async def peek(self, peek: Peek, key: KeyHandle, *, run_id: str, skips_time: bool) -> RawValue:
        """Look at a key for a job, and return what that leaves: an `Answer` or a `Sighting`."""
        record = await key.read(with_fingerprint=peek.question.fingerprint is not None)
        if skips_time:
            record = unless_expired(record, now=peek.question.called_at)
        return self.leave(peek, record, run_id=run_id)

    def leave(self, peek: Peek, record: Record, *, run_id: str) -> RawValue:
        """Return what a peek of a job leaves that found `record`: an `Answer` or a `Sighting`."""
        found = _found(peek.question, record)
        if isinstance(found, Sighting):
            return encode(found)
        return RawValue(found) if self._fits(found.ByteSize(), peek, run_id) else encode(Sighting())

    def _fits(self, size: int, peek: Peek, run_id: str) -> bool:
        task, left = self._left.pop(run_id, (peek.task, 0))
        if task != peek.task:
            left = 0
        fits = size <= _LARGEST_ANSWER and left + size <= _LARGEST_ANSWERS
        self._left[run_id] = peek.task, left + size if fits else left
        if len(self._left) > _MOST_JOBS:
            del self._left[next(iter(self._left))]
        return fits


def _found(question: Question, record: Record) -> Payload | Sighting:
    match decide(question, asked_at=_EVER, record=record):
        case Answer() as answer:
            return answer.encode()
        case Wait() if isinstance(record, Executing):
            return Sighting(executing=True, turn=record.execution.turn)
        case Execute() if isinstance(record, Unknown) and record.idempotency_key is None:
            return Sighting(unknown=True)
        case Wait() | Execute() | Refuse():
            return Sighting()
        case _ as never:
            assert_never(never)
