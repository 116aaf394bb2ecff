"""Instructions of the Python part of a claim and of a hit, counted by valgrind.

The parts run as they do in a worker, against a service that answers at once: from the activity's input to
the bytes of the request, and from the bytes of the response to the activity's answer. The SDK's own call,
with the same request, is counted beside each.

`python -m benchmarks.instructions PART TIMES` does a part so many times, without a server. The difference of
two runs is the part itself, and no load of the machine changes it.
"""

import argparse
import asyncio
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import NoReturn, TypeVar

from google.protobuf.message import Message
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryResponse,
    StartWorkflowExecutionResponse,
)
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.service import ConnectConfig, ServiceClient
from temporalio.testing import ActivityEnvironment

from benchmarks.jobs import PAGE
from dedupe.claim import Claim, Claims
from dedupe.execution.current import format_activity_id
from dedupe.key_handle import KeyHandle
from dedupe.messages import (
    CLAIM,
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


ResponseT = TypeVar("ResponseT", bound=Message)
Part = Callable[[], Awaitable[None]]


class _Service(ServiceClient):
    """A service that answers each request at once with bytes made beforehand, and takes none."""

    def __init__(self, answers: Mapping[str, Message]) -> None:
        super().__init__(ConnectConfig(target_host="nowhere"))
        self._answers = {rpc: answer.SerializeToString() for rpc, answer in answers.items()}

    @property
    def worker_service_client(self) -> NoReturn:
        raise NotImplementedError

    def update_rpc_metadata(self, metadata: Mapping[str, str | bytes]) -> None:
        raise NotImplementedError

    def update_api_key(self, api_key: str | None) -> None:
        raise NotImplementedError

    async def _rpc_call(
        self,
        rpc: str,
        req: Message,
        resp_type: type[ResponseT],
        *,
        service: str,
        retry: bool,
        metadata: Mapping[str, str | bytes],
        timeout: timedelta | None,  # noqa: ASYNC109 - the SDK's own name
    ) -> ResponseT:
        del service, retry, metadata, timeout
        req.SerializeToString()
        return resp_type.FromString(self._answers[rpc])


def _claim(client: Client) -> Part:
    """A claim that starts a key: from its own input to the request that starts the key's workflow."""
    message = encode(ClaimInput(question=_QUESTION, plan=_PLAN, sighting=Sighting(unknown=True))).payload
    arguments = pack([_RESULT]).payload
    claims = Claims(task_queue="dedupe")
    left_open = _left_open()
    del client

    async def claim() -> None:
        received = decode(ClaimInput, message)
        try:
            await claims.claim(Claim.of(received.question, received.plan, arguments), received.sighting)
        except left_open:
            return
        error = "this claim has started nothing"
        raise RuntimeError(error)

    return claim


def _left_open() -> type[BaseException]:
    """Return the type of what a claim ends with that waits. The SDK has no name for it."""
    try:
        activity.raise_complete_async()
    except BaseException as error:  # noqa: BLE001 - whatever it is
        return type(error)


def _start(client: Client) -> Part:
    """The SDK's part of a claim: a workflow is started with an input that is there already."""
    start = encode(Start(key=_QUESTION.key, activity=_QUESTION.activity, plan=_PLAN, waiters=(_WAITER,)))
    inputs = [start, pack([_RESULT])]

    async def begin() -> None:
        await client.start_workflow(KEY_WORKFLOW, args=inputs, id=_QUESTION.key_id, task_queue="dedupe")

    return begin


def _hit(client: Client) -> Part:
    """A hit: from the peek's question, by way of the key's history, to the activity's result."""
    message = encode(Peek(question=_QUESTION, task=3)).payload
    peeks = Peeks()

    async def hit() -> None:
        peek = decode(Peek, message)
        key = KeyHandle(client=client, key_id=peek.question.key_id)
        left = await peeks.peek(peek, key, run_id="run", skips_time=False)
        if decode_answer(left.payload) != _RESULT:
            error = "this is no hit"
            raise RuntimeError(error)

    return hit


def _read(client: Client) -> Part:
    """The SDK's part of a hit: one page of a history is read, and dropped."""

    async def read() -> None:
        history = client.get_workflow_handle(_QUESTION.key_id).fetch_history_events(page_size=PAGE)
        await history.fetch_next_page()

    return read


_PARTS: Mapping[str, Callable[[Client], Part]] = {
    "claim": _claim,
    "of which the SDK's start of a workflow": _start,
    "hit": _hit,
    "of which the SDK's read of a history": _read,
}


def _history() -> list[HistoryEvent]:
    """Return the history of a key that was executed once, and returned."""
    started = HistoryEvent(event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
    attributes = started.workflow_execution_started_event_attributes
    attributes.workflow_type.name = KEY_WORKFLOW
    start = Start(key=_QUESTION.key, activity=_QUESTION.activity, plan=_PLAN, waiters=(_WAITER,))
    inputs: list[RawValue] = [encode(start), pack([_RESULT])]
    attributes.input.payloads.extend(value.payload for value in inputs)
    scheduled = HistoryEvent(event_type=EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
    execution = scheduled.activity_task_scheduled_event_attributes
    execution.activity_id = format_activity_id(1, "01a20986-33f4-7be9-a01a-46f629883604-1")
    execution.activity_type.name = _QUESTION.activity
    completed = HistoryEvent(event_type=EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
    completed.activity_task_completed_event_attributes.result.payloads.append(_RESULT)
    task = [
        HistoryEvent(event_type=EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED),
        HistoryEvent(event_type=EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED),
        HistoryEvent(event_type=EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED),
    ]
    return [started, *task, scheduled, completed, *task]


async def _repeat(part: str, times: int) -> None:
    history = GetWorkflowExecutionHistoryResponse()
    history.history.events.extend(_history())
    service = _Service(
        {
            "start_workflow_execution": StartWorkflowExecutionResponse(run_id="run", started=True),
            "get_workflow_execution_history": history,
        }
    )
    client = Client(service)
    environment = ActivityEnvironment(client)
    environment.info = replace(environment.info, activity_type=CLAIM)
    once = _PARTS[part](client)

    async def over_and_over() -> None:
        for _ in range(times):
            await once()

    await environment.run(over_and_over)


def main() -> None:
    """Read the command line, and do a part so many times."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions")
    parser.add_argument("part", choices=tuple(_PARTS))
    parser.add_argument("times", type=int)
    options = parser.parse_args()
    asyncio.run(_repeat(options.part, options.times))


if __name__ == "__main__":
    main()
