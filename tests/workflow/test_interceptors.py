"""Interceptors of the user's own: whatever they do to a deduplicated call, it never runs unprotected."""

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import (
    StartActivityInput,
    UnsandboxedWorkflowRunner,
    Worker,
    WorkflowOutboundInterceptor,
)

from tests.support.ground import Ground
from tests.support.scripts import Call, returned
from tests.workflow.interceptors import Kind, Outbound


@activity.defn
async def audit() -> None:
    """Note something, wherever."""


class _Auditing(WorkflowOutboundInterceptor):
    """Starts an activity of its own, before it passes on the call."""

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        if input.activity == "effect":
            workflow.start_activity(audit, start_to_close_timeout=timedelta(seconds=5))
        return super().start_activity(input)


class _Retrying(WorkflowOutboundInterceptor):
    """Passes on a call that failed once more."""

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        async def twice() -> Any:
            try:
                return await self.next.start_activity(input)
            except ActivityError:
                return await self.next.start_activity(input)

        return workflow.ActivityHandle(twice())


class _Bypassing(WorkflowOutboundInterceptor):
    """Keeps the next interceptor for itself, where nobody else can reach it."""

    def __init__(self, next: WorkflowOutboundInterceptor) -> None:
        super().__init__(next)
        self._own = next

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        return self._own.start_activity(input)


class _Renaming(WorkflowOutboundInterceptor):
    """Starts another activity than the job asked for."""

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        input.activity = "other"
        return super().start_activity(input)


def _worker(ground: Ground, kind: Kind) -> AbstractAsyncContextManager[Worker]:
    ground.interceptors.append(Outbound(kind))
    return ground.worker(activities=[audit], workflow_runner=UnsandboxedWorkflowRunner())


async def test_another_activity_started_on_the_way_is_not_the_one_that_is_meant(real: Ground) -> None:
    """The key belongs to the activity of the call; one that an interceptor starts is a plain one."""
    async with _worker(real, _Auditing):
        assert await real.call() == returned("argument")
        assert await real.call() == returned("argument")
        assert await real.scheduled() == ["audit"]
    assert len(real.effects.attempts) == 1


async def test_a_call_that_is_passed_on_twice_is_protected_twice(real: Ground) -> None:
    """An interceptor that tries a failed call again makes two deduplicated calls."""
    real.effects.then(ApplicationError("no", non_retryable=True))
    async with _worker(real, _Retrying):
        assert await real.call() == returned("argument")
        assert await real.scheduled() == [real.miss_of()] * 2
    assert real.effects.generations == [1, 2]


@pytest.mark.parametrize("kind", [_Bypassing, _Renaming])
async def test_a_call_that_would_run_unprotected_is_refused(real: Ground, kind: Kind) -> None:
    """Where the call does not arrive where it is deduplicated, nothing is scheduled, and the job is told."""
    async with _worker(real, kind):
        ended = await real.call(Call(key="welcome"))
        assert await real.scheduled() == []
    assert ended.error == "InvalidCallError"
    assert "'effect'" in str(ended.message)
    assert "'welcome'" in str(ended.message)
    assert "interceptor" in str(ended.message)
    assert real.effects.attempts == []
