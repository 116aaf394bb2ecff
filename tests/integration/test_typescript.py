"""Another language: activities in TypeScript for jobs in Python, and jobs in TypeScript."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError

import dedupe
from dedupe import Happened, KeyState
from dedupe.reach.nexus import DedupeServiceHandler
from tests.integration.processes import ROOT, Process
from tests.support.ground import Ground
from tests.support.nexus import make_endpoint
from tests.support.scripts import Call, returned

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


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources, with what they need; and they pass the type checker."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm here")
    folder = tmp_path_factory.mktemp("npm") / "typescript"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("node_modules"))
    for arguments in (["ci", "--no-audit", "--no-fund"], ["run", "check"]):
        subprocess.run([npm, *arguments], cwd=folder, check=True, capture_output=True)
    return folder


@asynccontextmanager
async def running(folder: Path, address: str, *arguments: str, log: Path) -> AsyncGenerator[None]:
    """Run a worker in TypeScript that is up."""
    # Not by the command `tsx`, which has a process of its own that would survive it.
    command = ["env", f"TEMPORAL_ADDRESS={address}", "node", "--import", "tsx", *arguments]
    process = Process(command, log=log, folder=folder)
    try:
        await process.says("up")
        yield
    finally:
        process.kill()


@pytest.fixture
async def charges(
    real: Ground, running_server: str, installed: Path, tmp_path: Path
) -> AsyncIterator[Charges]:
    """A worker of activities in TypeScript, on a task queue of its own."""
    here = Charges(f"typescript-{real.task_queue}", tmp_path / "ledger")
    command = ("worker.ts", here.task_queue, str(here.ledger))
    async with running(installed, running_server, *command, log=tmp_path / "typescript.log"):
        yield here


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


async def test_a_job_in_typescript_calls_with_a_key(
    real: Ground, running_server: str, installed: Path, tmp_path: Path
) -> None:
    """By the Nexus service; jobs there and here share one execution."""
    endpoint, there = await make_endpoint(real), f"jobs-{real.task_queue}"
    async with (
        real.worker(nexus_service_handlers=[DedupeServiceHandler()]),
        running(installed, running_server, "jobs.ts", there, log=tmp_path / "jobs.log"),
    ):
        jobs = [
            await real.server.start_workflow(
                "chargeOrder", args=[endpoint, "order-7"], id=f"{there}-{number}", task_queue=there
            )
            for number in range(3)
        ]
        async with asyncio.timeout(60):
            found = await asyncio.gather(*(job.result() for job in jobs))
        assert await real.call(Call(key="charge-order-7", argument="here")) == returned("order-7")
    assert found == ["order-7"] * 3
    assert len(real.effects.attempts) == 1
