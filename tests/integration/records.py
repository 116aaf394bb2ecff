"""What the service recorded: the runs of a key's workflow, and the claims that wait for it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from temporalio.client import Client, WorkflowHandle

from dedupe.model.names import CLAIM
from dedupe.model.outcome import Succeeded
from dedupe.record.handle import KeyHandle
from tests.support.waiting import LONG, until


@dataclass(frozen=True, kw_only=True)
class KeyHistory:
    """All runs of one key's workflow, counted."""

    executions: int
    """How many executions have begun: each has a run."""
    successes: int
    """How many runs have a success as their outcome."""
    events: int
    """How many events the current run has."""


async def key_history(client: Client, key_id: str) -> KeyHistory:
    """Count the executions of a key and their outcomes. A key that nobody has used has none."""
    key = KeyHandle(client=client, key_id=key_id)
    current = await key.run()
    if current is None:
        return KeyHistory(executions=0, successes=0, events=0)

    async def listed() -> list[str]:
        found = [run.run_id async for run in client.list_workflows(f"WorkflowId = '{key_id}'")]
        return found if current.execution.run_id in found else []

    run_ids = await until(listed, within=LONG, what=f"the current run of {key_id!r} in the list")
    runs = [await key.run(run_id) for run_id in run_ids]
    ends = [run.end for run in runs if run is not None and run.end is not None]
    history = await client.get_workflow_handle(key_id, run_id=current.execution.run_id).fetch_history()
    return KeyHistory(
        executions=len(run_ids),
        successes=sum(isinstance(end.outcome, Succeeded) for end in ends),
        events=len(history.events),
    )


async def claims_of(jobs: Sequence[WorkflowHandle[Any, Any]]) -> int:
    """Count the claims that jobs have under way: the calls that wait for a key."""
    described = await asyncio.gather(*(job.describe() for job in jobs))
    return sum(
        pending.activity_type.name == CLAIM
        for job in described
        for pending in job.raw_description.pending_activities
    )
