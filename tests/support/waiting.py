"""Waiting for what must come."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

LONG = timedelta(seconds=30)
"""How long a test waits for what must come."""


async def until(
    condition: Callable[[], Awaitable[Any]], *, within: timedelta = LONG, what: str = "it"
) -> Any:
    """Ask again until the answer is yes, and return it. For what happens in a server."""
    try:
        async with asyncio.timeout(within.total_seconds()):
            while not (answer := await condition()):
                await asyncio.sleep(0.01)
            return answer
    except TimeoutError as error:
        message = f"{what} did not happen within {within}"
        raise AssertionError(message) from error
