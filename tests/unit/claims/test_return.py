"""A claim that comes back: whether the attempt before it was sent back to wait, or lost."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

import dedupe.claims.claim
from dedupe.claims.claim import _Attempt, carry_out
from dedupe.claims.crowd import Crowd
from dedupe.model.messages import Claim, Question
from dedupe.model.names import WAITING

CLAIM = Claim(
    question=Question(
        key_id="proj:o/p:k", key="k", activity="effect", called_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
)


@pytest.mark.parametrize(
    ("here", "looks"),
    [("A", 0), ("wA", 0), ("wwA", 0), ("-A", 1), ("w-A", 1), ("-wA", 0)],
    ids=[
        "at once",
        "after one",
        "after two",
        "the first was lost",
        "the last was lost",
        "an early one was lost",
    ],
)
async def test_only_a_lost_attempt_is_looked_after(
    monkeypatch: pytest.MonkeyPatch, here: str, looks: int
) -> None:
    """Of those that this worker sent back it knows what became, and a crowd asks nothing about them.

    Each letter of `here` is an attempt: one that is sent back to wait (w), one that is lost (-), one that
    answers.
    """
    looked: list[int] = []

    async def answer(attempt: _Attempt) -> Payload:
        if here[attempt.info.attempt - 1] == "w":
            raise ApplicationError("later", type=WAITING)
        return Payload()

    async def unstick(client: Any, info: activity.Info) -> None:
        del client
        looked.append(info.attempt)

    monkeypatch.setattr(_Attempt, "answer", answer)
    monkeypatch.setattr(dedupe.claims.claim, "unstick", unstick)
    client: Any = SimpleNamespace(namespace="default")
    crowd = Crowd(client, task_queue="keys", most_following=0, in_place=frozenset())
    environment = ActivityEnvironment()
    for number, what in enumerate(here, start=1):
        environment.info = replace(environment.info, attempt=number)
        if what == "w":
            with pytest.raises(ApplicationError, match="later"):
                await environment.run(carry_out, CLAIM, Payload(), crowd=crowd)
        elif what != "-":
            await environment.run(carry_out, CLAIM, Payload(), crowd=crowd)
    assert len(looked) == looks
