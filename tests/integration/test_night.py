"""docs/night.md: each command prints what the page says, asked in this order."""

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

import dedupe
from dedupe import DedupeKeys, KeyState
from tests.integration.processes import ROOT
from tests.support.servers import dev_server
from tests.support.waiting import until

PAGE = ROOT / "docs" / "night.md"
PRINTS_TABLES = {"show", "list", "stats", "why"}
BILLS = 100
mended: set[int] = set()
QUEUE = "shop"


@activity.defn
async def send_email(user: int) -> str:
    """Send one, but for the user whose address is wrong, and the user whose provider is down."""
    if user in mended:
        return f"mail-{user}"
    if user == 7:
        raise ApplicationError("there is no mailbox of that name", type="NoMailbox", non_retryable=True)
    raise ApplicationError("the provider answered 503", type="Unavailable")


@activity.defn
async def send_page(incident: int) -> str:
    """Send one, and never learn of it."""
    await asyncio.Event().wait()
    return f"page-{incident}"


@activity.defn
async def bill(order: int) -> str:
    """Make a bill."""
    return f"bill-{order}"


@workflow.defn
class SignupJob:
    """Welcomes a user."""

    @workflow.run
    async def run(self, user: int) -> str:
        """Send the e-mail."""
        return await dedupe.execute_activity(
            send_email,
            user,
            deduplication_key=f"welcome-email-{user}",
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(minutes=1)),
        )


@workflow.defn
class AlarmJob:
    """Pages somebody."""

    @workflow.run
    async def run(self, incident: int) -> str:
        """Send the page, and do not repeat it."""
        return await dedupe.execute_activity(
            send_page,
            incident,
            deduplication_key=f"page-{incident}",
            on_unknown="hold",
            start_to_close_timeout=timedelta(milliseconds=500),
        )


@workflow.defn
class BillsJob:
    """Makes many bills."""

    @workflow.run
    async def run(self, orders: int) -> None:
        """Make them."""
        calls = (
            dedupe.execute_activity(
                bill,
                order,
                deduplication_key=f"bill-{order}",
                start_to_close_timeout=timedelta(seconds=10),
            )
            for order in range(1, orders + 1)
        )
        await asyncio.gather(*calls)


def asked() -> Iterator[tuple[str, str, str]]:
    """Yield each command of the page with its heading and what it prints."""
    for section in PAGE.read_text().split("\n## ")[1:]:
        for block in re.findall(r"^```\n(.*?)^```$", section, flags=re.DOTALL | re.MULTILINE):
            for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                line, _, printed = entry.partition("\n")
                yield section.partition("\n")[0], line, printed


def alike(printed: str) -> list[str]:
    """Return the lines of an output without what differs from night to night: times, and ids of runs."""
    for pattern, word in (
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "TIME"),
        (r"\d\d:\d\d:\d\d UTC", "TIME"),
        (r"\d+ (s|min|h|days) ago", "AGO"),
        (r"in \d+ s", "SOON"),
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
        (r"\d+@\w+", "OPERATOR"),
        (r" +", " "),
    ):
        printed = re.sub(pattern, word, printed)
    return [line.strip() for line in printed.strip("\n").split("\n")]


def test_the_page_asks_what_is_tested() -> None:
    """A page that is not found, or not read, would pass."""
    assert len(list(asked())) == 14
    assert alike("2026-01-31 10:00:00 UTC, 3 s ago  x\n") == ["TIME, AGO x"]


async def test_each_command_prints_what_the_page_says(tmp_path: Path) -> None:
    """On a real server, with a real worker; an hour is no time here."""
    (tmp_path / "keys.txt").write_text("".join(f"bill-{order}\n" for order in range(1, BILLS + 1)))
    async with shop() as (client, keys):
        before = preparations(client, keys)
        for heading, line, expected in asked():
            if (prepare := before.pop(heading, None)) is not None:
                await prepare()
            name, *rest = shlex.split(
                line.removeprefix("dedupe ").replace("--older-than 1h", "--older-than 0s")
            )
            shown = ["--output", "table"] if name in PRINTS_TABLES else []
            address = client.service_client.config.target_host
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-m", "dedupe", name, *rest, *shown],
                cwd=tmp_path,
                env=environment(address),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            assert alike(done.stdout) == alike(expected), f"$ {line}\n{done.stdout}"
        assert before == {}


def environment(address: str) -> dict[str, str]:
    """Return the environment that the page speaks of."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "DEDUPE_"))
    }
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "TEMPORAL_ADDRESS": address,
        "DEDUPE_ORGANIZATION": "acme",
        "DEDUPE_PROJECT": "web",
        "DEDUPE_UI": "http://localhost:8233",
    }


@asynccontextmanager
async def shop() -> AsyncGenerator[tuple[Client, DedupeKeys]]:
    """Run a server and a worker."""
    mended.clear()
    plugin = dedupe.DedupePlugin(organization="acme", project="web")
    async with (
        dev_server() as client,
        Worker(
            client,
            task_queue=QUEUE,
            workflows=[SignupJob, AlarmJob, BillsJob],
            activities=[send_email, send_page, bill],
            plugins=[plugin],
            identity="worker-1",
        ),
    ):
        yield client, DedupeKeys(client, organization="acme", project="web")


def preparations(client: Client, keys: DedupeKeys) -> dict[str, Callable[[], Awaitable[None]]]:
    """Return what happens in the shop before a question is asked, by its heading."""

    async def is_listed(key: str, state: KeyState) -> bool:
        return key in [record.key async for record in keys.list(state=state)]

    async def provider_goes_down() -> None:
        await client.start_workflow(AlarmJob.run, 3, id="alarm-3", task_queue=QUEUE)
        await client.start_workflow(SignupJob.run, 42, id="signup-42", task_queue=QUEUE)

        async def waits() -> bool:
            record = await keys.get("welcome-email-42")
            return record is not None and record.attempts is not None and record.attempts.number == 2

        await until(waits, what="the second attempt's turn")

    async def address_is_wrong() -> None:
        job = await client.start_workflow(SignupJob.run, 7, id="signup-7", task_queue=QUEUE)
        await asyncio.gather(job.result(), return_exceptions=True)
        await until(lambda: is_listed("welcome-email-7", KeyState.FAILED), what="the failed key in the list")
        mended.add(7)

    async def page_is_held() -> None:
        async def is_over() -> bool:  # what is held is resolved once its attempt must be over
            record = await keys.get("page-3")
            since = None if record is None else record.held_since
            return since is not None and datetime.now(UTC) > since + timedelta(seconds=10)

        await until(is_over, what="the end of the attempt that is held")

    async def bills_are_made() -> None:
        await client.execute_workflow(BillsJob.run, BILLS, id="bills", task_queue=QUEUE)

    async def bills_are_gone() -> None:
        async def are_gone() -> bool:
            return not [record async for record in keys.list(prefix="bill-")]

        await until(are_gone, what="the end of the bills in the list")

    return {
        "Why did user 42 get no e-mail?": provider_goes_down,
        "What has failed, and how is it sent again?": address_is_wrong,
        "Which keys wait for a person?": page_is_held,
        "How are a hundred of them made to happen again?": bills_are_made,
        "How many are there of each?": bills_are_gone,
    }
