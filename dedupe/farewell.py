"""The farewell: a process that drains goes on serving keys until they know of what has just ended in it.

The task in which a key's workflow learns of its activity's end goes to the process that has it cached, which
is often the one that ran the activity. Were its worker to stop at that very moment, the task would be lost
with it, and come again only after its time-out of ten seconds.
"""

import asyncio
import contextlib
import time
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from dedupe.messages import KEY_WORKFLOW

_RECENTLY = timedelta(seconds=2)
_PATIENCE = timedelta(seconds=1)
_LOOK = timedelta(milliseconds=20)
_MOST = 1_000
"""Keys that are remembered."""


class Farewell(Interceptor):
    """Remembers, for one worker of activities, which keys have just ended in it."""

    def __init__(self, client: Client) -> None:
        """Begin with none."""
        self._client = client
        self._ended: dict[str, float] = {}
        """By workflow id, the last ones last: when an attempt ended, on the monotonic clock."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """See base class."""
        return _Inbound(next, self)

    def ended(self, key_id: str) -> None:
        """Remember that an attempt to execute a key has ended."""
        self._ended.pop(key_id, None)
        self._ended[key_id] = time.monotonic()
        if len(self._ended) > _MOST:
            del self._ended[next(iter(self._ended))]

    async def say(self) -> None:
        """Wait until the keys that ended here know of it; a second at the most. The worker has drained."""
        since = time.monotonic() - _RECENTLY.total_seconds()
        recent = [key_id for key_id, at in self._ended.items() if at >= since]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                await asyncio.gather(*map(self._rest, recent), return_exceptions=True)

    async def _rest(self, key_id: str) -> None:
        key_workflow = self._client.get_workflow_handle(key_id)
        run = await key_workflow.describe()
        while run.raw_description.HasField("pending_workflow_task"):
            await asyncio.sleep(_LOOK.total_seconds())
            run = await key_workflow.describe()


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, farewell: Farewell) -> None:
        super().__init__(next)
        self._farewell = farewell

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await self.next.execute_activity(input)
        finally:
            info = activity.info()
            if info.workflow_type == KEY_WORKFLOW and info.workflow_id is not None:
                self._farewell.ended(info.workflow_id)
