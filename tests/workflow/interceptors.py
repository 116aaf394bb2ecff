"""Interceptors of the user's own, on the way of a call out of its job."""

from collections.abc import Callable
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.worker import (
    Interceptor,
    StartActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

Kind = Callable[[WorkflowOutboundInterceptor], WorkflowOutboundInterceptor]


class Outbound(Interceptor):
    """Puts one outbound interceptor into every workflow."""

    def __init__(self, kind: Kind) -> None:
        """Take its class."""
        self._kind = kind

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor]:
        """See base class."""
        kind = self._kind

        class Inbound(WorkflowInboundInterceptor):
            def init(self, outbound: WorkflowOutboundInterceptor) -> None:
                super().init(kind(outbound))

        return Inbound


class Tracing(Outbound):
    """Sends a header with each activity, as tracing does."""

    def __init__(self) -> None:
        """See the class."""
        super().__init__(_WithTrace)


class ClientTracing(Tracing, ClientInterceptor):
    """The same on the client, as tracing mostly is: it reaches the workers from there."""


class _WithTrace(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        input.headers = {**input.headers, "trace": Payload(data=workflow.info().workflow_id.encode())}
        return super().start_activity(input)
