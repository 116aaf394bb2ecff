"""The history of a key's workflow, as its readers fetch it: no more of it than tells what is recorded.

A key is read as it is now: by its current run, and anew where that ends while it is read.
"""

from collections.abc import Awaitable, Callable

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryReverseRequest
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from dedupe.pages import Pages

_FIRST_PAGE = 20
"""Batches of events, as the service wrote them: more than a key has that succeeded at once."""
_LAST_PAGE = 100
"""Batches of events."""


async def fetch_whole(client: Client, key_id: str) -> Pages | None:
    """Return the whole history of a key's current run; None where the service knows no run.

    Raises:
        RPCError: The service could not be asked.
    """
    return await _current(_whole, client, key_id)


async def fetch_enough(client: Client, key_id: str) -> Pages | None:
    """Return as much as tells what is recorded; None where the service knows no run.

    Mostly that is one round trip, and three at the most, though thousands wait for the key.

    Raises:
        RPCError: The service could not be asked.
    """
    return await _current(_enough, client, key_id)


async def _current(
    read_pages: Callable[[Client, str], Awaitable[Pages]], client: Client, key_id: str
) -> Pages | None:
    """Return the pages of the current run; None where the service knows no run.

    A run that continued as new while it was read is no longer the current one.
    """
    try:
        pages = await read_pages(client, key_id)
        while pages.closed_by == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
            pages = await read_pages(client, key_id)
    except RPCError as error:
        if _is_missing(error):
            return None
        raise
    return pages


async def _whole(client: Client, key_id: str) -> Pages:
    pages = Pages()
    async for event in client.get_workflow_handle(key_id).fetch_history_events():
        pages.apply(event)
    return pages


async def _enough(client: Client, key_id: str) -> Pages:
    """Return the pages that tell what is recorded: all of a short history, and of a long one both ends.

    Where many wait for an execution both ends are about them. So the service is asked first whether one is on
    its way; that takes as long whoever waits.
    """
    pages = Pages()
    history = client.get_workflow_handle(key_id).fetch_history_events(page_size=_FIRST_PAGE)
    await history.fetch_next_page()
    for event in history.current_page or ():
        pages.apply(event)
    if not history.next_page_token:
        return pages
    if not pages.has_succeeded:
        now = await client.get_workflow_handle(key_id).describe()
        if now.run_id != pages.run_id:  # another run began meanwhile, or the key was reset
            return await _whole(client, key_id)
        pages.pending = _pending(now)
        if pages.pending is not None:
            return pages
    last = await _last_events(client, key_id, run_id=pages.run_id)
    pages.apply_last(last)
    # A run that is closed may have been followed by another.
    if last and pages.ended is not None and pages.closed_by is None:
        return pages
    return await _whole(client, key_id)


def _pending(run: WorkflowExecutionDescription) -> PendingActivityInfo | None:
    """Return the real activity, if it is scheduled or runs: the only one that a key's workflow has."""
    if run.status is not WorkflowExecutionStatus.RUNNING:
        return None
    return next(iter(run.raw_description.pending_activities), None)


async def _last_events(client: Client, key_id: str, *, run_id: str) -> list[HistoryEvent]:
    """Return the last events of one run. None are left of a run that is deleted, or was reset long ago."""
    try:
        response = await client.workflow_service.get_workflow_execution_history_reverse(
            GetWorkflowExecutionHistoryReverseRequest(
                namespace=client.namespace,
                execution=WorkflowExecution(workflow_id=key_id, run_id=run_id),
                maximum_page_size=_LAST_PAGE,
            ),
            retry=True,
        )
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return []
        raise
    return list(reversed(response.history.events))


def _is_missing(error: RPCError) -> bool:
    """Return whether the service knows no such run. That it knows no such namespace is another matter."""
    return error.status == RPCStatusCode.NOT_FOUND and not any(
        detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in error.grpc_status.details
    )
