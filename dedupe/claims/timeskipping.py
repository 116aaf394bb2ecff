"""Turns: on the time-skipping server one claim at a time may begin an execution.

There a closed run may be a record (see `dedupe.record.timeskipping`), so nothing at the service keeps two
claims of a process, by whichever worker and plugin they came, from both beginning over the one that they have
read.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


@asynccontextmanager
async def turn(*, skips_time: bool) -> AsyncGenerator[None]:
    """Take a turn, where the server makes that necessary."""
    if not skips_time:
        yield
        return
    async with _TURNS.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        yield
