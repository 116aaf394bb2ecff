"""Activities in another language: a worker in TypeScript executes what jobs in Python call with a key."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError

import dedupe
from dedupe import Happened, KeyState
from tests.integration.processes import ROOT, Process
from tests.support.ground import Ground

pytestmark = [pytest.mark.torture, pytest.mark.timeout(400)]

SOURCE = ROOT / "examples" / "typescript"


@workflow.defn
class ForeignCharge:
    """Charges an order, by whoever polls a task queue."""

    @workflow.run
    async def run(self, order: str, task_queue: str) -> str:
        """Charge it."""
        charged: str = await dedupe.execute_activity(
            "charge",
            order,
            deduplication_key=f"charge-{order}",
            on_unknown="hold",
            task_queue=task_queue,
            result_type=str,
            start_to_close_timeout=timedelta(seconds=30),
        )
        return charged


class Charges:
    """The worker, and the file in which it keeps its charges."""

    def __init__(self, task_queue: str, ledger: Path) -> None:
        """Know them."""
        self.task_queue = task_queue
        self.ledger = ledger

    @property
    def entries(self) -> list[list[str]]:
        """Order and idempotency key of each charge."""
        return [line.split() for line in self.ledger.read_text().splitlines()]


@pytest.fixture
async def charges(real: Ground, running_server: str, tmp_path: Path) -> AsyncIterator[Charges]:
    """A worker in TypeScript, on a task queue of its own."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm here")
    folder = tmp_path / "typescript"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("node_modules"))
    await asyncio.to_thread(
        subprocess.run, [npm, "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True
    )
    await asyncio.to_thread(
        subprocess.run, [npm, "run", "check"], cwd=folder, check=True, capture_output=True
    )
    here = Charges(f"typescript-{real.task_queue}", tmp_path / "ledger")
    command = [
        "env",
        f"TEMPORAL_ADDRESS={running_server}",
        str(folder / "node_modules" / ".bin" / "tsx"),
        "worker.ts",
        here.task_queue,
        str(here.ledger),
    ]
    process = Process(command, log=tmp_path / "typescript.log", folder=folder)
    try:
        await process.says("up")
        yield here
    finally:
        process.kill()


async def test_a_worker_in_typescript_executes_once(real: Ground, charges: Charges) -> None:
    """However many jobs ask; it finds the idempotency key in the activity's id."""
    async with real.worker(workflows=[ForeignCharge]):
        arguments = ["order-7", charges.task_queue]
        together = await asyncio.gather(*(real.run(ForeignCharge.run, args=arguments) for _ in range(5)))
        again = await real.run(ForeignCharge.run, args=arguments)
    assert {*together, again} == {"ch_order-7"}
    [[order, idempotency_key]] = charges.entries
    record = await real.keys.get("charge-order-7")
    assert record is not None
    assert (order, idempotency_key) == ("order-7", record.idempotency_key)


async def test_its_failures_are_those_of_any_activity(real: Ground, charges: Charges) -> None:
    """With the type that it gave; and what it cannot tell is held."""
    async with real.worker(workflows=[ForeignCharge]):
        with pytest.raises(WorkflowFailureError) as raised:
            await real.run(ForeignCharge.run, args=["declined", charges.task_queue])
        assert isinstance(raised.value.cause, ActivityError)
        assert isinstance(raised.value.cause.cause, ApplicationError)
        assert raised.value.cause.cause.type == "CardDeclined"
        job = await real.start(ForeignCharge.run, args=["lost", charges.task_queue])
        await real.reached(KeyState.HELD, "charge-lost")
        await real.keys.resolve("charge-lost", Happened("ch_by_hand"), force=True)
        assert await job.result() == "ch_by_hand"
    assert "lost" not in os.fsdecode(charges.ledger.read_bytes() if charges.ledger.exists() else b"")
