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
from dedupe import DedupePlugin
from dedupe.claims.peek import Peeks
from dedupe.model.messages import Peek
from dedupe.record.handle import KeyHandle
from tests.fakes.stripe_server import API_KEY
from tests.integration.effect_file import EffectFile, FileEffects, Gate
from tests.integration.jobs import CallJob, CallsJob, FanJob
from tests.integration.payments import Payments

CRASH_POINTS = (
    "before-the-peek",
    "after-the-peek",
    "before-the-acquisition",
    "after-the-acquisition",
    "before-a-claim-waits",
    "after-a-claim-waits",
    "before-the-effect",
    "after-the-effect",
    "before-the-record",
    "after-the-record",
)
"""Where a process can end. The effect's are points of the payment activity."""


def main() -> None:
    """Run the worker until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--task-queue", required=True)
    parser.add_argument("--effects", type=Path, required=True, help="file that effects go to")
    parser.add_argument("--organization", default="acme")
    parser.add_argument("--project", default="web")
    parser.add_argument("--key-queue", default="dedupe", help="task queue of the keys' workflows")
    parser.add_argument("--wait-slice", type=float, default=3, help="seconds")
    parser.add_argument("--sticky", type=float, default=0.5, help="seconds; the SDK's default is 10")
    parser.add_argument("--slots", type=int, default=100, help="activities at the same time")
    parser.add_argument("--grace", type=float, default=20, help="seconds that activities have after SIGTERM")
    parser.add_argument("--provider", help="address of the payment provider")
    parser.add_argument("--crash", action="store_true", help="at the points that keys are named after")
    parser.add_argument("--deployment", help="name of the worker's deployment, with --version")
    parser.add_argument("--version", help="build id of the worker's deployment version")
    parser.add_argument("--no-plugin", action="store_true")
    parser.add_argument("--no-jobs", action="store_true", help="serve keys and activities only")
    options = parser.parse_args()
    with ExitStack() as faults:
        for fault in crashes(options.effects) if options.crash else ():
            faults.enter_context(fault)
        asyncio.run(run(options))


async def run(options: argparse.Namespace) -> None:
    """Run the worker until SIGTERM, and then as long as what it has begun takes."""
    deduplication = DedupePlugin(
        organization=options.organization,
        project=options.project,
        task_queue=options.key_queue,
        wait_slice=timedelta(seconds=options.wait_slice),
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
        activities=[effects.effect, payments.pay, payments.find_payment],
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
    crash = _Crash(effects)
    peek = crash.around(Peeks.peek, "the-peek", _about_peek)
    acquire = crash.around(KeyHandle.acquire, "the-acquisition", _about_key)
    record = crash.around(KeyHandle.record, "the-record", _about_key)
    charge = crash.around(crash.charge_when_waited_for, "the-effect", _about_order)
    wait = crash.around(crash.wait_and_say, "a-claim-waits", _about_key)
    return [
        patch.object(Peeks, "peek", peek),
        patch.object(KeyHandle, "acquire", acquire),
        patch.object(KeyHandle, "record", record),
        patch.object(KeyHandle, "wait", wait),
        patch.object(Payments, "charge", charge),
    ]


def _about_peek(_: Peeks, peek: Peek) -> str:
    return " ".join(peeked.question.key for peeked in peek.questions)


def _about_key(key: KeyHandle, *_: object) -> str:
    return key.key_id


def _about_order(_: Payments, order: str) -> str:
    return order


class _Crash:
    """The end of a process, at points that are marked beside the effect file once they were reached."""

    def __init__(self, effects: Path) -> None:
        self._effects = effects
        self._charge = Payments.charge
        self._wait = KeyHandle.wait

    def around(
        self, function: Callable[..., Awaitable[Any]], point: str, about: Callable[..., str]
    ) -> Callable[..., Awaitable[Any]]:
        """Return `function`, before and after which the process ends where it is `about` such a key."""

        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            self._reached(f"before-{point}", about(*args))
            result = await function(*args, **kwargs)
            self._reached(f"after-{point}", about(*args))
            return result

        return wrapped

    async def charge_when_waited_for(self, payments: Payments, order: str) -> ChargeReceipt:
        """Charge; an order named after a point of a claim first waits until a claim waits for it."""
        while "-a-claim-" in order and not self._marker(f"{order}.waits").exists():
            await asyncio.sleep(0.05)
        return await self._charge(payments, order)

    async def wait_and_say(self, key: KeyHandle, run_id: str, *, after: int = 0) -> None:
        """Wait for the end of a run, and mark that somebody does."""
        for point in CRASH_POINTS:
            if point in key.key_id:
                self._marker(f"{point}.waits").touch()
        await self._wait(key, run_id, after=after)

    def _reached(self, point: str, about: str) -> None:
        if point in about and _is_first(self._marker(point)):
            os.kill(os.getpid(), signal.SIGKILL)

    def _marker(self, name: str) -> Path:
        return self._effects.with_suffix(f".{name}")


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
