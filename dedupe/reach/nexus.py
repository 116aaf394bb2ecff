"""The Nexus service: jobs in other namespaces and other languages make calls with a key.

A worker with the plugin serves it (`nexus_service_handlers=[DedupeServiceHandler()]`), beside its jobs and
activities. Its input is plain JSON, so that any SDK can send it. Keys live in the namespace of that worker:
calls of all namespaces that use one endpoint share them.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import nexusrpc
from nexusrpc.handler import service_handler
from pydantic import ValidationError
from temporalio import nexus
from temporalio.common import RetryPolicy

from dedupe.model.keys import Scope
from dedupe.model.messages import CallOrder, Plan
from dedupe.model.payloads import pack, pack_with, said_in
from dedupe.reach.job import OrderedCall


@dataclass
class NexusCall:
    """A call, as JSON. Times are in seconds."""

    activity: str
    """By its registered name."""
    key: str
    arguments: list[Any] = field(default_factory=list[Any])
    """Of the activity."""
    scope: str = "project"
    """"project", or "organization"."""
    start_to_close_timeout: float | None = None
    schedule_to_close_timeout: float | None = None
    """Bounds the whole call, and its wait."""
    heartbeat_timeout: float | None = None
    maximum_attempts: int = 0
    """0: as many as there is time for."""
    skip_failure: bool = False
    """Whether a failure is the result: the fields of a `FailedResult`."""
    ttl: float | None = None
    """How long the outcome is kept; None: for ever."""
    on_mismatch: str | None = None
    on_unknown: str | None = None
    reconcile: str | None = None
    """Name of the activity that finds out what became of an attempt without an answer."""


@nexusrpc.service(name="dedupe")
class DedupeService:
    """What callers see."""

    call: nexusrpc.Operation[NexusCall, Any]
    """Execute an activity once per key, and return its result."""


@service_handler(service=DedupeService)
class DedupeServiceHandler:
    """Serves `DedupeService`. Each call is a job of the worker that serves it."""

    @nexus.workflow_run_operation
    async def call(
        self, context: nexus.WorkflowRunOperationContext, call: NexusCall
    ) -> nexus.WorkflowHandle[Any]:
        """Start the job that makes the call; its result is the operation's.

        Raises:
            HandlerError: The input cannot be meant.
        """
        try:
            order = _order(call)
        except (ValidationError, ValueError) as error:
            raise nexusrpc.HandlerError(said_in(error), type=nexusrpc.HandlerErrorType.BAD_REQUEST) from error
        converter = nexus.client().data_converter.payload_converter
        payloads = converter.to_payloads(call.arguments) if call.arguments else []
        handle = await context.start_workflow(
            OrderedCall.run,
            pack_with(order, pack(payloads).payload),
            id=f"dedupe-call-{context.request_id}",
        )
        return cast("nexus.WorkflowHandle[Any]", handle)


def _order(call: NexusCall) -> CallOrder:
    """Return what the job is to call.

    Raises:
        ValueError: The input cannot be meant.
    """
    return CallOrder(
        activity=call.activity,
        key=call.key,
        scope=Scope(call.scope),
        skip_failure=call.skip_failure,
        ttl=_seconds(call.ttl),
        on_mismatch=call.on_mismatch,
        on_unknown=call.on_unknown,
        reconcile=call.reconcile,
        plan=Plan(
            task_queue=nexus.info().task_queue,
            start_to_close_timeout=_seconds(call.start_to_close_timeout),
            schedule_to_close_timeout=_seconds(call.schedule_to_close_timeout),
            heartbeat_timeout=_seconds(call.heartbeat_timeout),
            retry_policy=RetryPolicy(maximum_attempts=call.maximum_attempts),
        ),
    )


def _seconds(time: float | None) -> timedelta | None:
    return None if time is None else timedelta(seconds=time)
