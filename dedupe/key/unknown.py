"""Unknown outcomes, where a call has asked to hold them: nothing is repeated until somebody has found out."""

from datetime import datetime

from temporalio.exceptions import ApplicationError

from dedupe.model.messages import UnknownOutcome
from dedupe.model.names import INTERRUPTED
from dedupe.model.outcome import Outcome
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
        return await key.record(execution.run_id, outcome, at=at)
    is_open = await key.hold(execution.run_id, UnknownOutcome(why=unknown.why, over_at=unknown.over_at))
    if is_open:
        count_hold()
    return is_open


def interrupted() -> ApplicationError:
    """Return the error with which an attempt ends that was interrupted. It is not attempted again."""
    return ApplicationError(
        "the attempt was interrupted: nobody knows whether its effect happened, and the key is held",
        type=INTERRUPTED,
        non_retryable=True,
    )
