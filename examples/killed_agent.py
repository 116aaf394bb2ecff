"""How the agents are run: their worker is killed in the middle of the tool."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from temporalio.client import Client
from temporalio.plugin import SimplePlugin
from temporalio.worker import Worker

import dedupe
from dedupe import DedupePlugin
from examples.agent_tool import Outbox
from examples.dev_server import dev_server

QUESTION = "Tell ada@example.com that order 7 is on its way."
_TASK_QUEUE = "agents"


async def _serve(address: str, outbox: Path, job: type, plugin: SimplePlugin) -> None:
    client = await Client.connect(address, plugins=[plugin, DedupePlugin(organization="acme", project="web")])
    worker = Worker(
        client,
        task_queue=_TASK_QUEUE,
        workflows=[job],
        activities=[Outbox(outbox).send_message],
        sticky_queue_schedule_to_start_timeout=timedelta(milliseconds=500),
    )
    await dedupe.serve(worker)


async def _play(module: str, job: Callable[..., Awaitable[str]], data: Path, plugin: SimplePlugin) -> None:
    outbox = data / "outbox"
    async with dev_server(data) as server:
        client = await Client.connect(server.address, plugins=[plugin])
        command = [
            sys.executable,
            "-m",
            module,
            "worker",
            "--address",
            server.address,
            "--outbox",
            str(outbox),
        ]
        worker = await asyncio.create_subprocess_exec(*command)
        try:
            handle = await client.start_workflow(job, QUESTION, id="agent", task_queue=_TASK_QUEUE)
            async with asyncio.timeout(60):
                # Another process writes it.
                while worker.returncode is None and not list(outbox.glob("new/*")):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            worker.kill()
            await worker.wait()
            print("The message is out, and the worker was killed before it could say so.")
            worker = await asyncio.create_subprocess_exec(*command)
            async with asyncio.timeout(60):
                print(f"The agent: {await handle.result()}")
        finally:
            if worker.returncode is None:
                worker.terminate()
            await worker.wait()
    print(f"Messages in the outbox: {len(list(outbox.glob('new/*')))}")


def main(module: str, job: type, plugin: SimplePlugin) -> None:
    """Run an agent and kill its worker; or, with `worker`, be that worker.

    Args:
        module: How Python finds the agent.
        job: The workflow in which it runs.
        plugin: Of its framework, with a scripted model: nothing here needs the network.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    parser.add_argument("command", nargs="?", choices=["worker"])
    parser.add_argument("--address")
    parser.add_argument("--outbox", type=Path)
    options = parser.parse_args()
    if options.command == "worker":
        dedupe.run(_serve(options.address, options.outbox, job, plugin))
        return
    with tempfile.TemporaryDirectory() as data:
        run: Callable[..., Awaitable[str]] = getattr(job, "run")  # noqa: B009 - every job has one
        dedupe.run(_play(module, run, Path(data), plugin))
