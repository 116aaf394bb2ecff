"""Instructions of the Python part of a claim and of a hit, counted by valgrind.

`python -m benchmarks.instructions PART TIMES` does a part so many times, without a server. The difference of
two runs is the part itself, and no load of the machine changes it.
"""

import argparse
import asyncio
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.common import RawValue

from dedupe.claim import Claim
from dedupe.execution import format_activity_id
from dedupe.key_handle import KeyHandle
from dedupe.ledger import Ledger
from dedupe.messages import (
    KEY_WORKFLOW,
    ClaimInput,
    Peek,
    Plan,
    Question,
    Sighting,
    Start,
    Waiter,
    decode,
    encode,
    pack,
)
from dedupe.outcome import decode_answer
from dedupe.pages import Pages
from dedupe.peek import Peeks

_FEW, _MANY = 100, 300
_COLLECTED = re.compile(r"Collected : (\d+)")
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_RESULT = Payload(metadata={"encoding": b"json/plain"}, data=b'"done"')
_QUESTION = Question(
    key_id="proj:acme/web:welcome-email-42", key="welcome-email-42", activity="send_email", called_at=_NOW
)
_PLAN = Plan(task_queue="jobs", start_to_close_timeout=timedelta(seconds=30))
_WAITER = Waiter(workflow_id="job", run_id="run", activity_id="1", workflow_type="Job", task_queue="jobs")


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """How many instructions one part takes."""

    part: str
    instructions: int


async def instructions() -> list[Instructions]:
    """Count every part.

    Raises:
        RuntimeError: Valgrind is not here, or found nothing to count.
    """
    return [Instructions(part=part, instructions=await _count(part)) for part in _PARTS]


async def _count(part: str) -> int:
    few, many = await asyncio.gather(_collected(part, _FEW), _collected(part, _MANY))
    return (many - few) // (_MANY - _FEW)


async def _collected(part: str, times: int) -> int:
    try:
        process = await asyncio.create_subprocess_exec(
            "valgrind",
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            sys.executable,
            "-m",
            "benchmarks.instructions",
            part,
            str(times),
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
        )
    except FileNotFoundError as error:
        message = "valgrind is not here"
        raise RuntimeError(message) from error
    _, said = await process.communicate()
    found = _COLLECTED.search(said.decode())
    if process.returncode or found is None:
        message = f"valgrind counted nothing: {said.decode()[-300:]}"
        raise RuntimeError(message)
    return int(found[1])


async def _claim(client: Client) -> Callable[[], Coroutine[Any, Any, None]]:
    """A claim that starts a key: from its own input to that of the key's workflow."""
    message = encode(ClaimInput(question=_QUESTION, plan=_PLAN, sighting=Sighting(unknown=True))).payload
    arguments = pack([_RESULT]).payload

    async def claim() -> None:
        received = decode(ClaimInput, message)
        made = Claim(
            key=KeyHandle(client=client, key_id=received.question.key_id),
            question=received.question,
            plan=received.plan,
            arguments=arguments,
            waiter=_WAITER,
            asked_at=_NOW,
            attempt=1,
            slice=timedelta(minutes=1),
        )
        encode(made.start(idempotency_key=None))

    return claim


async def _hit(client: Client) -> Callable[[], Coroutine[Any, Any, None]]:
    """A hit: from the events of a key's history to the activity's result."""
    message = encode(Peek(question=_QUESTION, task=3)).payload
    events = _history()
    peeks = Peeks()

    async def hit() -> None:
        peek = decode(Peek, message)
        pages = Pages()
        for event in events:
            pages.apply(event)
        record = await Ledger(client=client, key_id=peek.question.key_id, pages=pages).record()
        if decode_answer(peeks.leave(peek, record, run_id="run").payload) != _RESULT:
            error = "this is no hit"
            raise RuntimeError(error)

    return hit


_PARTS = {"claim": _claim, "hit": _hit}


def _history() -> list[HistoryEvent]:
    """Return the history of a key that was executed once, and returned."""
    started = HistoryEvent(event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
    attributes = started.workflow_execution_started_event_attributes
    attributes.workflow_type.name = KEY_WORKFLOW
    start = Start(key=_QUESTION.key, activity=_QUESTION.activity, plan=_PLAN, waiters=(_WAITER,))
    inputs: list[RawValue] = [encode(start), pack([_RESULT])]
    attributes.input.payloads.extend(value.payload for value in inputs)
    scheduled = HistoryEvent(event_type=EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
    activity = scheduled.activity_task_scheduled_event_attributes
    activity.activity_id = format_activity_id(1, "01a20986-33f4-7be9-a01a-46f629883604-1")
    activity.activity_type.name = _QUESTION.activity
    completed = HistoryEvent(event_type=EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
    completed.activity_task_completed_event_attributes.result.payloads.append(_RESULT)
    task = [
        HistoryEvent(event_type=EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED),
        HistoryEvent(event_type=EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED),
        HistoryEvent(event_type=EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED),
    ]
    return [started, *task, scheduled, completed, *task]


async def _repeat(part: str, times: int) -> None:
    once = await _PARTS[part](await Client.connect("localhost:7233", lazy=True))
    for _ in range(times):
        await once()


def main() -> None:
    """Read the command line, and do a part so many times."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions")
    parser.add_argument("part", choices=tuple(_PARTS))
    parser.add_argument("times", type=int)
    options = parser.parse_args()
    asyncio.run(_repeat(options.part, options.times))


if __name__ == "__main__":
    main()
