"""Instructions of the Python part of a miss and of a hit, counted by valgrind.

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
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryResponse,
    SignalWorkflowExecutionResponse,
    StartWorkflowExecutionResponse,
)
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.service import ConnectConfig, ServiceClient
from temporalio.testing import ActivityEnvironment

from benchmarks.jobs import PAGE
from dedupe.claims.peek import Peeks
from dedupe.execution.attempt import Attempt
from dedupe.model.answer import SucceededAnswer, decode_answer
from dedupe.model.messages import Owner, Peek, Peeked, Question, Start
from dedupe.model.names import IN_PLACE, OUTCOME, PEEK
from dedupe.model.outcome import Succeeded, encode_outcome
from dedupe.model.payloads import decode, encode
from dedupe.record.handle import KeyHandle

_FEW, _MANY = 100, 300
_COLLECTED = re.compile(r"Collected : (\d+)")
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_RESULT = Payload(metadata={"encoding": b"json/plain"}, data=b'"done"')
_QUESTION = Question(
    key_id="proj:acme/web:welcome-email-42", key="welcome-email-42", activity="send_email", called_at=_NOW
)
_OWNER = Owner(workflow_id="job", run_id="run", activity_id="1", workflow_type="Job", task_queue="jobs")
_START = Start(key=_QUESTION.key, activity=_QUESTION.activity, idempotency_key="key-1", owner=_OWNER)
_TASK_QUEUE = "dedupe"


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


def _miss(client: Client) -> Part:
    """A miss: the key is acquired, an effect that does nothing has happened, and its result is recorded."""
    attempt = Attempt(
        key=KeyHandle(client=client, key_id=_QUESTION.key_id),
        question=_QUESTION,
        ttl=None,
        waited_for=None,
        owner=_OWNER,
        number=1,
        asked_at=_NOW,
        now=_NOW,
        started_at=_NOW,
        task_queue=_TASK_QUEUE,
    )

    async def effect(_: Start) -> Payload:
        return _RESULT

    async def miss() -> None:
        _require_result(await attempt.run(effect, encode=lambda result: result))

    return miss


def _start_and_signal(client: Client) -> Part:
    """The SDK's part of a miss: a workflow is started and signalled, with inputs that are there already."""
    start, outcome = encode(_START), RawValue(encode_outcome(Succeeded(_RESULT)))
    key = client.get_workflow_handle(_QUESTION.key_id)

    async def begin() -> None:
        await client.start_workflow(IN_PLACE, start, id=_QUESTION.key_id, task_queue=_TASK_QUEUE)
        await key.signal(OUTCOME, outcome)

    return begin


def _hit(client: Client) -> Part:
    """A hit: from the peek's question, by way of the key's history, to the activity's result."""
    message = encode(Peek(questions=(Peeked(question=_QUESTION),), task=3)).payload
    peeks = Peeks(client, in_place=frozenset())

    async def hit() -> None:
        [answer] = await peeks.peek(decode(Peek, message), run_id="run")
        _require_result(answer)

    return hit


def _require_result(payload: Payload) -> None:
    answer = decode_answer(payload)
    if not isinstance(answer, SucceededAnswer) or answer.result != _RESULT:
        error = f"this is not the result: {payload}"
        raise RuntimeError(error)


def _read(client: Client) -> Part:
    """The SDK's part of a hit: one page of a history is read, and dropped."""

    async def read() -> None:
        history = client.get_workflow_handle(_QUESTION.key_id).fetch_history_events(page_size=PAGE)
        await history.fetch_next_page()

    return read


_PARTS: Mapping[str, Callable[[Client], Part]] = {
    "miss": _miss,
    "of which the SDK's start and signal of a workflow": _start_and_signal,
    "hit": _hit,
    "of which the SDK's read of a history": _read,
}


def _history() -> list[HistoryEvent]:
    """Return the history of a key that was executed once, and returned."""
    started = HistoryEvent(event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
    attributes = started.workflow_execution_started_event_attributes
    attributes.workflow_type.name = IN_PLACE
    attributes.original_execution_run_id = "run"
    attributes.input.payloads.append(encode(_START).payload)
    signaled = HistoryEvent(event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
    signal = signaled.workflow_execution_signaled_event_attributes
    signal.signal_name = OUTCOME
    signal.input.payloads.append(encode_outcome(Succeeded(_RESULT)))
    return [started, signaled]


async def _repeat(part: str, times: int) -> None:
    history = GetWorkflowExecutionHistoryResponse()
    history.history.events.extend(_history())
    service = _Service(
        {
            "start_workflow_execution": StartWorkflowExecutionResponse(run_id="run", started=True),
            "signal_workflow_execution": SignalWorkflowExecutionResponse(),
            "get_workflow_execution_history": history,
        }
    )
    client = Client(service)
    environment = ActivityEnvironment(client)
    environment.info = replace(environment.info, activity_type=PEEK)
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
