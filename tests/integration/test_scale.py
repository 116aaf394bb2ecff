"""One key with very many callers, and one worker with very many keys."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from tests.integration.effect_file import Moment, Task
from tests.integration.fault_table import Row, Stopwatch, Table, expect_sound, tally
from tests.integration.fleet import Fleet, answers_of, fleet
from tests.integration.jobs import CallsJob, FanJob, FleetCall
from tests.integration.lasting_server import lasting_server
from tests.support.ends import stuck
from tests.support.servers import POLL_OFTEN

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1_500)]

_UNLIMITED = (
    *POLL_OFTEN,
    "frontend.namespaceRPS=20000",
    "frontend.rps=20000",
    "history.rps=30000",
)
"""The dev server's own brakes, which a cluster does not have."""


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[Fleet]:
    """One worker against a dev server of the test's own."""
    async with (
        lasting_server(tmp_path, *_UNLIMITED) as server,
        fleet(server.address, tmp_path, "--wait-slice=600") as started,
    ):
        yield started


def _paused_for_long() -> FleetCall:
    """Return a call whose first attempt waits for the gate, for as long as it takes to gather the callers."""
    return FleetCall(
        key="k",
        task=Task(name="k", pause="before the effect"),
        heartbeat=None,
        start_to_close=timedelta(hours=1),
    )


async def _waiting(workers: Fleet, jobs: Sequence[WorkflowHandle[Any, Any]], number: int) -> None:
    """Return when so many calls wait; ask not too often, since to ask so many jobs takes a while."""
    await workers.waiting(number, jobs, within=timedelta(minutes=10), every=timedelta(seconds=1))


async def test_a_thousand_concurrent_callers_of_one_key(workers: Fleet, table: Table) -> None:
    """A thousand jobs that call one key at the same time share one execution."""
    await workers.start()
    call = _paused_for_long()
    handles = [handle for _ in range(10) for handle in await workers.begin(call, 100)]
    await _waiting(workers, handles, 999)

    workers.gate.open()
    watch = Stopwatch()
    answers = await answers_of(handles, within=timedelta(minutes=5))

    row = await tally(
        workers,
        {"k": answers},
        fault="1,000 concurrent callers of one key",
        faults=0,
        recoveries=[watch.elapsed],
    )
    table.add(row)
    expect_sound(row, keys=1)
    assert row.attempts == 1


async def test_twenty_thousand_hits_leave_a_key_as_it_was(workers: Fleet, table: Table) -> None:
    """A hit writes nothing into the key's history, however many there are."""
    await workers.start()
    call = FleetCall(key="k", task=Task(name="k"))
    answers = await answers_of(await workers.begin(call))
    before = await workers.history("k")

    for index in range(20):
        different = await workers.client.execute_workflow(
            CallsJob.run, args=[call, 1_000], id=f"hits-{index}", task_queue=workers.task_queue
        )
        assert different == answers

    row = await tally(workers, {"k": answers}, fault="20,000 hits on one key", faults=0)
    table.add(replace(row, calls=20_001))  # with those made inside of other jobs
    expect_sound(row, keys=1)
    assert await workers.history("k") == before
    assert row.attempts == 1


async def test_twelve_thousand_callers_of_one_executing_key(workers: Fleet, table: Table) -> None:
    """Callers who wait cost a key nothing, however many; all are answered."""
    await workers.start()
    call = _paused_for_long()
    handles: list[WorkflowHandle[Any, list[Any]]] = []
    while len(handles) < 12_000 // 25:
        handles += [
            await workers.client.start_workflow(
                FanJob.run, [call] * 25, id=f"fan-{len(handles) + index}", task_queue=workers.task_queue
            )
            for index in range(20)
        ]
        await _waiting(workers, handles, len(handles) * 25 - 1)

    workers.gate.open()
    watch = Stopwatch()
    different = await answers_of(handles, within=timedelta(minutes=10))
    recovery = watch.elapsed
    answers = await answers_of(await workers.begin(call))

    row = await tally(
        workers,
        {"k": answers},
        fault="12,000 callers of one executing key",
        faults=0,
        recoveries=[recovery],
    )
    table.add(replace(row, calls=12_001))
    expect_sound(row, keys=1)
    assert different == [answers] * len(handles)
    assert row.attempts == 1
    assert await stuck(workers.client, [workers.key_id("k")]) == []


async def test_twenty_thousand_keys_held_by_one_worker(workers: Fleet, table: Table) -> None:
    """A key that is only held costs the worker no memory."""
    worker = await workers.start()
    resident: list[int] = []
    answered: list[Any] = []
    for batch in range(20_000 // 80):
        calls = [FleetCall(key=f"key-{batch}-{n}", task=Task(name="any"), heartbeat=None) for n in range(80)]
        answered += await workers.client.execute_workflow(
            FanJob.run, calls, id=f"fan-{batch}", task_queue=workers.task_queue
        )
        resident.append(worker.resident_bytes())

    settled, full = resident[len(resident) // 4], resident[-1]
    histories = [
        await workers.history(f"key-{batch}-{n}") for batch in range(20_000 // 80) for n in range(80)
    ]
    row = Row(
        fault=f"20,000 keys held: {(full - settled) / 15_000:,.0f} bytes of worker a key past 5,000",
        faults=0,
        calls=20_000,
        executions=sum(history.executions for history in histories),
        attempts=len(workers.effects.entries(Moment.STARTED)),
        effects=len(workers.effects.entries(Moment.DONE)),
        successes=sum(history.successes for history in histories),
        duplicates=sum(history.successes > 1 for history in histories),
        lost=20_000 - len({answer["idempotency_key"] for answer in answered}),
    )
    table.add(row)
    expect_sound(row, keys=20_000)
    assert row.effects == 20_000
    assert full - settled < 15_000 * 2_000
