"""The demo: a job for each delivery of a sign-up event, each welcome e-mail once; and an order, charged once.

Every delivery starts a job of its own, under an id of its own: it is not Temporal's workflow id that keeps
messages from being sent twice here, but the deduplication key inside of the job.
"""

import asyncio
import logging
import mailbox
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from pydantic import SecretStr
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowFailureError
from temporalio.envconfig import ClientConnectConfig
from temporalio.exceptions import FailureError
from temporalio.worker import Worker

from activities.email import OutboxSettings
from activities.github import FolderSettings as GitHubFolderSettings
from activities.objects import FolderSettings as ObjectFolderSettings
from activities.payments import LedgerSettings
from activities.slack import FolderSettings as SlackFolderSettings
from activities.sms import FolderSettings as SmsFolderSettings
from activities.webhook import FolderSettings
from activities.worker_settings import Settings, StartupError
from dedupe import DedupeKeys
from dedupe.model.names import CLAIM, TWIN
from examples.deliveries import BadLine, Delivery, moments, read
from examples.dev_server import DevServer, dev_server
from examples.killed_order import killed_order
from workflows.onboarding import OnboardingJob, welcome_key

CreateWorker = Callable[[Settings, ClientConnectConfig], Awaitable[Worker]]

_PAUSE = timedelta(milliseconds=300)
_LONGEST_PLAY = timedelta(seconds=10)
_JOBS_AT_ONCE = 100
_WIDTH = 100
"""Of the output where it is no terminal."""


class How(StrEnum):
    """How a job came to its e-mail."""

    EXECUTED = "executed"
    """Its call sent the message."""
    JOINED = "joined"
    """It waited for the call of another job, which was sending it at that time."""
    REUSED = "reused"
    """It was given the record of a message sent before."""
    FAILED = "failed"


_STYLES = {How.EXECUTED: "green", How.JOINED: "yellow", How.REUSED: "cyan", How.FAILED: "red"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of one delivery."""

    delivery: Delivery
    job_id: str
    how: How
    result: str
    time: timedelta


async def run(file: str, data: Path, *, keep: bool, with_order: bool, create_worker: CreateWorker) -> int:
    """Run the demo over a file and return its exit code: 1 where a line was bad or a job failed.

    Raises:
        StartupError: It cannot start.
        CancelledError: It was told to stop by a signal before it was done.
    """
    console = Console(width=None if Console().is_terminal else _WIDTH, highlight=False, soft_wrap=True)
    deliveries, bad_lines = read(file)
    settings = _prepare(data)
    outbox = data / "outbox"
    _end_on_signals()
    async with dev_server(data) as server:
        config = ClientConnectConfig(target_host=server.address, namespace="default")
        async with await create_worker(settings, config) as worker:
            console.print(f"Temporal at {server.address} with its state in {server.state}, logs in {data}.")
            console.print(f"Web UI: {server.web_ui}")
            before = _count(outbox)
            jobs = _Jobs(worker.client, settings)
            async with AsyncExitStack() as stack:
                order = None
                if with_order:  # what became of its charge is found out while the sign-ups are played
                    killed = killed_order(worker.client, settings, data, name=jobs.run, console=console)
                    order = await stack.enter_async_context(killed)
                rows = await jobs.play(deliveries, console)
                _print_table(console, rows)
                _print_sums(console, rows, bad_lines)
                after = _count(outbox)
                console.print(
                    f"Messages in {outbox / 'new'}: [bold]{after}[/], {after - before} sent in this run."
                )
                if order is not None:
                    await order.finish(console)
            if keep:
                console.print(_what_to_try(server, settings))
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
            else:
                console.print(f"The Web UI, {server.web_ui}, ends here; with --keep it stays.")
    return 1 if bad_lines or any(row.how is How.FAILED for row in rows) else 0


def _prepare(data: Path) -> Settings:
    try:
        data.mkdir(parents=True, exist_ok=True)
        logging.basicConfig(
            filename=data / "demo.log", level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
        )
    except OSError as error:
        raise StartupError(
            f"cannot write to {data}: {error.strerror}. Set --data to another folder."
        ) from error
    return Settings(
        organization="acme",
        project="web",
        task_queue="demo",
        email=OutboxSettings(directory=data / "outbox"),
        payments=LedgerSettings(path=data / "ledger.sqlite3"),
        webhooks=FolderSettings(directory=data / "webhooks"),
        slack=SlackFolderSettings(directory=data / "slack"),
        github=GitHubFolderSettings(directory=data / "github"),
        sms=SmsFolderSettings(directory=data / "sms"),
        objects=ObjectFolderSettings(directory=data / "objects"),
        database_url=SecretStr(f"sqlite:///{data / 'database.sqlite3'}"),
        graceful_shutdown_timeout=timedelta(seconds=5),
    )


def _end_on_signals() -> None:
    task = asyncio.current_task()
    if task is not None:
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, task.cancel)


class _Jobs:
    """The jobs of one run of the demo."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._task_queue = settings.task_queue
        self._keys = DedupeKeys(client, organization=settings.organization, project=settings.project)
        self.run = datetime.now().astimezone().strftime("%m%d-%H%M%S")
        self._slots = asyncio.Semaphore(_JOBS_AT_ONCE)

    async def play(self, deliveries: Sequence[Delivery], console: Console) -> list[Row]:
        """Start a job for each delivery, moment by moment, and return what came of them."""
        instants = moments(deliveries)
        pause = min(_PAUSE, _LONGEST_PLAY / max(1, len(instants)))
        jobs: list[asyncio.Task[Row]] = []
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=console) as progress:
            done = progress.add_task("Jobs", total=len(deliveries))
            async with asyncio.TaskGroup() as group:
                for instant in instants:
                    for delivery in instant:
                        job = group.create_task(self._job(delivery))
                        job.add_done_callback(lambda _: progress.advance(done))
                        jobs.append(job)
                    await asyncio.sleep(pause.total_seconds())
        return [job.result() for job in jobs]

    async def _job(self, delivery: Delivery) -> Row:
        event = delivery.event
        async with self._slots:
            handle = await self._client.start_workflow(
                OnboardingJob.run,
                event.user,
                id=f"signup-{self.run}-{delivery.line:02}",
                task_queue=self._task_queue,
                static_summary=f"{event.id}: welcome {event.user.name}",
            )
            result, failed = "", False
            try:
                result = (await handle.result()).message_id.strip("<")[:8]
            except WorkflowFailureError as error:
                result, failed = _root(error), True
            events = (await handle.fetch_history()).events
            how = How.FAILED if failed else await self._how(delivery, handle.id, events)
            time = _time(events[-1]) - _time(events[0])
        return Row(delivery=delivery, job_id=handle.id, how=how, result=result, time=time)

    async def _how(self, delivery: Delivery, job_id: str, events: Sequence[HistoryEvent]) -> How:
        """Read it from the job's own history: where nothing was scheduled, the record answered."""
        called = next((_time(event) for event in events if _is_call(event)), None)
        if called is None:
            return How.REUSED
        record = await self._keys.get(welcome_key(delivery.event.user))
        if record is not None and record.started_by == job_id:
            return How.EXECUTED
        settled_before = record is not None and record.settled_at is not None and record.settled_at <= called
        return How.REUSED if settled_before else How.JOINED


