"""The two ways that people write by hand: a workflow whose id is the key, and two ways to reach it."""

import asyncio

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from benchmarks.jobs import TIMEOUT, effect
    from benchmarks.work import BY_HAND_QUEUE, Work


@workflow.defn(name="bench.keyed")
class KeyedEffect:
    """The workflow that stands for a key: its id is the lock, its result is the record."""

    @workflow.run
    async def run(self, work: Work) -> str:
        """Run the activity."""
        return await workflow.execute_activity(
            effect,
            work.effect(),
            start_to_close_timeout=TIMEOUT,
            heartbeat_timeout=work.heartbeat_timeout,
        )


class ByHand:
    """The activities of both ways."""

    def __init__(self, client: Client) -> None:
        """Create them over one client."""
        self._client = client

    @activity.defn(name="bench.wrapper")
    async def wrapper(self, key: str, work: Work) -> str:
        """Start the key's workflow, or find it, and wait for its result."""
        try:
            handle = await self._client.start_workflow(
                KeyedEffect.run,
                work,
                id=key,
                task_queue=BY_HAND_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            )
        except WorkflowAlreadyStartedError:
            return await self.read_result(key)
        if not work.heartbeat:
            return await handle.result()
        beating = asyncio.create_task(_beat(work.heartbeat / 3))
        try:
            return await handle.result()
        finally:
            beating.cancel()

    @activity.defn(name="bench.read_result")
    async def read_result(self, key: str) -> str:
        """Return the result of the key's workflow."""
        return await self._client.get_workflow_handle_for(KeyedEffect.run, key).result()


@workflow.defn(name="bench.wrapped")
class WrapperJob:
    """An activity that starts the key's workflow with USE_EXISTING and waits for its result."""

    @workflow.run
    async def run(self, work: Work) -> None:
        """Do the calls."""
        for call in range(work.calls):
            await workflow.execute_activity_method(
                ByHand.wrapper,
                args=[work.key_of(call), work],
                start_to_close_timeout=TIMEOUT,
                heartbeat_timeout=work.heartbeat_timeout,
            )


@workflow.defn(name="bench.child")
class ChildJob:
    """A child workflow with the key as its id; where that exists already, an activity reads its result."""

    @workflow.run
    async def run(self, work: Work) -> None:
        """Do the calls."""
        for call in range(work.calls):
            key = work.key_of(call)
            try:
                await workflow.execute_child_workflow(
                    KeyedEffect.run,
                    work,
                    id=key,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                )
            except WorkflowAlreadyStartedError:
                await workflow.execute_activity_method(
                    ByHand.read_result, key, start_to_close_timeout=TIMEOUT
                )


async def _beat(interval: float) -> None:
    """Tell the server that the waiting wrapper lives: without it, a killed worker would be noticed late."""
    while True:
        activity.heartbeat()
        await asyncio.sleep(interval)
