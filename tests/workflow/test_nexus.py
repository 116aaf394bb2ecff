"""The Nexus service on a real server: jobs of two namespaces share one execution."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError, NexusOperationError
from temporalio.worker import Worker

from dedupe.reach.nexus import DedupeService, DedupeServiceHandler, NexusCall
from tests.support.ground import Ground
from tests.support.nexus import make_endpoint
from tests.support.scripts import Call, returned
from tests.support.servers import new_namespace


@dataclass
class Asked:
    """What a job of another namespace asks for."""

    endpoint: str
    call: NexusCall = field(default_factory=lambda: NexusCall(activity="effect", key="key"))


@workflow.defn
class OtherNamespaceJob:
    """Calls by way of the endpoint; it knows nothing of the package but the service's name and input."""

    @workflow.run
    async def run(self, asked: Asked) -> Any:
        """Return what the operation returned."""
        client = workflow.create_nexus_client(service=DedupeService, endpoint=asked.endpoint)
        return await client.execute_operation(DedupeService.call, asked.call)


@pytest.fixture
async def other_namespace(real_client: Client) -> Client:
    """A client of another namespace of the same server."""
    return await new_namespace(real_client)


@pytest.fixture
async def endpoint(real: Ground) -> str:
    """An endpoint whose target is the ground's task queue."""
    return await make_endpoint(real)


@pytest.fixture
async def others(other_namespace: Client) -> AsyncIterator[Client]:
    """The other namespace, with a worker of its job that has no plugin."""
    async with Worker(other_namespace, task_queue="elsewhere", workflows=[OtherNamespaceJob]):
        yield other_namespace


async def asked(others: Client, endpoint: str, call: NexusCall) -> Any:
    """Run a job of the other namespace."""
    return await others.execute_workflow(
        OtherNamespaceJob.run, Asked(endpoint, call), id=f"job-{uuid4()}", task_queue="elsewhere"
    )


def effect(argument: Any = "elsewhere", **options: Any) -> NexusCall:
    """Return a call of the ground's effect."""
    return NexusCall(activity="effect", key="key", arguments=[argument], start_to_close_timeout=5, **options)


async def test_two_namespaces_share_one_effect(real: Ground, others: Client, endpoint: str) -> None:
    """Jobs here and there, at once: one executes, and all have its result."""
    async with real.worker(nexus_service_handlers=[DedupeServiceHandler()]):
        there = [asked(others, endpoint, effect()) for _ in range(5)]
        here = [real.call(Call(argument="here")) for _ in range(5)]
        found = await asyncio.gather(*there), await asyncio.gather(*here)
        assert len(real.effects.attempts) == 1
        [result] = real.effects.arguments
        assert found == ([result] * 5, [returned(result)] * 5)


async def test_failures_cross_the_border(real: Ground, others: Client, endpoint: str) -> None:
    """A failure is one of the operation, with its cause; with skip_failure it is the result."""
    real.effects.then(ApplicationError("not today", type="Refused", non_retryable=True))
    async with real.worker(nexus_service_handlers=[DedupeServiceHandler()]):
        with pytest.raises(WorkflowFailureError) as raised:
            await asked(others, endpoint, effect())
        assert isinstance(raised.value.cause, NexusOperationError)
        assert "not today" in _chain(raised.value)
        skipped = await asked(others, endpoint, effect(skip_failure=True))
        assert (skipped["type"], skipped["reused"]) == ("Refused", True)
    assert len(real.effects.attempts) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"scope": "galaxy"}, "Scope"),
        ({"scope": "job"}, "jobs of one type"),
        ({"on_unknown": "wait"}, 'give "repeat" or "hold"'),
    ],
)
async def test_what_cannot_be_meant_is_an_error(
    real: Ground, others: Client, endpoint: str, options: dict[str, Any], reason: str
) -> None:
    """It fails the operation at once, and nothing is executed."""
    async with real.worker(nexus_service_handlers=[DedupeServiceHandler()]):
        with pytest.raises(WorkflowFailureError) as raised:
            await asyncio.wait_for(asked(others, endpoint, effect(**options)), 20)
        assert reason in _chain(raised.value)
    assert real.effects.attempts == []


def _chain(error: BaseException | None) -> str:
    said: list[str] = []
    while error is not None:
        said.append(str(error))
        error = error.__cause__
    return " <- ".join(said)
