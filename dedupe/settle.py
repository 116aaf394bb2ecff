"""Settle: completing the claims that wait, from inside the key's workflow.

A claim is an open activity of some job, completed by its ids. One that is gone (its caller cancelled, closed,
timed out, or had its answer already) is done. One that cannot be told is healed by its own wait slice.
"""

import asyncio
from collections.abc import Iterable
from datetime import timedelta

from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.converter import ActivitySerializationContext
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError, RPCStatusCode

from dedupe.messages import CLAIM, MARK, SETTLE, WAITING, Settlement, Waiter, decode
from dedupe.outcome import RECLAIM

_CONCURRENCY = 50
_RECLAIM_DELAY = timedelta(milliseconds=100)
_HOPELESS = {
    RPCStatusCode.INVALID_ARGUMENT,
    RPCStatusCode.FAILED_PRECONDITION,
    RPCStatusCode.PERMISSION_DENIED,
}


@activity.defn(name=SETTLE)
async def settle(settlement: RawValue, reply: RawValue) -> None:
    """Complete the settlement's claims with one reply.

    Args:
        settlement: A `Settlement` message.
        reply: An encoded `Answer`, or `RECLAIM`.

    Raises:
        RPCError: Some claims could not be told, and may be told by another attempt.
    """
    client = activity.client()
    slots = asyncio.Semaphore(_CONCURRENCY)

    async def tell(waiter: Waiter) -> RPCError | None:
        async with slots:
            return await _tell(client, waiter, reply.payload)

    waiters = decode(Settlement, settlement.payload).waiters
    _raise_first(await asyncio.gather(*(tell(waiter) for waiter in waiters)))


async def _tell(client: Client, waiter: Waiter, reply: Payload) -> RPCError | None:
    claim = client.get_async_activity_handle(
        workflow_id=waiter.workflow_id, run_id=waiter.run_id, activity_id=waiter.activity_id
    ).with_context(
        ActivitySerializationContext(
            namespace=client.namespace,
            workflow_id=waiter.workflow_id,
            workflow_type=waiter.workflow_type,
            activity_id=waiter.activity_id,
            activity_type=CLAIM,
            activity_task_queue=waiter.task_queue,
            is_local=False,
        )
    )
    try:
        if reply.metadata[MARK] == RECLAIM.metadata[MARK]:
            await claim.fail(
                ApplicationError(
                    "claim the key again",
                    type=WAITING,
                    next_retry_delay=_RECLAIM_DELAY,
                    category=ApplicationErrorCategory.BENIGN,
                )
            )
        else:
            await claim.complete(RawValue(reply))
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return None
        if error.status in _HOPELESS:
            activity.logger.warning(
                "could not tell claim %s of %s: %s", waiter.activity_id, waiter.workflow_id, error
            )
            return None
        return error
    return None


def _raise_first(errors: Iterable[RPCError | None]) -> None:
    for error in errors:
        if error is not None:
            raise error
