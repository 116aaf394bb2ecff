"""What a history says, and whether it replays."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory
from temporalio.converter import PayloadCodec
from temporalio.worker import Interceptor, Plugin, Replayer

from dedupe.model.messages import Claim, Order
from dedupe.model.names import CLAIM, MARK, PEEK, RECORD, TWIN
from dedupe.model.payloads import decode, unpack_with

_LOCAL_ACTIVITY = "core_local_activity"
"""Name of the marker of a local activity, in the histories of this SDK."""


async def replay(
    histories: Sequence[WorkflowHistory],
    *,
    workflows: Sequence[type],
    client: Client,
    plugin: Plugin,
    interceptors: Sequence[Interceptor] = (),
) -> None:
    """Replay histories, and raise for the first that does not come out as it went."""

    async def each() -> AsyncIterator[WorkflowHistory]:
        for history in histories:
            yield history

    replayer = Replayer(
        workflows=workflows,
        data_converter=client.data_converter,
        interceptors=interceptors,
        plugins=[plugin],
    )
    await replayer.replay_workflows(each(), raise_on_replay_failure=True)


def text_of(history: WorkflowHistory) -> str:
    """Return all that is written in a history, as whoever searches it for a word would read it.

    The JSON form will not do: it holds payloads in base64.
    """
    return b"".join(event.SerializeToString() for event in history.events).decode(errors="replace")


def types(history: WorkflowHistory) -> list[Any]:
    """Return the types of a history's events."""
    return [event.event_type for event in history.events]


def has_run(history: WorkflowHistory) -> bool:
    """Return whether a workflow has been asked to run at all: one that has not cannot be replayed."""
    return EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED in types(history)


def scheduled(history: WorkflowHistory) -> list[str]:
    """Return the types of the activities that a history schedules."""
    return [
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    ]


def signals(history: WorkflowHistory) -> list[str]:
    """Return the names of the signals that a history received."""
    return [
        event.workflow_execution_signaled_event_attributes.signal_name
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    ]


def markers(history: WorkflowHistory) -> list[str]:
    """Return the types of the local activities that a history recorded."""
    recorded: list[str] = []
    for event in history.events:
        if event.marker_recorded_event_attributes.marker_name == _LOCAL_ACTIVITY:
            details = event.marker_recorded_event_attributes.details["data"].payloads[0].data
            recorded.append(next(name for name in (PEEK, RECORD) if name.encode() in details))
    return recorded


async def keys_of(history: WorkflowHistory, codec: PayloadCodec | None = None) -> list[str]:
    """Return the ids of the keys that a job executed or claimed."""
    ids: list[str] = []
    for event in history.events:
        attributes = event.activity_task_scheduled_event_attributes
        name = attributes.activity_type.name
        if name == CLAIM:
            payloads: Sequence[Payload] = attributes.input.payloads
            if codec is not None:
                payloads = await codec.decode(payloads)
            claim, _ = unpack_with(Claim, payloads[0])
            ids.append(claim.question.key_id)
        elif name.startswith(TWIN):
            header = attributes.header.fields[MARK]
            if MARK not in header.metadata and codec is not None:
                [header] = await codec.decode([header])
            ids.append(decode(Order, header).key_id)
    return ids
