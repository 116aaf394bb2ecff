"""An attempt: what an activity knows of the call it carries out, and how it shows that it is alive.

All attempts of one call hand the same idempotency key to the provider. Of a deduplicated call it is the
execution's, which calls of other workflows with the same deduplication key share; of any other call it is
the call's own.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio import activity

from dedupe import current_execution

_SAFE_IN_A_HEADER = re.compile(r"[\x21-\x7e]+")


def idempotency_key() -> str:
    """Return the key under which the running activity's effect may happen once.

    Raises:
        RuntimeError: Called outside of an activity.
    """
    execution = current_execution()
    if execution is not None:
        return execution.idempotency_key
    info = activity.info()
    return f"{info.workflow_run_id or info.activity_run_id}-{info.activity_id}"


def header_value(key: str, *, limit: int) -> str:
    """Return the key as a provider takes it: its sha256 where it is too long, or not plain ASCII."""
    if len(key) <= limit and _SAFE_IN_A_HEADER.fullmatch(key):
        return key
    return hashlib.sha256(key.encode()).hexdigest()


@asynccontextmanager
async def heartbeating(*details: object) -> AsyncGenerator[None]:
    """Heartbeat while the block runs, where the call has a heartbeat timeout: a worker that dies is noticed.

    Args:
        details: What the next attempt finds in its `heartbeat_details`, if this one dies.
    """
    timeout = activity.info().heartbeat_timeout
    if timeout is None or timeout <= timedelta(0):
        yield
        return
    beating = asyncio.create_task(_beat(*details, every=timeout / 3))
    try:
        yield
    finally:
        beating.cancel()


async def _beat(*details: object, every: timedelta) -> None:
    while True:
        activity.heartbeat(*details)
        await asyncio.sleep(every.total_seconds())
