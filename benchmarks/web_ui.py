"""Screenshots of the Temporal Web UI: `make screenshots`, with Chromium installed.

A charge takes long and fails once, a second job waits for it, a third one gets what is recorded, and one
fails for good: what the pages of the Web UI say of each goes into `docs/img`.
"""

import asyncio
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

import dedupe
from benchmarks.environment import environment
from dedupe import DedupeKeys, DedupePlugin
from dedupe.record.search import NAMES, register

_TASK_QUEUE = "web-ui"
_PICTURES = Path(__file__).parent.parent / "docs" / "img"
_FAILED = 'DedupeState="failed" AND ExecutionStatus="Running"'
_SETTLES = timedelta(seconds=9)
"""How long a call waits until its page says for what, and a little more."""


@activity.defn
async def charge(order: str) -> str:
    """Charge an order: one is quick, one is declined, and one is refused at first and then takes long."""
    if order == "order-9":
        raise ApplicationError("the card is declined", type="Declined", non_retryable=True)
    if order != "order-8":
        return f"ch_{order}"
    if activity.info().attempt == 1:
        raise RuntimeError("the bank says no")
    await asyncio.sleep(600)
    return f"ch_{order}"


@workflow.defn
class ChargeJob:
    """Charges an order."""

    @workflow.run
    async def run(self, order: str) -> str:
        """Charge it."""
        return await dedupe.execute_activity(
            charge,
            order,
            deduplication_key=f"charge-{order}",
            start_to_close_timeout=timedelta(minutes=20),
            retry_policy=RetryPolicy(initial_interval=timedelta(minutes=5)),
        )


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of the Web UI, and the picture that it becomes."""

    name: str
    path: str
    words: str
    """What it shows once it is there."""


async def main() -> int:
    """Take the pictures, and return the exit code."""
    from examples.dev_server import dev_server  # noqa: PLC0415 - a workflow is in this module

    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium here: install it (Debian: apt-get install chromium)", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        async with dev_server(Path(folder)) as server:
            plugin = DedupePlugin(organization="acme", project="web", search_attributes=True)
            client = await Client.connect(server.address, plugins=[plugin], identity="worker-1")
            await register(client, NAMES)
            worker = Worker(client, task_queue=_TASK_QUEUE, workflows=[ChargeJob], activities=[charge])
            async with worker:
                await _take(browser, server.web_ui, await _pages(client))
                for order in ("job-1", "job-2"):
                    await client.get_workflow_handle(f"charge-order-8-{order}").terminate(
                        "the pictures are taken"
                    )
    return 0


async def _pages(client: Client) -> list[Page]:
    """Bring about what is to be seen."""
    await (await _start(client, "order-7", "job-1")).result()
    reused = await _start(client, "order-7", "job-2")
    await reused.result()
    with suppress(WorkflowFailureError):
        await (await _start(client, "order-9", "job-1")).result()
    await _start(client, "order-8", "job-1")
    await asyncio.sleep(1)
    waiting = await _start(client, "order-8", "job-2")
    await asyncio.sleep(_SETTLES.total_seconds())
    keys = DedupeKeys(client, organization="acme", project="web")
    key = client.get_workflow_handle(keys.workflow_id("charge-order-7"))
    return [
        Page(name="ui-waiting", path=await _path(waiting, "pending-activities"), words="the bank says no"),
        Page(name="ui-reused", path=await _path(reused, "user-metadata"), words="Current Details"),
        Page(
            name="ui-failed",
            path=f"/namespaces/default/workflows?query={quote(_FAILED)}",
            words="charge-order-9",
        ),
        Page(name="ui-key", path=await _path(key, "history"), words="Event History"),
    ]


async def _start(client: Client, order: str, job: str) -> WorkflowHandle[ChargeJob, str]:
    return await client.start_workflow(
        ChargeJob.run, order, id=f"charge-{order}-{job}", task_queue=_TASK_QUEUE
    )


async def _path(handle: WorkflowHandle[ChargeJob, str] | WorkflowHandle[object, object], tab: str) -> str:
    run_id = (await handle.describe()).run_id
    return f"/namespaces/default/workflows/{quote(handle.id, safe='')}/{run_id}/{tab}"


async def _take(browser: str, web_ui: str, pages: list[Page]) -> None:
    python = await environment()
    arguments = [
        part
        for page in pages
        for part in (f"{web_ui}{page.path}", str(_PICTURES / f"{page.name}.png"), page.words)
    ]
    script = str(Path(__file__).with_name("photograph.py"))
    process = await asyncio.create_subprocess_exec(str(python), script, browser, *arguments)
    if await process.wait():
        raise RuntimeError("the pictures could not be taken")


if __name__ == "__main__":
    sys.exit(dedupe.run(main()))
