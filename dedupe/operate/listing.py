"""Which keys there are, as the service's visibility tells, or the lists of the time-skipping server."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    ListClosedWorkflowExecutionsRequest,
    ListOpenWorkflowExecutionsRequest,
    ListWorkflowExecutionsRequest,
)
from temporalio.client import Client

from dedupe.model.names import DELEGATED, IN_PLACE
from dedupe.record.timeskipping import is_time_skipping

AT_ONCE = 50
"""How many keys are asked for at the same time."""
_KEYS = f"WorkflowType IN ('{IN_PLACE}', '{DELEGATED}')"

T = TypeVar("T")
R = TypeVar("R")


async def key_ids(
    client: Client,
    *,
    prefix: str,
    since: datetime | None = None,
    until: datetime | None = None,
    or_closed: bool = False,
    page_size: int = 0,
) -> AsyncIterator[str]:
    """Yield the ids of keys' workflows.

    Args:
        client: Of the service.
        prefix: What they begin with.
        since: When their executions were begun, at the earliest.
        until: When their executions were begun, at the latest.
        or_closed: Whether to yield those that are closed as well, of which the last run may be no record.
        page_size: How many are asked for at a time; 0: as the service likes.

    Raises:
        RPCError: The service could not be asked.
    """
    if await is_time_skipping(client):
        for key_id in await _all_ids(client, since=since, until=until):
            if key_id.startswith(prefix):
                yield key_id
        return
    query = f"{_KEYS} AND WorkflowId STARTS_WITH '{prefix}'"
    if not or_closed:
        query += " AND CloseTime IS NULL"
    for comparison, time in ((">=", since), ("<=", until)):
        if time is not None:
            query += f" AND StartTime {comparison} '{time.astimezone(UTC).isoformat()}'"
    async for found in _found(client, query, page_size=page_size):
        yield found.execution.workflow_id


async def closed_runs(client: Client, *, key_id: str) -> AsyncIterator[str]:
    """Yield the runs of a key's workflow that are closed, the latest first.

    Raises:
        RPCError: The service could not be asked, or is the time-skipping server.
    """
    query = f"{_KEYS} AND CloseTime IS NOT NULL AND WorkflowId = '{key_id}'"
    async for found in _found(client, query, page_size=0):
        yield found.execution.run_id


async def in_order(
    given: AsyncIterator[T], function: Callable[[T], Awaitable[R]], *, at_once: int
) -> AsyncIterator[R]:
    """Yield what a function returns for each of many, in their order; some are under way at once."""
    under_way: deque[asyncio.Future[R]] = deque()
    try:
        async for each in given:
            under_way.append(asyncio.ensure_future(function(each)))
            if len(under_way) >= at_once:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        for future in under_way:
            future.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _found(client: Client, query: str, *, page_size: int) -> AsyncIterator[WorkflowExecutionInfo]:
    request = ListWorkflowExecutionsRequest(namespace=client.namespace, query=query, page_size=page_size)
    while True:
        response = await client.workflow_service.list_workflow_executions(request, retry=True)
        for each in response.executions:
            yield each
        if not response.next_page_token:
            return
        request.next_page_token = response.next_page_token


async def _all_ids(client: Client, *, since: datetime | None, until: datetime | None) -> list[str]:
    """Return the ids that the time-skipping server has, open and closed: it answers no query."""
    service, namespace = client.workflow_service, client.namespace
    is_open = await service.list_open_workflow_executions(
        ListOpenWorkflowExecutionsRequest(namespace=namespace), retry=True
    )
    is_closed = await service.list_closed_workflow_executions(
        ListClosedWorkflowExecutionsRequest(namespace=namespace), retry=True
    )
    ids: dict[str, None] = {}  # a key that was executed again has several runs
    for each in (*is_open.executions, *is_closed.executions):
        begun = each.start_time.ToDatetime(tzinfo=UTC)
        is_in_time = (since is None or begun >= since) and (until is None or begun <= until)
        if each.type.name in {IN_PLACE, DELEGATED} and is_in_time:
            ids[each.execution.workflow_id] = None
    return list(ids)
