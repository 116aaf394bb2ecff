"""Peeking: the calls that a job makes together are read together, in one local activity.

Invariant: what a call does is decided by what the marker of its peek recorded, and by the order of its calls.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import FailureError
from temporalio.worker import StartLocalActivityInput

from dedupe.job.request import Call
from dedupe.model.messages import Execute, Peek, Peeked, Wait
from dedupe.model.names import PEEK
from dedupe.model.payloads import encode, encode_referral, unpack

_TIMEOUT = timedelta(seconds=2)
_MOST_TOGETHER = 50
"""Questions of one peek."""
_BATCHES_AT_ONCE = 4
"""So many that the service answers them in time."""
_EXECUTE = encode_referral(Execute())

T = TypeVar("T")
StartLocalActivity = Callable[[StartLocalActivityInput], workflow.ActivityHandle[RawValue]]


@dataclass(frozen=True)
class _Asked:
    """A call that waits for the answer to its question."""

    peeked: Peeked
    answer: asyncio.Future[Payload]

    @property
    def activity(self) -> str:
        return self.peeked.question.activity

    def tell(self, answer: Payload) -> None:
        if not self.answer.done():  # the call may have been cancelled
            self.answer.set_result(answer)


class Peeking:
    """The peeks of one run of a job."""

    def __init__(self, start: StartLocalActivity, *, in_place: bool) -> None:
        """Begin with no question.

        Args:
            start: Starts a local activity, past all interceptors.
            in_place: Whether calls may be executed in place at all.
        """
        self._start = start
        self._in_place = in_place
        self._asked: list[_Asked] = []
        self._asking: set[asyncio.Task[None]] = set()
        self._new: set[str] = set()
        """Activities whose last call of this job executed: the next one is likely to as well."""

    async def peek(self, call: Call) -> Payload:
        """Return the answer to a call, or what it is to do. Should the peek fail, a claim finds out."""
        here = self._in_place and call.is_here
        if here and call.question.activity in self._new:
            return _EXECUTE
        future: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()
        if not self._asked:
            task = asyncio.create_task(self._ask())
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        self._asked.append(_Asked(Peeked(question=call.question, here=here), future))
        return await future

    def learn(self, call: Call, *, executed: bool) -> None:
        """Take notice of whether a call has executed, in place, for the next ones of its activity."""
        if executed:
            self._new.add(call.question.activity)
        else:
            self._new.discard(call.question.activity)

    async def _ask(self) -> None:
        """Ask for all calls that were made while this task waited for its turn.

        Of many calls a sample is asked about first. Where all keys of an activity are new, so are most of its
        others, most likely: those calls go on to execute, where a record is found as well.
        """
        asked, self._asked = self._asked, []
        step = math.ceil(len(asked) / _MOST_TOGETHER)
        sample, others = asked[::step], [each for number, each in enumerate(asked) if number % step]
        answers = await self._ask_together(sample)
        recorded = {each.activity for each, answer in zip(sample, answers, strict=True) if answer != _EXECUTE}
        new = {each.activity for each in sample} - recorded
        for each in others:
            if each.peeked.here and each.activity in new:
                each.tell(_EXECUTE)
        left = [each for each in others if not each.answer.done()]
        for batches in _parts(_parts(left, _MOST_TOGETHER), _BATCHES_AT_ONCE):
            await asyncio.gather(*map(self._ask_together, batches))

    async def _ask_together(self, asked: Sequence[_Asked]) -> Sequence[Payload]:
        peek = Peek(
            questions=tuple(each.peeked for each in asked), task=workflow.info().get_current_history_length()
        )
        try:
            value = await self._start(_input(peek))
            answers = unpack(value.payload)
        except (FailureError, ValueError):
            answers = []
        if len(answers) != len(asked):  # it failed, or was made by another version
            answers = [encode_referral(Wait())] * len(asked)
        for each, answer in zip(asked, answers, strict=True):
            each.tell(answer)
        return answers


def _parts(whole: Sequence[T], size: int) -> list[Sequence[T]]:
    return [whole[begin : begin + size] for begin in range(0, len(whole), size)]


def _input(peek: Peek) -> StartLocalActivityInput:
    return StartLocalActivityInput(
        activity=PEEK,
        args=[encode(peek)],
        activity_id=None,
        schedule_to_close_timeout=2 * _TIMEOUT,
        schedule_to_start_timeout=None,
        start_to_close_timeout=_TIMEOUT,
        retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50), maximum_attempts=2),
        local_retry_threshold=None,
        cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
        headers={},
        summary=None,  # one more payload would cost a hit a seventh of its CPU
        arg_types=None,
        ret_type=RawValue,
    )
