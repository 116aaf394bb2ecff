"""A worker as a process of its own, for tests to kill, freeze and drain.

    python -m tests.integration.worker_process --address 127.0.0.1:7233 --task-queue jobs --effects file

It says `ready` on stdout once it polls. With `--crash` it ends itself, as `kill -9` does, where a key is
named after one of `CRASH_POINTS`: the first time that any process with the same effect file gets there.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pydantic import SecretStr
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker, WorkerDeploymentConfig

from activities.payments import ChargeReceipt, StripeTransport
from dedupe import DedupePlugin, settle
from dedupe.key_handle import KeyHandle
from dedupe.messages import Waiter
from dedupe.peek import Peeks
from tests.fakes.stripe_server import API_KEY
from tests.integration import wire
from tests.integration.effect_file import EffectFile, FileEffects, Gate
from tests.integration.jobs import CallJob, CallsJob, FanJob
from tests.integration.payments import Payments

CRASH_POINTS = (
    "before-the-peek",
    "after-the-peek",
    "before-the-key-starts",
    "after-the-key-started",
    "before-a-claim-joins",
    "after-a-claim-joined",
    "before-the-effect",
    "after-the-effect",
    "before-the-settling",
    "after-the-settling",
)
"""Where a process can end. The effect's are points of the payment activity."""


def main() -> None:
    """Run the worker until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--task-queue", required=True)
    parser.add_argument("--effects", "--ledger", type=Path, required=True, help="file that effects go to")
    parser.add_argument("--organization", default="acme")
    parser.add_argument("--project", default="web")
    parser.add_argument("--key-queue", default="dedupe", help="task queue of the keys' workflows")
    parser.add_argument("--wait-slice", type=float, default=3, help="seconds")
    parser.add_argument("--sticky", type=float, default=0.5, help="seconds; the SDK's default is 10")
    parser.add_argument("--cached-keys", type=int, default=500)
    parser.add_argument("--slots", type=int, default=100, help="activities at the same time")
    parser.add_argument("--grace", type=float, default=20, help="seconds that activities have after SIGTERM")
    parser.add_argument("--provider", help="address of the payment provider")
    parser.add_argument("--crash", action="store_true", help="at the points that keys are named after")
    parser.add_argument("--wire", choices=["this", "older", "newer"], default="this")
    parser.add_argument("--deployment", help="name of the worker's deployment, with --version")
    parser.add_argument("--version", help="build id of the worker's deployment version")
    parser.add_argument("--no-plugin", action="store_true")
    parser.add_argument("--no-jobs", action="store_true", help="serve keys and activities only")
    options = parser.parse_args()
    with ExitStack() as faults:
        for fault in [
            *(crashes(options.effects) if options.crash else ()),
            *wire.other_version(options.wire),
        ]:
            faults.enter_context(fault)
        asyncio.run(run(options))


async def run(options: argparse.Namespace) -> None:
    """Run the worker until SIGTERM, and then as long as what it has begun takes."""
    deduplication = DedupePlugin(
        organization=options.organization,
        project=options.project,
        task_queue=options.key_queue,
        wait_slice=timedelta(seconds=options.wait_slice),
        max_cached_keys=options.cached_keys,
    )
    client = await Client.connect(
        options.address,
        data_converter=pydantic_data_converter,
        plugins=[] if options.no_plugin else [deduplication],
    )
    effects = FileEffects(EffectFile(options.effects), Gate(options.effects.with_suffix(".gate")))
    payments = Payments(
        EffectFile(options.effects),
        StripeTransport(
            api_key=SecretStr(API_KEY),
            base_url=options.provider or "http://127.0.0.1:9",
            timeout=timedelta(seconds=5),
        ),
    )
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with Worker(
        client,
        task_queue=options.task_queue,
        workflows=[] if options.no_jobs else [CallJob, CallsJob, FanJob],
        activities=[effects.effect, payments.pay],
        max_concurrent_activities=options.slots,
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=options.sticky),
        graceful_shutdown_timeout=timedelta(seconds=options.grace),
        deployment_config=_deployment(options.deployment, options.version),
    ):
        _say("ready")
        await stopped.wait()
        _say("draining")
    _say("drained")


def crashes(effects: Path) -> list[AbstractContextManager[object]]:
    """Return patches that end the process at the point a key is named after, once for each effect file."""

    def reached(point: str, about: str) -> None:
        if point in about and _is_first(effects.with_suffix(f".{point}")):
            os.kill(os.getpid(), signal.SIGKILL)

    def around(
        function: Callable[..., Awaitable[Any]], before: str, after: str, about: Callable[..., str]
    ) -> Callable[..., Awaitable[Any]]:
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            reached(before, about(*args))
            result = await function(*args, **kwargs)
            reached(after, about(*args))
            return result

        return wrapped

    def of_key(*arguments: object) -> str:
        return next(each.key_id for each in arguments if isinstance(each, KeyHandle))

    def of_waiter(_: Client, waiter: Waiter, *_rest: object) -> str:
        return waiter.workflow_id

    def of_order(_: Payments, order: str) -> str:
        return order

    charge = Payments.charge

    async def charge_when_joined(payments: Payments, order: str) -> ChargeReceipt:
        """Charge; an order named after a point of joining first waits until that point has been reached."""
        while "-join" in order and not effects.with_suffix(f".{order}").exists():
            await asyncio.sleep(0.05)
        return await charge(payments, order)

    return [
        patch.object(Peeks, "peek", around(Peeks.peek, "before-the-peek", "after-the-peek", of_key)),
        patch.object(
            KeyHandle,
            "start",
            around(KeyHandle.start, "before-the-key-starts", "after-the-key-started", of_key),
        ),
        patch.object(
            KeyHandle,
            "attach",
            around(KeyHandle.attach, "before-a-claim-joins", "after-a-claim-joined", of_key),
        ),
        patch.object(
            settle,
            "_tell",
            around(
                settle._tell,
                "before-the-settling",
                "after-the-settling",
                of_waiter,
            ),
        ),
        patch.object(
            Payments,
            "charge",
            around(charge_when_joined, "before-the-effect", "after-the-effect", of_order),
        ),
    ]


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def _is_first(marker: Path) -> bool:
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _deployment(name: str | None, build: str | None) -> WorkerDeploymentConfig | None:
    if name is None or build is None:
        return None
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment_name=name, build_id=build),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


if __name__ == "__main__":
    main()
