"""Settle: the record of an end that the job learned of, and the activity could not write itself.

An activity that failed for good is known to the job alone; so is a result that was completed from elsewhere.
A local activity of the job records them, before the job goes on. Invariant: it records only into the run that
names the call, and of two outcomes the first counts.
"""

from datetime import datetime

from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.client import Client

from dedupe.key.unknown import record_or_hold
from dedupe.model.answer import Answer, How
from dedupe.model.messages import NotHeld, Owner, Settle, Wait
from dedupe.model.outcome import Abandoned, Outcome, decode_outcome, time_of_outcome
from dedupe.model.payloads import encode_referral
from dedupe.model.record import Execution
from dedupe.record.handle import KeyHandle


async def settle(client: Client, settle: Settle, outcome: Payload) -> Payload:
    """Record an outcome, and return the one that is recorded for the call; or that the call never held the
    key, or is to wait.

    Raises:
        RPCError: The service did not take a request.
    """
    info = activity.info()
    key = KeyHandle(client=client, key_id=settle.question.key_id)
    ended, at = decode_outcome(outcome), time_of_outcome(outcome)
    if settle.held_run is not None:
        await key.record(settle.held_run, ended, at=at)
        return encode_referral(Wait(run_id=settle.held_run))
    owner = Owner(
        workflow_id=info.workflow_id or "", run_id=info.workflow_run_id or "", activity_id=settle.activity_id
    )
    return await _settle(key, owner, ended, now=info.scheduled_time, at=at)


async def _settle(
    key: KeyHandle, owner: Owner, outcome: Outcome, *, now: datetime, at: datetime | None
) -> Payload:
    run = await key.run()
    if run is None or not _is_held_by(run.execution, owner):
        return encode_referral(NotHeld())
    run_id = run.execution.run_id
    if run.end is None and await record_or_hold(key, run.execution, outcome, now=now, at=at):
        run = await key.after_signal(run_id) or run
    if run.end is None and run.unknown is not None:
        return encode_referral(Wait(run_id=run_id, held=run.unknown.why))
    if run.end is None or isinstance(run.end.outcome, Abandoned):
        return encode_referral(NotHeld())
    return Answer(outcome=run.end.outcome, settled_at=run.end.at, how=How.EXECUTED).encode()


def _is_held_by(execution: Execution, owner: Owner) -> bool:
    return execution.owner is not None and execution.owner.is_same_call(owner)
