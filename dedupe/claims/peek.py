"""The peek: one reading of the records that a job asks for, and what it leaves in the job's history.

A peek is a local activity that reads, and no more: for each question the answer, if it can be had so, or
whether the call is to execute or to wait. Invariant: what the peeks of one workflow task leave fits, with
everything else, into the one message in which the task's commands travel; the service ends a job whose
message is too large.
"""

import asyncio
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import assert_never

from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.client import Client

from dedupe.claims.recent import Recent
from dedupe.model.answer import Answer, about
from dedupe.model.decision import Begin, Hold, Refuse, Share, decide
from dedupe.model.messages import Execute, Peek, Peeked, Referral, Refused, Wait
from dedupe.model.payloads import encode_referral, is_referral
from dedupe.model.record import Held
from dedupe.record.handle import KeyHandle

_EVER = datetime.max.replace(tzinfo=UTC)
_LARGEST_ANSWER = 32 * 1024
"""Bytes of an answer that a peek may leave; larger ones come through the activity that follows."""
_LARGEST_ANSWERS = 1024 * 1024
"""Bytes of all answers that the peeks of one workflow task may leave; its message may have 4 MB."""
_MOST_JOBS = 1_000
"""Jobs of which a worker knows what their peeks have left: more than have a workflow task at once."""


class Peeks:
    """The peeks of one worker."""

    def __init__(self, client: Client, *, in_place: AbstractSet[str]) -> None:
        """Begin with nothing left.

        Args:
            client: Of the worker.
            in_place: The activities that this worker can execute in place.
        """
        self._client = client
        self._in_place = in_place
        self._left = Recent[str, tuple[int, int]](_MOST_JOBS)
        """By run id: which of the job's tasks it is, and the bytes left in it so far."""

    async def peek(self, peek: Peek, *, run_id: str) -> list[Payload]:
        """Read the records of keys for a job, and return what that leaves: a payload for each question."""
        found = await asyncio.gather(*map(self._found, peek.questions))
        fitting = [self._fitting(payload, peek, run_id) for payload in found]
        return [
            payload
            if is_referral(payload)
            else about(payload, activity=peeked.question.activity, key_id=peeked.question.key_id)
            for payload, peeked in zip(fitting, peek.questions, strict=True)
        ]

    async def _found(self, peeked: Peeked) -> Payload:
        question = peeked.question
        is_here = peeked.here and question.activity in self._in_place
        begin: Referral = Execute() if is_here else Wait(delegated=True)
        key = KeyHandle(client=self._client, key_id=question.key_id)
        try:
            record = await key.read(now=question.called_at)
        except Exception as error:  # noqa: BLE001 - a payload codec may raise anything; a claim has more patience
            activity.logger.debug("left deduplication key %r to a claim: %r", question.key, error)
            return encode_referral(Wait())
        match decide(question, record, asked_at=_EVER):
            case Answer() as answer:
                return answer.encode()
            case Refuse(refusal):
                return encode_referral(Refused(type=str(refusal.type), message=refusal.message))
            case Share(execution) | Hold(Held(execution=execution)):
                return encode_referral(Wait(run_id=execution.run_id))
            case Begin():
                return encode_referral(begin)
            case _ as never:
                assert_never(never)

    def _fitting(self, payload: Payload, peek: Peek, run_id: str) -> Payload:
        """Return what was found, or in place of an answer that does not fit, that a claim is to bring it."""
        size = payload.ByteSize()
        task, left = self._left.get(run_id) or (peek.task, 0)
        if task != peek.task:
            left = 0
        fits = size <= _LARGEST_ANSWER and left + size <= _LARGEST_ANSWERS
        self._left.note(run_id, (peek.task, left + size if fits else left))
        return payload if fits else encode_referral(Wait())
