"""A payment provider that keeps its own ledger, and processes that end at every point of a charge."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from tests.fakes.ledger import Ledger
from tests.integration.fault_table import Row, Stopwatch, Table, expect_sound, tally
from tests.integration.fleet import Fleet, answers_of, fleet
from tests.integration.jobs import FleetCall
from tests.integration.processes import Process
from tests.integration.worker_process import CRASH_POINTS

pytestmark = pytest.mark.faults

_JOBS = 3
"""Calls of each key, all at once."""

_ALONE = ("after-the-acquisition", "after-the-record", "after-a-claim-waits")
"""Points that one attempt reaches once: one whose process ends at another point first never gets there."""


@asynccontextmanager
async def provider(folder: Path, *options: str) -> AsyncGenerator[str]:
    """A payment provider in a process of its own; its ledger is `folder / "provider.sqlite3"`."""
    server = Process(
        [
            sys.executable,
            "-m",
            "tests.fakes.stripe_server",
            f"--ledger={folder / 'provider.sqlite3'}",
            *options,
        ],
        log=folder / "provider.log",
    )
    try:
        await server.says("http://")
        yield server.printed.strip()
    finally:
        server.kill()


def charges(folder: Path) -> dict[str, int]:
    """Return how often the provider charged each order, by its own ledger."""
    counted: dict[str, int] = {}
    for effect in Ledger(folder / "provider.sqlite3").effects():
        order = effect.content["metadata[order_id]"]
        counted[order] = counted.get(order, 0) + 1
    return counted


async def test_one_charge_per_key_wherever_a_process_ends(
    running_server: str, tmp_path: Path, table: Table
) -> None:
    """Workers die at all points of a charge while more jobs ask for each: the provider charges once a key."""
    async with (
        provider(tmp_path, "--delay=1") as url,
        fleet(running_server, tmp_path, "--crash", f"--provider={url}") as workers,
        replacing(workers, 4),
    ):
        row = await _charge(
            workers,
            [point for point in CRASH_POINTS if point not in _ALONE],
            *([point] for point in _ALONE),
            fault="workers end at all points of a charge",
        )

    table.add(row)
    expect_sound(row, keys=len(CRASH_POINTS))
    assert row.faults == len(CRASH_POINTS)
    assert charges(tmp_path) == dict.fromkeys(CRASH_POINTS, 1)


@pytest.mark.torture
@pytest.mark.timeout(600)
async def test_recovery_from_an_end_at_each_point(running_server: str, tmp_path: Path, table: Table) -> None:
    """Workers die at one point after the other; the table shows how long the calls took each time."""
    async with (
        provider(tmp_path, "--delay=0.2") as url,
        fleet(running_server, tmp_path, "--crash", f"--provider={url}") as workers,
        replacing(workers, 3),
    ):
        for point in CRASH_POINTS:
            row = await _charge(workers, [point], fault=f"worker ends {point.replace('-', ' ')}")
            table.add(row)
            expect_sound(row, keys=1)
            assert row.faults == 1

    assert charges(tmp_path) == dict.fromkeys(CRASH_POINTS, 1)


@pytest.mark.torture
async def test_without_idempotency_an_attempt_that_dies_before_its_record_charges_again(
    running_server: str, tmp_path: Path
) -> None:
    """The limit: a provider that ignores keys charges twice where a worker dies between effect and record."""
    points = ("before-the-effect", "after-the-effect", "before-the-record", "after-the-record")
    async with (
        provider(tmp_path, "--ignore-idempotency") as url,
        fleet(running_server, tmp_path, "--crash", f"--provider={url}") as workers,
        replacing(workers, 2),
    ):
        for point in points:  # one by one: the end of a worker is that of all it executes
            row = await _charge(workers, [point], fault="provider ignores idempotency keys")
            expect_sound(row, keys=1)
    assert charges(tmp_path) == {
        "before-the-effect": 1,
        "after-the-effect": 2,
        "before-the-record": 2,
        "after-the-record": 1,
    }


async def test_with_reconcile_a_provider_without_idempotency_charges_once(
    running_server: str, tmp_path: Path
) -> None:
    """The way out: nothing is repeated before the job has asked the provider what became of it.

    All at once: where a worker ends for one key, it ends for the others that it executes, wherever they are.
    """
    points = ("before-the-effect", "after-the-effect", "before-the-record", "after-the-record")
    async with (
        provider(tmp_path, "--ignore-idempotency") as url,
        fleet(running_server, tmp_path, "--crash", f"--provider={url}") as workers,
        replacing(workers, 2),
    ):
        begun: list[list[WorkflowHandle[Any, Any]]] = []
        for point in points:
            call = FleetCall(
                key=point,
                activity="pay",
                argument=point,
                start_to_close=timedelta(seconds=3),
                reconcile="find_payment",
            )
            begun.append(await workers.begin(call, _JOBS))
        for handles in begun:
            assert len(set(await answers_of(handles))) == 1
    assert charges(tmp_path) == dict.fromkeys(points, 1)
    asked = [effect.content["id"] for effect in Ledger(tmp_path / "provider.sqlite3").effects()]
    assert len(asked) == len(points)


async def _charge(workers: Fleet, *waves: Sequence[str], fault: str) -> Row:
    """Call the keys of one wave of orders after the other, each from several jobs at once."""
    answers: dict[str, list[Any]] = {}
    recoveries: list[float] = []
    for orders in waves:
        since = Stopwatch()
        begun = {
            order: await workers.begin(FleetCall(key=order, activity="pay", argument=order), _JOBS)
            for order in orders
        }
        answers |= {order: await answers_of(handles) for order, handles in begun.items()}
        recoveries.append(since.elapsed)
    return await tally(
        workers,
        answers,
        fault=fault,
        faults=sum(workers.folder.joinpath(f"effects.{order}").exists() for order in answers),
        recoveries=recoveries,
    )


@asynccontextmanager
async def replacing(workers: Fleet, number: int) -> AsyncGenerator[None]:
    """Keep `number` workers alive: one that has ended is replaced at once."""
    await workers.start_many(number)
    watching = asyncio.create_task(_replace(workers))
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def _replace(workers: Fleet) -> None:
    while True:
        for ended in [worker for worker in workers.workers if not worker.is_running]:
            workers.workers.remove(ended)
            workers.spawn()
        await asyncio.sleep(0.05)
