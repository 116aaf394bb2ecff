"""Passthrough: calls with a key as plain calls, for tests that are about something else."""

from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception
from temporalio.plugin import SimplePlugin
from temporalio.worker import (
    Interceptor,
    StartActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from dedupe.job.calls import CALL, SCOPED, Deduplication
from dedupe.model.failed_result import failed_result
from dedupe.model.keys import Keyspace
from dedupe.plugin import passing_through
from dedupe.sdk import innermost, silence


def passthrough() -> SimplePlugin:
    """Return a plugin that has each call with a key executed as a plain call, every time.

    Give it to a client or worker in place of `DedupePlugin`. Invalid keys are still refused, and a call with
    `skip_failure=True` still returns a `FailedResult`.
    """
    return SimplePlugin(
        "dedupe.testing.passthrough",
        interceptors=[_Passthrough()],
        workflow_runner=lambda runner: passing_through(runner or SandboxedWorkflowRunner()),
    )


class _Passthrough(Interceptor):
    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        keyspace = Keyspace(organization="passthrough", project="passthrough")
        input.unsafe_extern_functions[SCOPED] = keyspace.scoped
        return _Inbound


class _Inbound(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(innermost(outbound, _Outbound))


class _Outbound(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        call = CALL.get()
        plain = self.next.start_activity(input)
        if call is None or input.activity != call.activity:
            return plain
        handle = workflow.ActivityHandle(_answer(plain, call))
        silence(handle)
        return handle


async def _answer(plain: workflow.ActivityHandle[Any], call: Deduplication) -> Any:
    try:
        return await plain
    except ActivityError as error:
        if not call.skip_failure or is_cancelled_exception(error):
            raise
        return failed_result(
            error, key=call.key, activity=call.activity, failed_at=workflow.now(), reused=False
        )
