"""An order whose worker is killed in its charge: after the money moved, before anybody recorded it."""

import asyncio
import os
import signal
import sqlite3
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from temporalio.client import Client, WorkflowHandle

from activities.payments import Charge
from activities.worker_settings import Settings, StartupError
from workflows.order import Order, OrderJob

_TASK_QUEUE = "demo-orders"
_ORDERS = """
CREATE TABLE IF NOT EXISTS orders (order_id TEXT PRIMARY KEY, charge_id TEXT, amount INTEGER, currency TEXT)
"""
_WORKER = Path(__file__).parent.parent / "worker.py"
_PATIENCE = timedelta(seconds=60)
_SLOW = timedelta(seconds=30)
"""How long the bank of the first worker takes to answer: it does not live to hear it."""


@asynccontextmanager
async def killed_order(
    client: Client, settings: Settings, data: Path, *, name: str, console: Console
) -> AsyncGenerator["KilledOrder"]:
    """Start an order, kill its worker in the charge, and start another one for as long as the block runs.

    Raises:
        StartupError: The charge was not made in time.
    """
    with closing(sqlite3.connect(data / "database.sqlite3")) as database:
        database.execute(_ORDERS)
    order_id = f"order-{name}"
    charge = Charge(order_id=order_id, customer="cus_ada", amount=1_099, currency="eur")
    order = Order(charge=charge, receipt_to="ada@example.com", note_to="C024BE91L")
    first = await _worker(client, settings, data, answers_after=_SLOW)
    try:
        job: WorkflowHandle[OrderJob, object] = await client.start_workflow(
            OrderJob.run, order, id=order_id, task_queue=_TASK_QUEUE, static_summary="killed in the charge"
        )
        killed = KilledOrder(job=job, order_id=order_id, ledger=data / "ledger.sqlite3")
        await killed.wait_for_charge(first, log=data / "orders.log")
    finally:
        if first.returncode is None:
            first.kill()
        await first.wait()
    console.print(f"Order {order_id}: charged, and its worker was killed (kill -9) before it could say so.")
    second = await _worker(client, settings, data, answers_after=timedelta(0))
    try:
        yield killed
    finally:
        if second.returncode is None:
            second.send_signal(signal.SIGTERM)
        await second.wait()


class KilledOrder:
    """The order, on its way."""

    def __init__(self, *, job: WorkflowHandle[OrderJob, object], order_id: str, ledger: Path) -> None:
        """Take what is known of it."""
        self._job = job
        self._order_id = order_id
        self._ledger = ledger

    async def wait_for_charge(self, worker: Process, *, log: Path) -> None:
        """Wait until the ledger has the charge.

        Raises:
            StartupError: It has none in time.
        """
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                while self._charges() == 0:
                    if worker.returncode is not None:
                        raise StartupError(f"the worker of orders does not start. See {log}")
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise StartupError(f"no charge within {_PATIENCE}. See {log}") from error

    async def finish(self, console: Console) -> None:
        """Wait for the job, and print what came of it.

        Raises:
            WorkflowFailureError: It failed.
        """
        console.print(
            f"Order {self._order_id}: its key is held until the lost attempt must be over; then the ledger "
            "is asked, and nothing is charged again."
        )
        await self._job.result()
        console.print(f"Order {self._order_id}: done. Charges in the ledger: [bold]{self._charges()}[/].")

    def _charges(self) -> int:
        with closing(sqlite3.connect(self._ledger)) as file:
            found = file.execute(
                "SELECT count(*) FROM charges WHERE order_id = ?", (self._order_id,)
            ).fetchone()
        return int(found[0])


async def _worker(client: Client, settings: Settings, data: Path, *, answers_after: timedelta) -> Process:
    """Start a worker of orders, with the settings and files of the demo."""
    environment = {
        "TEMPORAL_ADDRESS": client.service_client.config.target_host,
        "WORKER_ORGANIZATION": settings.organization,
        "WORKER_PROJECT": settings.project,
        "WORKER_TASK_QUEUE": _TASK_QUEUE,
        "WORKER_EMAIL__DIRECTORY": str(data / "outbox-of-orders"),
        "WORKER_PAYMENTS__PATH": str(data / "ledger.sqlite3"),
        "WORKER_PAYMENTS__ANSWERS_AFTER": f"PT{answers_after.total_seconds():g}S",
        "WORKER_WEBHOOKS__DIRECTORY": str(data / "webhooks"),
        "WORKER_SLACK__DIRECTORY": str(data / "slack"),
        "WORKER_GITHUB__DIRECTORY": str(data / "github"),
        "WORKER_SMS__DIRECTORY": str(data / "sms"),
        "WORKER_OBJECTS__DIRECTORY": str(data / "objects"),
        "WORKER_DATABASE_URL": settings.database_url.get_secret_value(),
        "WORKER_GRACEFUL_SHUTDOWN_TIMEOUT": "PT2S",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    with (data / "orders.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            str(_WORKER),
            env={**inherited, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
