"""The ration: how much the calls of one workflow task may put into its message.

All commands of a task travel in one message of at most 4 MB, and the service ends a job whose message is
larger. Long before that it gets slow: it stores the events of one task together, and reads all of them again
for each activity that it starts, unless they fit into a cache of 512 KB. So a job that makes thousands of
calls at once has them sent in several tasks, one after the other.
"""

import asyncio
from datetime import timedelta

from temporalio import workflow

_MOST = 128 * 1024
"""Bytes. With more, 2,000 new keys gathered in one job take twice as long; with less, the tasks take over."""
_NEXT_TASK = timedelta(milliseconds=1)


class Ration:
    """What the calls of one job have put into its current workflow task."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._task = -1
        self._spent = 0
        self._next: asyncio.Task[None] | None = None

    async def spend(self, size: int) -> None:
        """Wait until there is room for so many bytes: now, or in a later workflow task."""
        while not self._fits(size):
            if self._next is None or self._next.done():
                self._next = asyncio.create_task(workflow.sleep(_NEXT_TASK))
            await asyncio.shield(self._next)
        self._spent += size

    def _fits(self, size: int) -> bool:
        task = workflow.info().get_current_history_length()
        if task != self._task:
            self._task, self._spent = task, 0
        return self._spent == 0 or self._spent + size <= _MOST
