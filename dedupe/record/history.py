"""What the service knows of workflows, as readers fetch it, past the interceptors of the user's client."""

from collections.abc import AsyncGenerator
from datetime import timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import HistoryEventFilterType
from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    GetWorkflowExecutionHistoryRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from dedupe.record.events import Events

_POLL_TIMEOUT = timedelta(seconds=60)
"""Of a request that waits for an event: the service answers an empty one after about 20 seconds."""


async def fetch(client: Client, workflow_id: str, *, run_id: str = "") -> Events | None:
    """Return the history of a key's current run, or of one run; None where the service knows none.

    Raises:
        RPCError: The service could not be asked.
    """
    try:
        events = Events()
        async for page in _pages(client, workflow_id, run_id=run_id):
            for event in page:
                events.apply(event)
    except RPCError as error:
        if is_missing(error):
            return None
        raise
    return events


async def follow(client: Client, workflow_id: str, *, run_id: str, after: int = 0) -> Events:
    """Return the history of one run when its execution has ended, its outcome is unknown, or the run was
    closed. Waits for that.

    Args:
        client: Of the workflow's namespace.
        workflow_id: Of a key.
        run_id: The run.
        after: The event up to which its history is known.

    Raises:
        RPCError: The service could not be asked, or knows no such run.
    """
    events = Events()
    async for page in _pages(client, workflow_id, run_id=run_id, wait=True):
        for event in page:
            events.apply(event)
        if events.say_more(than=after):
            break
    return events


async def events_of(client: Client, workflow_id: str, *, run_id: str) -> AsyncGenerator[HistoryEvent]:
    """Yield the events of one run of any workflow.

    Raises:
        RPCError: The service could not be asked, or knows no such run.
    """
    async for page in _pages(client, workflow_id, run_id=run_id):
        for event in page:
            yield event


async def describe(
    client: Client, workflow_id: str, *, run_id: str = ""
) -> DescribeWorkflowExecutionResponse | None:
    """Return what the service says of one run of any workflow; None where it knows it no more.

    Raises:
        RPCError: The service could not be asked.
    """
    request = DescribeWorkflowExecutionRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id)
    )
    try:
        return await client.workflow_service.describe_workflow_execution(request, retry=True)
    except RPCError as error:
        if is_missing(error):
            return None
        raise


async def _pages(
    client: Client, workflow_id: str, *, run_id: str, wait: bool = False
) -> AsyncGenerator[list[HistoryEvent]]:
    request = GetWorkflowExecutionHistoryRequest(
        namespace=client.namespace,
        execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
        wait_new_event=wait,
        history_event_filter_type=HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT,
        skip_archival=True,
    )
    while True:
        response = await client.workflow_service.get_workflow_execution_history(
            request, retry=True, timeout=_POLL_TIMEOUT if wait else None
        )
        yield list(response.history.events)
        if not response.next_page_token:
            return
        request.next_page_token = response.next_page_token


def is_missing(error: RPCError) -> bool:
    """Return whether the service knows no such run. That it knows no such namespace is another matter."""
    return error.status == RPCStatusCode.NOT_FOUND and not any(
        detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in error.grpc_status.details
    )
