"""The job that every way of calling does: some calls of one activity that does nothing, or waits.

One workflow type per way. All take the same `Work`, so a way is compared with its floor by running the two
with the same input. The sandbox runs this module anew for each job, so it is kept as small as a user's own.
"""

import asyncio
from datetime import timedelta

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import dedupe
    from benchmarks.work import Effect, Work

TIMEOUT = timedelta(minutes=5)
PAGE = 20
"""Events."""


@activity.defn(name="bench.effect")
async def effect(task: Effect) -> str:
    """Do nothing; wait first, if so told."""
    await task.wait(activity.heartbeat)
    return task.payload


@workflow.defn(name="bench.plain")
class PlainJob:
    """The floor of a miss: an activity without a key."""

    @workflow.run
    async def run(self, work: Work) -> None:
        """Do the calls."""
        if work.at_once:
            await asyncio.gather(*(self._call(work) for _ in range(work.calls)))
            return
        for _ in range(work.calls):
            await self._call(work)

    async def _call(self, work: Work) -> None:
        await workflow.execute_activity(
            effect,
            work.effect(),
            start_to_close_timeout=TIMEOUT,
            heartbeat_timeout=work.heartbeat_timeout,
        )


@workflow.defn(name="bench.local")
class LocalJob:
    """The floor of a hit: a local activity that does nothing."""

    @workflow.run
    async def run(self, work: Work) -> None:
        """Do the calls."""
        for _ in range(work.calls):
            await workflow.execute_local_activity(effect, work.effect(), start_to_close_timeout=TIMEOUT)


@activity.defn(name="bench.read")
async def read(workflow_id: str) -> None:
    """Read the first page of a workflow's history, and do nothing with it."""
    handle = activity.client().get_workflow_handle(workflow_id)
    await handle.fetch_history_events(page_size=PAGE).fetch_next_page()


@workflow.defn(name="bench.reading")
class ReadingJob:
    """The floor of whatever asks the server for a record: a local activity that reads one history."""

    @workflow.run
    async def run(self, work: Work) -> None:
        """Do the calls; the key is the workflow's id here."""
        for _ in range(work.calls):
            await workflow.execute_local_activity(read, work.key, start_to_close_timeout=TIMEOUT)


@workflow.defn(name="bench.apart")
class ApartJob:
    """The floor of whatever gives a key a workflow: a child with one activity. No lock, no record, no key."""

    @workflow.run
    async def run(self, work: Work) -> None:
        """Do the calls."""
        for _ in range(work.calls):
            await workflow.execute_child_workflow(PlainJob.run, Work())


@workflow.defn(name="bench.deduped")
class DedupedJob:
    """Ours: an activity with a key."""

    @workflow.run
    async def run(self, work: Work) -> None:
        """Do the calls."""
        if work.at_once:
            await asyncio.gather(*(self._call(work, call) for call in range(work.calls)))
            return
        for call in range(work.calls):
            await self._call(work, call)

    async def _call(self, work: Work, call: int) -> None:
        await dedupe.execute_activity(
            effect,
            work.effect(),
            deduplication_key=work.key_of(call),
            start_to_close_timeout=TIMEOUT,
            heartbeat_timeout=work.heartbeat_timeout,
        )
