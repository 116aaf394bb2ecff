"""Unknown outcomes, where a call has asked to hold them: nothing is repeated until somebody has found out."""

from contextlib import suppress
from datetime import datetime

from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from dedupe.model.messages import Start, UnknownOutcome
from dedupe.model.names import INTERRUPTED
from dedupe.model.outcome import Failed, Outcome
from dedupe.model.record import Execution, unknown_after
from dedupe.record.handle import KeyHandle
from dedupe.telemetry.holds import count_hold


async def record_or_hold(
    key: KeyHandle, execution: Execution, outcome: Outcome, *, now: datetime, at: datetime | None = None
) -> bool:
    """Record how an execution ended, or hold it. Return whether its run is open.

    Raises:
        OutcomeTooLargeError: The service does not take so much.
        RPCError: The service did not take the request.
    """
    unknown = unknown_after(execution, outcome, at=now)
    if unknown is None:
        is_open = await key.record(execution.run_id, outcome, at=at)
        if is_open and isinstance(outcome, Failed):
            await show(key, execution.run_id, execution.start)
        return is_open
    held = UnknownOutcome(why=unknown.why, over_at=unknown.over_at)
    return await hold(key, execution.run_id, execution.start, held)


async def hold(key: KeyHandle, run_id: str, start: Start, unknown: UnknownOutcome) -> bool:
    """Hold an execution. Return whether its run is open.

    Raises:
        RPCError: The service did not take the request.
    """
    is_open = await key.hold(run_id, unknown)
    if is_open:
        count_hold()
        await show(key, run_id, start)
    return is_open


async def show(key: KeyHandle, run_id: str, start: Start) -> None:
    """Have a dormant key show in the service's visibility that it failed or is held, where that is wanted."""
    if start.searchable and start.owner is not None:
        with suppress(RPCError):  # whoever serves the keys next shows it
            await key.wake(run_id)


def interrupted() -> ApplicationError:
    """Return the error with which an attempt ends that was interrupted. It is not attempted again."""
    return ApplicationError(
        "the attempt was interrupted: nobody knows whether its effect happened, and the key is held",
        type=INTERRUPTED,
        non_retryable=True,
    )
