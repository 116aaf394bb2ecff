"""The crowd: what the claims of one worker share, so that many who wait cost little."""

import asyncio
import time
from collections.abc import AsyncGenerator
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError

from dedupe.claims.recent import Recent
from dedupe.key.attempts import Story, story_of
from dedupe.key.owner import Whereabouts, whereabouts
from dedupe.model.messages import Owner
from dedupe.model.record import Execution

_MOST_SENT_BACK = 10_000
"""Claims of which a worker knows that it has sent them back."""
_MOST_KEYS = 1_000
"""Keys of which a worker knows what their claims share."""
_SPACE = timedelta(milliseconds=20)
"""Between two that come back to one key, in one worker."""
_ASKED_LATELY = timedelta(seconds=1)
_TOLD_LATELY = timedelta(seconds=5)
"""For how long it counts as known what an execution is about."""
_TELL_WITHIN = timedelta(seconds=1)
"""How long it may take to find out: a claim that does not heartbeat is taken for lost."""


class Crowd:
    """The claims of one worker."""

    def __init__(
        self,
        client: Client,
        *,
        task_queue: str,
        most_following: int,
        in_place: AbstractSet[str],
        skips_time: bool = False,
    ) -> None:
        """Begin with none.

        Args:
            client: Of the worker.
            task_queue: Where the workflows of keys live.
            most_following: How many may follow a history at once, each in a slot of the worker.
            in_place: The activities that this worker can execute in place.
            skips_time: Whether the server is the time-skipping one: nobody follows, and a closed run may be
                a record.
        """
        self.client = client
        self.task_queue = task_queue
        self.in_place = in_place
        self.skips_time = skips_time
        self._most_following = most_following
        self._following = 0
        self._asked: dict[str, asyncio.Task[Whereabouts]] = {}
        """By the run of a key: what became of its owner, as of a second ago at the most."""
        self._sent_back = Recent[tuple[str, str], int](_MOST_SENT_BACK)
        """By run and activity: the attempt that this worker has sent back to wait."""
        self._last_return = Recent[str, float](_MOST_KEYS)
        """By key: when the last of those who wait comes back, by this process's clock."""
        self._stories = Recent[str, tuple[float, Story]](_MOST_KEYS)
        """By the run of a key: what its execution is about, and when that was learned."""

    def send_back(self, info: activity.Info) -> None:
        """Note that an attempt ends only to come back later."""
        self._sent_back.note(_call(info), info.attempt)

    def came_back(self, info: activity.Info) -> bool:
        """Return whether an attempt follows one that was sent back here, and not one that was lost."""
        return self._sent_back.take(_call(info)) == info.attempt - 1

    async def whereabouts(self, execution: Execution, owner: Owner, *, now: datetime) -> Whereabouts:
        """Return what became of the call that executes: asked once for all that wait for it here."""
        asked = self._asked.get(execution.run_id)
        if asked is None:
            asked = asyncio.ensure_future(whereabouts(self.client, owner, now=now))
            self._asked[execution.run_id] = asked
            asyncio.get_running_loop().call_later(
                _ASKED_LATELY.total_seconds(), self._asked.pop, execution.run_id, None
            )
        return await asyncio.shield(asked)

    async def story(self, execution: Execution, *, key_id: str, now: datetime) -> Story:
        """Return what those who wait for an execution are waiting for: asked for once in a while, for all."""
        told = self._stories.get(execution.run_id)
        if told is not None and time.monotonic() < told[0] + _TOLD_LATELY.total_seconds():
            return told[1]
        try:
            async with asyncio.timeout(_TELL_WITHIN.total_seconds()):
                story = await story_of(self.client, execution, key_id=key_id, now=now)
        except (RPCError, TimeoutError) as error:
            story = Story(words=f"the service could not be asked ({type(error).__name__})")
        self._stories.note(execution.run_id, (time.monotonic(), story))
        return story

    def spaced(self, key_id: str, delay: timedelta) -> timedelta:
        """Return a delay a little longer, so that a crowd which waits for one key comes back one by one.

        Each return costs the service about as much as an activity: a thousand callers who all returned as
        soon as one of them may would be answered later, and not sooner.
        """
        now = time.monotonic()
        last = self._last_return.get(key_id)
        returns = max(now + delay.total_seconds(), (now if last is None else last) + _SPACE.total_seconds())
        self._last_return.note(key_id, returns)
        return timedelta(seconds=returns - now)

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[bool]:
        """Yield whether there is room for one more that follows a history."""
        free = not self.skips_time and self._following < self._most_following
        self._following += free
        try:
            yield free
        finally:
            self._following -= free


def _call(info: activity.Info) -> tuple[str, str]:
    return info.workflow_run_id or "", info.activity_id
