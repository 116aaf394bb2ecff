"""Waiting for what must come."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

LONG = timedelta(seconds=30)
"""How long a test waits for what must come."""


async def until(
    condition: Callable[[], Awaitable[Any]],
    *,
    within: timedelta = LONG,
    every: timedelta = timedelta(milliseconds=10),
    what: str = "it",
) -> Any:
    """Ask again until the answer is yes, and return it. For what happens in a server, or in another process.

    Raises:
        AssertionError: The answer was no for all of that time.
    """
    try:
        async with asyncio.timeout(within.total_seconds()):
            while not (answer := await condition()):
                await asyncio.sleep(every.total_seconds())
            return answer
    except TimeoutError as error:
        message = f"{what} did not happen within {within}"
        raise AssertionError(message) from error
