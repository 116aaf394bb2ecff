"""The shield: keeps the end of its job from an effect that is under way.

A job that is closed no longer wants its activities, and the SDK interrupts those that heartbeat. An effect
under a key is not its job's alone: others may wait for it, and half an effect helps nobody. So it runs on to
its end, its own deadline, or the end of its worker, unless its outcome has come from elsewhere. Whatever else
cancels an activity reaches it as it reaches any.
"""

import asyncio
import contextvars
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.service import RPCError

from dedupe.model.outcome import Abandoned
from dedupe.model.record import Settled
from dedupe.record.handle import KeyHandle
from dedupe.record.history import is_missing
from dedupe.sdk import Cancel, Cancellation

_Details = activity.ActivityCancellationDetails
_UNKNOWN_TO_SERVICE = _Details(not_found=True)
"""What the SDK says of an attempt whose heartbeat was refused: its job has closed, or it was superseded."""


@contextmanager
def shielded(cancellation: Cancellation | None, key: KeyHandle, *, grace: timedelta) -> Generator[None]:
    """Keep the running activity from being cancelled only since its job has closed.

    Args:
        cancellation: What cancels the activity, inside the SDK; None where this SDK has it elsewhere: then
            nothing is shielded.
        key: Under which it is executed.
        grace: How long the worker, told to stop, leaves its activities be.
    """
    if cancellation is None:
        yield
        return
    info, original = activity.info(), cancellation.cancel
    context = contextvars.copy_context()
    tasks: set[asyncio.Task[None]] = set()

    def cancel(**how: object) -> None:
        if cancellation.details != _UNKNOWN_TO_SERVICE:
            original(**how)
            return
        cancellation.details = None
        tasks.add(asyncio.get_running_loop().create_task(decide(how), context=context))

    async def decide(how: dict[str, object]) -> None:
        details: _Details = _UNKNOWN_TO_SERVICE
        if await _is_closed(key, info) and not await _has_outcome(key):
            # From here on the SDK says nothing to this activity, so that is up to us.
            try:
                async with asyncio.timeout(_remaining(info)):
                    await activity.wait_for_worker_shutdown()
                    await asyncio.sleep(grace.total_seconds())
                details, how = _Details(worker_shutdown=True), {"cancelled_by_request": True}
            except TimeoutError:
                details = _Details(not_found=True, timed_out=True)
        cancellation.details = details
        original(**how)

    replaced: Cancel = cancel
    cancellation.cancel = replaced
    try:
        yield
    finally:
        cancellation.cancel = original
        for task in tasks:
            task.cancel()


def _remaining(info: activity.Info) -> float | None:
    ends = [
        since + timeout
        for since, timeout in (
            (info.started_time, info.start_to_close_timeout),
            (info.scheduled_time, info.schedule_to_close_timeout),
        )
        if timeout is not None
    ]
    return max((min(ends) - datetime.now(UTC)).total_seconds(), 0) if ends else None


async def _is_closed(key: KeyHandle, info: activity.Info) -> bool:
    """Return whether the job has closed. The service says the same to an attempt that was superseded."""
    request = DescribeWorkflowExecutionRequest(
        namespace=key.client.namespace,
        execution=WorkflowExecution(workflow_id=info.workflow_id or "", run_id=info.workflow_run_id or ""),
    )
    try:
        job = await key.client.workflow_service.describe_workflow_execution(request, retry=True)
    except RPCError as error:
        return is_missing(error)
    return job.workflow_execution_info.HasField("close_time")


async def _has_outcome(key: KeyHandle) -> bool:
    """Return whether an outcome is recorded: the activity was completed from elsewhere, or superseded."""
    try:
        record = await key.read(now=datetime.now(UTC))
    except Exception:  # noqa: BLE001 - a payload codec may raise anything; when in doubt, the effect runs on
        return False
    return isinstance(record, Settled) and not isinstance(record.outcome, Abandoned)
