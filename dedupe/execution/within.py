"""Within: a job that an execution starts knows of that execution.

The activity of a key may start a job and wait for it. If that job asked for the same key, each would wait for
the other. So the client, while an activity runs under a key, tells the jobs it starts; they tell their
children and their activities, and such a call is refused.
"""

from typing import Any

from temporalio import activity
from temporalio.client import (
    Interceptor,
    OutboundInterceptor,
    StartWorkflowInput,
    StartWorkflowUpdateWithStartInput,
    WorkflowHandle,
    WorkflowUpdateHandle,
)

from dedupe.execution.current import OUTSIDE, current_execution
from dedupe.model.names import WITHIN
from dedupe.model.payloads import encode_within


class WithinInterceptor(Interceptor):
    """Tells the jobs that a client starts within which executions it does."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        """See base class."""
        return _Outbound(next)


class _Outbound(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        within = _within()
        if within:
            input.headers = {**input.headers, WITHIN: encode_within(within)}
        return await super().start_workflow(input)

    async def start_update_with_start_workflow(
        self, input: StartWorkflowUpdateWithStartInput
    ) -> WorkflowUpdateHandle[Any]:
        within = _within()
        if within:
            start = input.start_workflow_input
            start.headers = {**start.headers, WITHIN: encode_within(within)}
        return await super().start_update_with_start_workflow(input)


def _within() -> frozenset[str]:
    """Return the idempotency keys of the executions that are under way around this line."""
    if not activity.in_activity():
        return frozenset()
    execution = current_execution()
    inside = frozenset[str]() if execution is None else frozenset({execution.idempotency_key})
    return OUTSIDE.get() | inside
