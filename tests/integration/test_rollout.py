"""Versions side by side: other wire formats, workers without the plugin, deployments with pinned callers."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.service import RPCError

from tests.integration.effect_file import Moment, Task
from tests.integration.fault_table import expect_sound, tally
from tests.integration.fleet import Fleet, answers_of, fleet
from tests.integration.jobs import FleetCall
from tests.integration.processes import ROOT
from tests.support.ends import stuck
from tests.support.waiting import until

_KEYS = [f"key-{index}" for index in range(5)]


@pytest.mark.parametrize("other", ["older", "newer"])
async def test_another_wire_format_side_by_side(running_server: str, tmp_path: Path, other: str) -> None:
    """Workers that lack what came later, or send what this version does not know, share keys with it."""
    async with fleet(running_server, tmp_path) as workers:
        await asyncio.gather(workers.start(), workers.start(f"--wire={other}"))
        await _share_keys(workers, fault=f"{other} workers beside")


@pytest.mark.torture
async def test_the_version_before_side_by_side(running_server: str, tmp_path: Path) -> None:
    """Workers of the sources before the last change of the package share keys with this version's."""
    before = await _git("log", "--max-count=1", "--skip=1", "--format=%H", "--", "dedupe")
    sources = tmp_path / "before"
    await _git("clone", "--quiet", "--no-checkout", ".", str(sources))
    await _git("-C", str(sources), "checkout", "--quiet", "--detach", before.strip())
    async with fleet(running_server, tmp_path) as workers:
        await workers.start()
        await workers.spawn(sources=sources).says("ready")
        await _share_keys(workers, fault="workers of the version before beside")


async def _git(*arguments: str) -> str:
    if not (ROOT / ".git").exists():
        pytest.skip("these sources have no history")
    process = await asyncio.create_subprocess_exec(
        "git", *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def _share_keys(workers: Fleet, *, fault: str) -> None:
    calls = [
        FleetCall(key=key, task=Task(name=key, work=0.3, failures=index % 2))
        for index, key in enumerate(_KEYS)
    ]
    handles = {call.key: await workers.begin(call, 6) for call in calls}
    answers = {key: await answers_of(called) for key, called in handles.items()}
    for call in calls:
        answers[call.key] += await answers_of(await workers.begin(call, 2))

    row = await tally(workers, answers, fault=fault, faults=0)
    expect_sound(row, keys=len(_KEYS))
    assert await stuck(workers.client, map(workers.key_id, answers)) == []
    jobs = [job for called in handles.values() for job in called]
    assert await _pids_of(jobs) == {worker.pid for worker in workers.workers}


async def _pids_of(jobs: Sequence[WorkflowHandle[Any, Any]]) -> set[int]:
    """Return the processes that carried out the jobs, which say their id to the service."""
    pids: set[int] = set()
    for job in jobs:
        async for event in job.fetch_history_events():
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
                identity = event.workflow_task_started_event_attributes.identity
                pids.add(int(identity.partition("@")[0]))
    return pids


async def test_a_caller_without_the_plugin_fails_closed(running_server: str, tmp_path: Path) -> None:
    """A job on a worker that lacks the plugin fails with a clear error, and nothing is executed."""
    async with fleet(running_server, tmp_path, "--no-plugin") as workers:
        await workers.start()
        [job] = await workers.begin(FleetCall(key="k", task=Task(name="k")))
        with pytest.raises(WorkflowFailureError) as raised:
            await answers_of([job])

        assert "needs the DedupePlugin, which this worker lacks" in str(raised.value.cause)
        assert workers.effects.entries() == []
        assert await stuck(workers.client, [job.id]) == []
        assert (await workers.history("k")).events == 0


async def test_a_worker_without_the_plugin_takes_no_claim(running_server: str, tmp_path: Path) -> None:
    """A claim that a worker without the plugin gets hold of fails there, and is made by another worker."""
    async with fleet(running_server, tmp_path) as workers:
        await asyncio.gather(workers.start(), workers.start("--no-plugin", "--no-jobs"))
        handles = {key: await workers.begin(FleetCall(key=key, task=Task(name=key)), 2) for key in _KEYS}
        answers = {key: await answers_of(called) for key, called in handles.items()}

        row = await tally(workers, answers, fault="a worker without the plugin beside", faults=0)
        expect_sound(row, keys=len(_KEYS))
        assert row.attempts == len(_KEYS)


async def test_a_new_deployment_version_while_callers_are_pinned(running_server: str, tmp_path: Path) -> None:
    """Callers stay on the version that they began on. Keys have none: they go on with whoever serves them,
    and answer the callers of both.
    """
    async with fleet(running_server, tmp_path) as workers:
        deployment = workers.project
        one = await workers.start(f"--deployment={deployment}", "--version=one")
        await _make_current(workers.client, deployment, "one")
        call = FleetCall(key="k", task=Task(name="k", pause="before the effect"))
        pinned = await workers.begin(call, 3)
        await workers.inside(call, waiting=2)

        await workers.start(f"--deployment={deployment}", "--version=two")
        await _make_current(workers.client, deployment, "two")
        newer = await workers.begin(call, 3)
        await workers.signalled(5, "k")
        one.kill()
        answers = await answers_of(newer)
        await workers.start(f"--deployment={deployment}", "--version=one")
        answers += await answers_of(pinned)

        assert answers == [answers[0]] * 6
        assert answers[0]["attempt"] == 2
        assert len(workers.effects.entries(Moment.DONE)) == 1
        assert [await _build_of(job) for job in (*pinned, *newer)] == ["one"] * 3 + ["two"] * 3
        assert await stuck(workers.client, [workers.key_id("k")]) == []


async def _build_of(job: WorkflowHandle[Any, Any]) -> str:
    """Return the build id of the deployment version that a job ended on."""
    info = (await job.describe()).raw_description.workflow_execution_info
    build: str = info.versioning_info.deployment_version.build_id
    return build


async def _make_current(client: Client, deployment: str, build: str) -> None:
    """Send new jobs to a version of a deployment, once the service has heard of it."""

    async def has_worked() -> bool:
        try:
            await client.workflow_service.set_worker_deployment_current_version(
                SetWorkerDeploymentCurrentVersionRequest(
                    namespace=client.namespace,
                    deployment_name=deployment,
                    build_id=build,
                    identity=client.identity,
                    ignore_missing_task_queues=True,
                )
            )
        except RPCError:
            return False
        return True

    await until(has_worked, every=timedelta(milliseconds=50), what=f"the turn of version {build!r}")
