"""Workers that are killed, frozen and drained while they execute keys for others."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
from temporalio.api.enums.v1 import EventType

from tests.integration.effect_file import Moment, Task
from tests.integration.fault_table import Stopwatch, Table, expect_sound, tally
from tests.integration.fleet import Fleet, answers_of, fleet
from tests.integration.jobs import FleetCall
from tests.support.ends import stuck

pytestmark = pytest.mark.faults


@pytest.fixture
async def workers(running_server: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Workers against the session's server."""
    async with fleet(running_server, tmp_path) as started:
        yield started


@pytest.mark.parametrize(
    ("point", "helper"),
    [("before the effect", "another alive"), ("after the effect", "restarted at once")],
)
async def test_a_worker_killed_inside_the_effect(
    workers: Fleet,
    table: Table,
    point: Literal["before the effect", "after the effect"],
    helper: Literal["another alive", "restarted at once"],
) -> None:
    """All that wait for a killed execution get the answer of its next attempt, which is the only success."""
    await workers.start_many(2 if helper == "another alive" else 1)
    call = FleetCall(key="k", task=Task(name="k", pause=point))
    handles = await workers.begin(call, 10)
    inside = await workers.inside(call, handles)

    inside.kill()
    watch = Stopwatch()
    if helper == "restarted at once":
        workers.spawn()
    answers = await answers_of(handles)

    row = await tally(
        workers,
        {"k": answers},
        fault=f"worker killed inside an effect, {helper}",
        faults=1,
        recoveries=[watch.elapsed],
    )
    table.add(row)
    expect_sound(row, keys=1)
    assert row.attempts == 2
    assert row.effects == (2 if point == "after the effect" else 1)
    assert answers[0]["attempt"] == 2
    assert await stuck(workers.client, [workers.key_id("k")]) == []


async def test_nobody_waits_for_the_process_that_was_killed(workers: Fleet, table: Table) -> None:
    """The next attempt, and every claim's, takes the tasks of its job away from the dead process.

    With the SDK's own sticky time-out of ten seconds, and a wait slice so long that no claim looks by itself.
    """
    await workers.start("--sticky=10", "--wait-slice=60")
    call = FleetCall(key="k", task=Task(name="k", pause="before the effect"))
    handles = await workers.begin(call, 10)
    inside = await workers.inside(call, handles)

    inside.kill()
    watch = Stopwatch()
    workers.spawn("--sticky=10", "--wait-slice=60")
    answers = await answers_of(handles)

    row = await tally(
        workers,
        {"k": answers},
        fault="the same, jobs with the SDK's own sticky time-out",
        faults=1,
        recoveries=[watch.elapsed],
    )
    table.add(row)
    expect_sound(row, keys=1)
    for handle in handles:
        types = [event.event_type for event in (await handle.fetch_history()).events]
        assert EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT not in types, handle.id


async def test_a_worker_frozen_past_its_heartbeat_and_woken(workers: Fleet, table: Table) -> None:
    """A worker that wakes after its execution was given to another changes neither the record nor an answer.

    While it is frozen the server still hands it tasks, through the polls that it has open; so the effect may
    happen more than twice, and recovery takes several time-outs.
    """
    await workers.start_many(2)
    call = FleetCall(key="k", task=Task(name="k", pause="before the effect"))
    handles = await workers.begin(call, 10)
    frozen = await workers.inside(call, handles)

    frozen.freeze()
    watch = Stopwatch()
    answers = await answers_of(handles)
    recoveries = [watch.elapsed]
    workers.gate.open()
    frozen.wake()
    assert await frozen.drain()
    late = await answers_of(await workers.begin(call))

    row = await tally(
        workers,
        {"k": [*answers, *late]},
        fault="worker frozen past its heartbeat, then woken",
        faults=1,
        recoveries=recoveries,
    )
    table.add(row)
    expect_sound(row, keys=1)
    attempts = {entry.attempt for entry in workers.effects.entries(Moment.STARTED) if entry.pid != frozen.pid}
    assert 1 not in attempts
    assert answers[0]["attempt"] in attempts
    assert len({entry.idempotency_key for entry in workers.effects.entries()}) == 1


async def test_a_worker_drained_inside_the_effect(workers: Fleet, table: Table) -> None:
    """A worker that gets SIGTERM inside the effect finishes it and records it."""
    first = await workers.start("--wait-slice=60")
    call = FleetCall(key="k", task=Task(name="k", pause="before the effect"))
    handles = await workers.begin(call, 10)
    await workers.inside(call, handles)
    await workers.start("--wait-slice=60")

    watch = Stopwatch()
    draining = asyncio.create_task(first.drain())
    await first.says("draining")
    workers.gate.open()
    answers = await answers_of(handles)
    recoveries = [watch.elapsed]
    assert await draining

    row = await tally(
        workers,
        {"k": answers},
        fault="worker drained (SIGTERM) inside an effect",
        faults=1,
        recoveries=recoveries,
    )
    table.add(row)
    expect_sound(row, keys=1)
    assert row.attempts == row.effects == 1
    assert {entry.pid for entry in workers.effects.entries()} == {first.pid}
