"""The owner: what became of the call that executes a key in place, as the history of its job tells.

Asked by those who wait, and before a run is replaced. Invariant: a call that may still have an attempt under
way is never said to be gone.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import EventType, PendingActivityState
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client
from temporalio.service import RPCError

from dedupe.model.marks import is_recorded
from dedupe.model.messages import Owner
from dedupe.model.outcome import Outcome, Succeeded
from dedupe.model.payloads import is_referral
from dedupe.model.record import MARGIN
from dedupe.record.events import is_activity_end, scheduled_id
from dedupe.record.history import describe, events_of, is_missing
from dedupe.record.reader import Reader

_UNDER_WAY = {
    PendingActivityState.PENDING_ACTIVITY_STATE_STARTED,
    PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED,
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED,
}


@dataclass(frozen=True)
class Alive:
    """The call is pending, or its last attempt may not be over."""


@dataclass(frozen=True)
class Ended:
    """The call has ended, and its job did not record it."""

    outcome: Outcome


@dataclass(frozen=True)
class Gone:
    """Nothing will come of the call any more."""

    begun: int | None = None
    """Its attempts, the last of which has ended with an error; None: not known."""


@dataclass(frozen=True)
class Missing:
    """The service does not know the call's job any more. An attempt of it may not be over."""


@dataclass(frozen=True)
class Unclear:
    """The service is about to know more: ask again."""


Whereabouts = Alive | Ended | Gone | Missing | Unclear


async def whereabouts(client: Client, owner: Owner, *, now: datetime) -> Whereabouts:
    """Return what became of a call.

    Args:
        client: Of the call's namespace.
        owner: The call.
        now: Server time.

    Raises:
        RPCError: The service could not be asked.
        Exception: Whatever the payload codec raises for an end that it cannot decode.
    """
    job = await describe(client, owner.workflow_id, run_id=owner.run_id)
    if job is None:
        return Missing()
    # A run that is closed goes on listing what was pending when it closed.
    is_closed = job.workflow_execution_info.HasField("close_time")
    pending = _pending(job, owner)
    if pending is not None:
        if not is_closed or not _is_over(pending, owner, now=now):
            return Alive()
        return Gone(begun=None if pending.state in _UNDER_WAY else pending.attempt - 1)
    return await _end(client, owner) or (Gone() if is_closed else Unclear())


async def is_last_attempt(client: Client, owner: Owner, *, number: int, started_at: datetime) -> bool:
    """Return whether no attempt will follow, and none is under way beside this one: the job has closed.

    Args:
        client: Of the call's namespace.
        owner: The call.
        number: Of this attempt.
        started_at: Server time at which this attempt was started.

    Raises:
        RPCError: The service could not be asked.
    """
    job = await describe(client, owner.workflow_id, run_id=owner.run_id)
    if job is None or not job.workflow_execution_info.HasField("close_time"):
        return False
    pending = _pending(job, owner)
    return (
        pending is not None
        and pending.attempt == number
        and pending.last_started_time.ToDatetime(tzinfo=UTC) == started_at
    )


def _pending(job: DescribeWorkflowExecutionResponse, owner: Owner) -> PendingActivityInfo | None:
    return next((each for each in job.pending_activities if each.activity_id == owner.activity_id), None)


def _is_over(pending: PendingActivityInfo, owner: Owner, *, now: datetime) -> bool:
    """Return whether the last attempt of a call, whose job is closed, must be over."""
    if pending.state not in _UNDER_WAY or not pending.HasField("last_started_time"):
        return True
    longest = owner.longest_attempt or timedelta(0)
    options = pending.activity_options
    if options.HasField("start_to_close_timeout"):  # an operator may have changed it since
        longest = max(longest, options.start_to_close_timeout.ToTimedelta())
    return pending.last_started_time.ToDatetime(tzinfo=UTC) + longest + MARGIN <= now


async def _end(client: Client, owner: Owner) -> Ended | Gone | Unclear | None:
    """Return how a call ended that is no longer pending; None where its job's history says nothing of it."""
    scheduled: HistoryEvent | None = None
    try:
        async for event in events_of(client, owner.workflow_id, run_id=owner.run_id):
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                if event.activity_task_scheduled_event_attributes.activity_id == owner.activity_id:
                    scheduled = event
            elif (
                scheduled is not None and is_activity_end(event) and scheduled_id(event) == scheduled.event_id
            ):
                return await _meaning(client, owner, event, scheduled)
    except RPCError as error:
        if is_missing(error):
            return Unclear()
        raise
    return None


async def _meaning(
    client: Client, owner: Owner, event: HistoryEvent, scheduled: HistoryEvent
) -> Ended | Gone | Unclear:
    if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
        return Gone()
    outcome = await Reader(client=client, key_id=owner.workflow_id).activity_outcome(
        event, scheduled, workflow_type=owner.workflow_type
    )
    if not isinstance(outcome, Succeeded) or not is_recorded(outcome.result):
        return Ended(outcome)
    # Either what stands in the record, which is therefore there to be read; or where the call went on to,
    # since its attempt could not tell that it had acquired the key.
    return Gone() if is_referral(outcome.result) else Unclear()
