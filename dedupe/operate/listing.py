"""Which keys there are, as the service's visibility tells, or the lists of the time-skipping server."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which keys are meant."""

    prefix: str
    """What the ids of their workflows begin with."""
    since: datetime | None = None
    """When their executions were begun, at the earliest."""
    until: datetime | None = None
    """When their executions were begun, at the latest."""
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    """What search attributes of theirs have to be."""
    matching: str | None = None
    """A query that their workflows have to match as well."""
    or_closed: bool = False
    """Whether those that are closed are meant as well, of which the last run may be no record."""

    @property
    def query(self) -> str:
        """The same as the service's visibility takes it."""
        parts = [_KEYS, f"WorkflowId STARTS_WITH '{self.prefix}'"]
        if not self.or_closed:
            parts.append("CloseTime IS NULL")
        parts += [f"{name} = {_quoted(value)}" for name, value in self.attributes.items()]
        for comparison, time in ((">=", self.since), ("<=", self.until)):
            if time is not None:
                parts.append(f"StartTime {comparison} '{time.astimezone(UTC).isoformat()}'")
        if self.matching is not None:
            parts.append(f"({self.matching})")
        return " AND ".join(parts)

    def is_in_time(self, begun: datetime) -> bool:
        """Return whether an execution that was begun then is meant."""
        return (self.since is None or begun >= self.since) and (self.until is None or begun <= self.until)


async def key_ids(client: Client, wanted: Filter, *, page_size: int = 0) -> AsyncIterator[str]:
    """Yield the ids of keys' workflows, so many at a time; 0: as the service likes.

    Raises:
        ValueError: It is the time-skipping server, and a query is given.
        RPCError: The service could not be asked, or does not take the query.
    """
    if await is_time_skipping(client):
        if wanted.matching is not None:
            raise ValueError("the time-skipping server takes no queries")
        for key_id in await _all_ids(client, wanted):
            yield key_id
        return
    async for found in _found(client, wanted.query, page_size=page_size):
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


def _quoted(value: str) -> str:
    """Return a string of a query."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


async def _all_ids(client: Client, wanted: Filter) -> list[str]:
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
        key_id = each.execution.workflow_id
        is_key = each.type.name in {IN_PLACE, DELEGATED} and key_id.startswith(wanted.prefix)
        if is_key and wanted.is_in_time(begun):
            ids[key_id] = None
    return list(ids)