def _is_call(event: HistoryEvent) -> bool:
    """Return whether a call with a key executes here, or begins to wait."""
    if event.event_type != EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
        return False
    name = event.activity_task_scheduled_event_attributes.activity_type.name
    return name == CLAIM or name.startswith(TWIN)


def _time(event: HistoryEvent) -> datetime:
    return event.event_time.ToDatetime(UTC)


def _root(error: BaseException) -> str:
    while isinstance(error, (WorkflowFailureError, FailureError)) and error.cause is not None:
        error = error.cause
    return str(error)


def _count(outbox: Path) -> int:
    return len(mailbox.Maildir(outbox, create=False))


def _print_table(console: Console, rows: Sequence[Row]) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("event", "job", "key", "how", "message"):
        table.add_column(name, overflow="fold")
    table.add_column("ms", justify="right")
    for row in rows:
        event = row.delivery.event
        table.add_row(
            escape(event.id),
            row.job_id,
            escape(welcome_key(event.user)),
            f"[{_STYLES[row.how]}]{row.how}[/]",
            escape(row.result),
            f"{row.time / timedelta(milliseconds=1):.0f}",
        )
    console.print(table)


def _print_sums(console: Console, rows: Sequence[Row], bad_lines: Sequence[BadLine]) -> None:
    for bad in bad_lines:
        console.print(f"[red]Line {bad.line} was skipped:[/] {escape(bad.reason)}")
    console.print("executed: its call sent the message. joined: it waited for the job that was sending it.")
    console.print("reused: it got the record of a message sent before.")
    users = {row.delivery.event.user.id for row in rows}
    counts = Counter(row.how for row in rows)
    sums = ", ".join(f"{counts[how]} [{_STYLES[how]}]{how}[/]" for how in How if counts[how])
    console.print(f"{len(rows)} deliveries of {len(users)} users: {sums or 'nothing to do'}.")


def _what_to_try(server: DevServer, settings: Settings) -> str:
    return (
        f"The Web UI stays: {server.web_ui}. Start a job yourself, from another terminal:\n"
        f"  {server.binary} workflow start --address {server.address} --task-queue {settings.task_queue} "
        f'--type {OnboardingJob.__name__} --input \'{{"id": "u101", "name": "Ada Lovelace", '
        '"email": "ada@example.com"}\'\n'
        "Ctrl-C ends it."
    )
