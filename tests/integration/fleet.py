"""Workers as processes of their own, to be killed, frozen and drained; what they serve, and what they did."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter

from dedupe import DedupeKeys, Scope
from dedupe.model.keys import Keyspace
from tests.integration.effect_file import EffectFile, Gate, Moment
from tests.integration.jobs import FleetCall
from tests.integration.processes import ROOT, Process
from tests.integration.records import KeyHistory, claims_of, key_history
from tests.support.waiting import LONG, until

ORGANIZATION = "acme"


class Fleet:
    """Workers of one task queue, one effect file and one gate."""

    def __init__(self, client: Client, folder: Path, options: Sequence[str]) -> None:
        """Describe workers against the client's server, with keys of their own."""
        self.client = client
        self.project = f"{folder.name}-{os.getpid()}"
        self.task_queue = f"jobs-{self.project}"
        self.key_queue = f"keys-{self.project}"
        self.keys = DedupeKeys(client, organization=ORGANIZATION, project=self.project)
        self.effects = EffectFile(folder / "effects.jsonl")
        self.gate = Gate(folder / "effects.gate")
        self.workers: list[Process] = []
        self.folder = folder
        self._options = tuple(options)
        self._started = 0
        self._jobs = 0

    async def start(self, *options: str) -> Process:
        """Start a worker, and return it when it polls."""
        [worker] = await self.start_many(1, *options)
        return worker

    async def start_many(self, number: int, *options: str) -> list[Process]:
        """Start workers, and return them when all of them poll."""
        started = [self.spawn(*options) for _ in range(number)]
        for worker in started:
            await worker.says("ready")
        return started

    def spawn(self, *options: str) -> Process:
        """Start a worker, and do not wait for it."""
        self._started += 1
        worker = Process(
            [
                sys.executable,
                "-m",
                "tests.integration.worker_process",
                f"--address={self.client.service_client.config.target_host}",
                f"--organization={ORGANIZATION}",
                f"--project={self.project}",
                f"--task-queue={self.task_queue}",
                f"--key-queue={self.key_queue}",
                f"--effects={self.folder / 'effects.jsonl'}",
                *self._options,
                *options,
            ],
            log=self.folder / f"worker-{self._started}.log",
            folder=ROOT,
        )
        self.workers.append(worker)
        return worker

    def key_id(self, key: str) -> str:
        """Return the id of a key's workflow."""
        space = Keyspace(organization=ORGANIZATION, project=self.project)
        return space.scoped(key, scope=Scope.PROJECT).format()

    async def history(self, key: str) -> KeyHistory:
        """Count what happened to a key, in all runs of its workflow."""
        return await key_history(self.client, self.key_id(key))

    async def begin(self, call: FleetCall, number: int = 1) -> list[WorkflowHandle[Any, Any]]:
        """Start jobs that all make one call."""
        self._jobs += number
        return await asyncio.gather(
            *(
                self.client.start_workflow(
                    "CallJob",
                    call,
                    id=f"{self.project}/{call.key}/{self._jobs - index}",
                    task_queue=self.task_queue,
                )
                for index in range(number)
            )
        )

    async def waiting(
        self,
        number: int,
        jobs: Sequence[WorkflowHandle[Any, Any]],
        *,
        within: timedelta = LONG,
        every: timedelta = timedelta(milliseconds=50),
    ) -> None:
        """Wait until so many calls of these jobs wait for a key."""

        async def all_do() -> bool:
            return await claims_of(jobs) >= number

        await until(all_do, within=within, every=every, what=f"the claims of {number} calls")

    async def inside(self, call: FleetCall, jobs: Sequence[WorkflowHandle[Any, Any]]) -> Process:
        """Return the worker that is paused inside the call's effect, once the other jobs wait for it."""

        async def paused() -> bool:
            return bool(self.effects.entries(Moment.PAUSED, name=call.key))

        await until(paused, what=f"a pause inside the effect of {call.key!r}")
        await self.waiting(len(jobs) - 1, jobs)
        pid = self.effects.entries(Moment.PAUSED, name=call.key)[-1].pid
        return next(worker for worker in self.workers if worker.pid == pid)


@asynccontextmanager
async def fleet(address: str, folder: Path, *options: str) -> AsyncGenerator[Fleet]:
    """Workers in `folder`, none of them started yet. At the end all are killed, frozen ones too."""
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    workers = Fleet(client, folder, options)
    try:
        yield workers
    finally:
        for worker in workers.workers:
            worker.kill()


LOST = "no answer"
"""Stands for the answer of a job that does not end."""


async def answers_of(
    handles: Sequence[WorkflowHandle[Any, Any]], *, within: timedelta = timedelta(seconds=60)
) -> list[Any]:
    """Return what jobs returned, and `LOST` for those that have not.

    The limit is generous: how long it takes is for the table to say.
    """
    results = [asyncio.create_task(handle.result()) for handle in handles]
    _, lost = await asyncio.wait(results, timeout=within.total_seconds())
    for result in lost:
        result.cancel()
    return [LOST if result in lost else result.result() for result in results]
