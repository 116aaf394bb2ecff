"""The activities that read for jobs, as one worker registers them."""

from collections.abc import Callable, Sequence
from typing import Any

from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.common import RawValue

from dedupe.claims.claim import carry_out
from dedupe.claims.crowd import Crowd
from dedupe.claims.peek import Peeks
from dedupe.claims.settle import settle
from dedupe.execution.twins import Twin, name_of
from dedupe.model.keys import Keyspace
from dedupe.model.messages import Claim, Peek, Settle
from dedupe.model.names import CLAIM, PEEK, RECORD
from dedupe.model.payloads import carry, decode, unpack_with


class JobActivities:
    """Peek, claim and the record of what only a job knows, for one worker."""

    def __init__(
        self,
        client: Client,
        *,
        plugin: object,
        keyspace: Keyspace,
        task_queue: str,
        twins: Sequence[Twin],
        most_following: int,
        alone: bool,
    ) -> None:
        """Create what one worker registers.

        Args:
            client: The worker's.
            plugin: What added this to the worker.
            keyspace: Whose keys its jobs use.
            task_queue: Where the workflows of keys live.
            twins: The activities that the worker can execute in place.
            most_following: How many claims may wait in a slot of the worker.
            alone: Whether the worker has no other activities, and polls for none.
        """
        self.plugin = plugin
        self.alone = alone
        self.all: Sequence[Callable[..., Any]] = [self.peek, self.claim, self.record]
        self._keyspace = keyspace
        self._task_queue = task_queue
        self._client = client
        self._in_place = {name_of(twin) for twin in twins}
        self._peeks = Peeks(client, in_place=self._in_place)
        self._crowd = Crowd(
            client, task_queue=task_queue, most_following=most_following, in_place=self._in_place
        )

    def use(self, *, skips_time: bool) -> None:
        """Take notice of what server it is. On the time-skipping one nothing is executed in place."""
        self._crowd.skips_time = skips_time
        if skips_time:
            self._in_place.clear()

    def require_same(self, keyspace: Keyspace, task_queue: str) -> None:
        """Check that a worker which has this may go without another plugin.

        Raises:
            ValueError: The other one means other keys.
        """
        if (self._keyspace, self._task_queue) != (keyspace, task_queue):
            raise ValueError(
                "the worker and its client have different DedupePlugins: give one of them to either"
            )

    @activity.defn(name=PEEK)
    async def peek(self, message: RawValue) -> RawValue:
        """Read the records that calls of a job ask for."""
        peek = decode(Peek, message.payload)
        return self._carried(*await self._peeks.peek(peek, run_id=activity.info().workflow_run_id or ""))

    @activity.defn(name=CLAIM)
    async def claim(self, message: RawValue) -> RawValue:
        """Wait for the outcome of a key."""
        claim, arguments = unpack_with(Claim, message.payload)
        return self._carried(await carry_out(claim, arguments, crowd=self._crowd))

    @activity.defn(name=RECORD)
    async def record(self, message: RawValue) -> RawValue:
        """Record an end that only the job knows."""
        return self._carried(await settle(self._client, *unpack_with(Settle, message.payload)))

    def _carried(self, *payloads: Payload) -> RawValue:
        return carry(payloads, self._client.data_converter.payload_converter)
