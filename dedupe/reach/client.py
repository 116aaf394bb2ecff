"""The client: calls with a key from a process that has no job, such as a web handler.

A call starts a job of this package on a task queue of the user's, where a worker with the plugin makes it as
any job does: so it is recorded, joined and reused like any other, and outlives the process that asked.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar, cast
from uuid import uuid4

from pydantic import ValidationError
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.workflow import ActivityHandle

from dedupe.errors import DedupeError, InvalidCallError
from dedupe.job import calls
from dedupe.model.declared import declared_by, declared_key
from dedupe.model.failed_result import decode_failed_result
from dedupe.model.messages import CallOrder, Plan
from dedupe.model.names import ORDERED
from dedupe.model.payloads import cut, pack, pack_with, said_in
from dedupe.sdk import name_of, result_type_of

R = TypeVar("R")
Ps = ParamSpec("Ps")

_NO_ARGUMENT: Any = object()


_Start = Callable[..., Coroutine[Any, Any, "CallHandle[Any]"]]


@dataclass(frozen=True)
class CallHandle(Generic[R]):
    """A call that is on its way."""

    job: WorkflowHandle[Any, RawValue]
    """The job that makes it."""
    client: Client
    result_type: type | None

    async def result(self) -> R:
        """Wait for the end of the call, and return its result.

        Raises:
            ActivityError: The activity failed; as a call in a job would raise it.
            DedupeError: The call cannot be carried out, or its answer cannot be read.
            WorkflowFailureError: The job was terminated or cancelled, or timed out.
            RPCError: The service could not be asked.
        """
        try:
            value = await self.job.result()
        except WorkflowFailureError as error:
            cause = error.cause
            if isinstance(cause, ActivityError):
                raise cause from cause.__cause__  # as it was raised in the job
            restored = DedupeError.restore(cause) if isinstance(cause, ApplicationError) else None
            if restored is not None:
                raise restored from error
            raise
        failed = decode_failed_result(value.payload)
        if failed is not None:
            return cast("R", failed)
        types = None if self.result_type is None else [self.result_type]
        [result] = self.client.data_converter.payload_converter.from_payloads([value.payload], types)
        return cast("R", result)


class DedupeClient:
    """Makes calls from outside of jobs. The plugin of the worker that makes them says whose keys they are."""

    def __init__(self, client: Client, *, task_queue: str) -> None:
        """Make calls through a client.

        Args:
            client: Of the workers' namespace, with their data converter. It needs no plugin.
            task_queue: Where workers with the plugin run jobs, and the activities that are called.
        """
        self._client = client
        self._task_queue = task_queue
        self.execute_activity = self._executing(calls.start_activity)
        """Execute an activity once per key, and return its result: as `dedupe.execute_activity`, without what
        only a job can say (`task_queue`, `activity_id`, `cancellation_type` and the like).

        Raises:
            ActivityError: The activity failed.
            DedupeError: The call cannot be carried out, or its answer cannot be read.
            WorkflowFailureError: The job that makes the call was ended.
            RPCError: The service could not be asked.
        """
        self.start_activity = self._starting(calls.start_activity)
        """Start the same, and return a `CallHandle` as soon as the service knows of it."""

    def _executing(self, like: Callable[Ps, ActivityHandle[R]]) -> Callable[Ps, Coroutine[Any, Any, R]]:
        """Return a function that makes a call and waits for its result. It has all overloads of `like`."""
        start = cast("_Start", self._start)

        async def execute_activity(*args: Ps.args, **kwargs: Ps.kwargs) -> R:
            handle: CallHandle[R] = await start(*args, **kwargs)
            return await handle.result()

        del like
        return execute_activity

    def _starting(
        self, like: Callable[Ps, ActivityHandle[R]]
    ) -> Callable[Ps, Coroutine[Any, Any, CallHandle[R]]]:
        """Return a function that starts a call. It has all overloads of `like`."""
        start = cast("_Start", self._start)

        async def start_activity(*args: Ps.args, **kwargs: Ps.kwargs) -> CallHandle[R]:
            handle: CallHandle[R] = await start(*args, **kwargs)
            return handle

        del like
        return start_activity

    async def _start(
        self,
        activity: Any,
        arg: Any = _NO_ARGUMENT,
        *,
        args: Sequence[Any] = (),
        result_type: type | None = None,
        **options: Any,
    ) -> CallHandle[Any]:
        name = name_of(activity)
        arguments = args if arg is _NO_ARGUMENT else [arg]
        if (declared := declared_by(activity)) is not None:
            options = {**declared.options, **options}
        key = str(options.pop("deduplication_key", ""))
        try:
            if declared is not None and not key:
                key = declared_key(declared, arguments)
            order = _order(name, key, options, task_queue=self._task_queue)
        except (ValidationError, ValueError, TypeError) as error:
            raise InvalidCallError(activity=name, key=key, reason=said_in(error)) from error
        payloads = self._client.data_converter.payload_converter.to_payloads(arguments) if arguments else []
        job: WorkflowHandle[Any, RawValue] = await self._client.start_workflow(
            ORDERED,
            pack_with(order, pack(payloads).payload),
            id=f"dedupe-call-{uuid4()}",
            task_queue=self._task_queue,
            result_type=RawValue,
            static_summary=None if order.plan.summary is None else cut(order.plan.summary),
        )
        return CallHandle(job, self._client, result_type or result_type_of(activity))


def _order(activity: str, key: str, options: dict[str, Any], *, task_queue: str) -> CallOrder:
    """Return what the job is to call.

    Raises:
        ValueError: An option is not known, or cannot be meant.
    """
    reconcile = options.pop("reconcile", None)
    of_call = {
        field: options.pop(option)
        for option, field in (
            ("deduplication_scope", "scope"),
            ("deduplication_ttl", "ttl"),
            ("on_mismatch", "on_mismatch"),
            ("on_unknown", "on_unknown"),
            ("skip_failure", "skip_failure"),
        )
        if option in options
    }
    if unknown := options.keys() - (Plan.model_fields.keys() - {"task_queue", "headers"}):
        message = f"{', '.join(sorted(unknown))} cannot be given from outside of a job"
        raise ValueError(message)
    return CallOrder(
        activity=activity,
        key=key,
        reconcile=None if reconcile is None else name_of(reconcile),
        plan=Plan(task_queue=task_queue, **options),
        **of_call,
    )
