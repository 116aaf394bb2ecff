"""Processes that a test starts, hurts and always ends: workers, and a server with its state on disk."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError

from dedupe import DedupeKeys, Scope
from dedupe.keys import Keyspace
from tests.integration.effects import EffectFile, Moment
from tests.integration.jobs import Call, Gate
from tests.integration.records import KeyHistory, key_history
from tests.support.servers import binary, dynamic_configuration, free_port, is_up
from tests.support.waiting import LONG, until

ORGANIZATION = "acme"

_ROOT = Path(__file__).parents[2]


class Process:
    """One process, with what it prints in a file."""

    def __init__(self, command: Sequence[str], *, log: Path, folder: Path = _ROOT) -> None:
        """Start `command` in a folder, mostly the project's, away from the terminal's signals."""
        self._log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._popen.pid

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    async def says(self, word: str) -> Self:
        """Return when it has printed `word`.

        Raises:
            RuntimeError: It ended instead.
        """

        async def said() -> bool:
            return word in self.printed or not self.is_running

        await until(said, what=f"the word {word!r}")
        if word not in self.printed:
            raise RuntimeError(f"process ended with {self._popen.returncode}:\n{self.printed[-2_000:]}")
        return self

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self.is_running:
            self._popen.kill()
        self._popen.wait()

    def freeze(self) -> None:
        """Stop it with SIGSTOP: it holds its connections and does nothing."""
        self._popen.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it run on with SIGCONT."""
        self._popen.send_signal(signal.SIGCONT)

    async def drain(self, *, within: timedelta = LONG) -> bool:
        """Ask it to end with SIGTERM; return whether it had drained when it ended.

        Its exit code is no witness: the SDK's threads may abort the interpreter while it shuts down.
        """
        self._popen.send_signal(signal.SIGTERM)

        async def ended() -> bool:
            return not self.is_running

        await until(ended, within=within, what="the end of the process")
        return "drained" in self.printed

    def resident_bytes(self) -> int:
        """Return how much memory it holds."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


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

    def spawn(self, *options: str, sources: Path = _ROOT) -> Process:
        """Start a worker, of another version's sources if they are given, and do not wait for it."""
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
                f"--ledger={self.folder / 'effects.jsonl'}",
                *self._options,
                *options,
            ],
            log=self.folder / f"worker-{self._started}.log",
            folder=sources,
        )
        self.workers.append(worker)
        return worker

    def by_pid(self, pid: int) -> Process:
        """Return the worker with this process id."""
        return next(worker for worker in self.workers if worker.pid == pid)

    def key_id(self, key: str, *, scope: Scope = Scope.PROJECT, job: str | None = None) -> str:
        """Return the id of a key's workflow."""
        keyspace = Keyspace(organization=ORGANIZATION, project=self.project)
        return keyspace.scoped(key, scope=scope, job=job).format()

    async def history(self, key: str) -> KeyHistory:
        """Count what happened to a key."""
        return await key_history(self.client, self.key_id(key))

    async def begin(self, call: Call, number: int = 1) -> list[WorkflowHandle[Any, Any]]:
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

    async def signalled(
        self,
        number: int,
        key: str,
        *,
        within: timedelta = LONG,
        every: timedelta = timedelta(milliseconds=50),
    ) -> None:
        """Wait until so many claims have told a key that they wait for it."""

        async def all_have() -> bool:
            return (await self.history(key)).signals >= number

        await until(all_have, within=within, every=every, what=f"the waiting of {number} claims for {key!r}")

    async def inside(self, call: Call, *, waiting: int) -> Process:
        """Return the worker that is paused inside the call's effect, when `waiting` others wait for it.

        The key's workflow knows of them then: no workflow task of it is open.
        """

        async def paused() -> bool:
            return bool(self.effects.entries(Moment.PAUSED, name=call.key))

        async def is_idle() -> bool:
            key = await self.client.get_workflow_handle(self.key_id(call.key)).describe()
            return not key.raw_description.HasField("pending_workflow_task")

        await until(paused, what=f"a pause inside the effect of {call.key!r}")
        await self.signalled(waiting, call.key)
        await until(is_idle, what=f"an end of the tasks of {call.key!r}")
        pid = self.effects.entries(Moment.PAUSED, name=call.key)[-1].pid
        return next(worker for worker in self.workers if worker.pid == pid)


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


async def end_of(handle: WorkflowHandle[Any, Any]) -> str:
    """Return how a job ended: its result, or its error's types and messages down to the first cause.

    "STUCK" for one that does not end: most likely its tasks fail for ever.
    """
    try:
        async with asyncio.timeout(60):
            return str(await handle.result())
    except WorkflowFailureError as error:
        causes: list[str] = []
        cause: BaseException | None = error.cause
        while cause is not None:
            kind = cause.type if isinstance(cause, ApplicationError) else type(cause).__name__
            causes.append(f"{kind}: {getattr(cause, 'message', cause)}")
            cause = cause.__cause__
        return " <- ".join(causes)
    except TimeoutError:
        return "STUCK"


class DevServer:
    """A Temporal dev server as a process, with its state in a file: it can be killed, and started again."""

    def __init__(self, folder: Path, *, settings: Sequence[str] = ()) -> None:
        """Describe a server whose state lies in `folder`.

        Args:
            folder: Where its state and its log lie.
            settings: Dynamic configuration, as KEY=VALUE.
        """
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self._folder = folder
        self._command = [
            binary("temporal"),
            "server",
            "start-dev",
            "--headless",
            "--ip=127.0.0.1",
            f"--port={port}",
            f"--db-filename={folder / 'temporal.db'}",
            "--log-level=error",
            *dynamic_configuration(*settings),
        ]
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it on the state that it left, and return when it answers."""
        self._process = Process(self._command, log=self._folder / "server.log")
        await until(lambda: is_up(self.address), every=timedelta(milliseconds=50), what="the server's start")

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None:
            self._process.kill()


@asynccontextmanager
async def dev_server(folder: Path, *settings: str) -> AsyncGenerator[DevServer]:
    """A dev server that answers; it ends with the block."""
    server = DevServer(folder, settings=settings)
    try:
        await server.start()
        yield server
    finally:
        server.kill()
