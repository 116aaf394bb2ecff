"""The worker process: `python -m benchmarks.worker ADDRESS`. Says "ready", serves until SIGTERM.

Three workers: one that knows nothing of deduplication, one with the plugin and otherwise the SDK's defaults,
and one for the ways written by hand, whose waiting wrappers need more activity slots than the default. The
slots of the last two can be set, to see what becomes of more calls than there are slots.
"""

import argparse
import asyncio
import signal
from contextlib import AsyncExitStack
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Worker

from benchmarks.by_hand import ByHand, ChildJob, KeyedEffect, WrapperJob
from benchmarks.jobs import ApartJob, DedupedJob, LocalJob, PlainJob, ReadingJob, effect, read
from benchmarks.processes import READY
from benchmarks.work import BY_HAND_QUEUE, DEDUPED_QUEUE, PLAIN_QUEUE
from dedupe import DedupePlugin

ORGANIZATION, PROJECT = "bench", "bench"


async def serve(address: str, *, deduped_slots: int, by_hand_slots: int, sticky_timeout: timedelta) -> None:
    """Run the workers until SIGTERM."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    client = await Client.connect(address)
    deduped = await Client.connect(
        address, plugins=[DedupePlugin(organization=ORGANIZATION, project=PROJECT)]
    )
    by_hand = ByHand(client)
    workers = [
        Worker(
            client,
            task_queue=PLAIN_QUEUE,
            workflows=[PlainJob, LocalJob, ReadingJob, ApartJob],
            activities=[effect, read],
            sticky_queue_schedule_to_start_timeout=sticky_timeout,
        ),
        Worker(
            deduped,
            task_queue=DEDUPED_QUEUE,
            workflows=[DedupedJob],
            activities=[effect],
            max_concurrent_activities=deduped_slots,
            sticky_queue_schedule_to_start_timeout=sticky_timeout,
        ),
        Worker(
            client,
            task_queue=BY_HAND_QUEUE,
            workflows=[WrapperJob, ChildJob, KeyedEffect],
            activities=[effect, by_hand.wrapper, by_hand.read_result],
            max_concurrent_activities=by_hand_slots,
            sticky_queue_schedule_to_start_timeout=sticky_timeout,
        ),
    ]
    async with AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(worker)
        print(READY, flush=True)
        await stopped.wait()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker")
    parser.add_argument("address")
    parser.add_argument("--deduped-slots", type=int, default=100, help="the SDK's default is 100")
    parser.add_argument("--by-hand-slots", type=int, default=1000)
    parser.add_argument("--sticky-timeout", type=float, default=10.0, help="seconds; the SDK's default is 10")
    options = parser.parse_args()
    asyncio.run(
        serve(
            options.address,
            deduped_slots=options.deduped_slots,
            by_hand_slots=options.by_hand_slots,
            sticky_timeout=timedelta(seconds=options.sticky_timeout),
        )
    )


if __name__ == "__main__":
    main()
