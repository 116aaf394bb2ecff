"""Worker deployments: an activity in place follows its job to the version that the job is pinned to."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

from temporalio import activity, workflow
from temporalio.client import WorkflowHandle
from temporalio.common import PinnedVersioningOverride, VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.worker import WorkerDeploymentConfig

import dedupe
from dedupe.model.names import CLAIM
from tests.support.ground import Ground
from tests.support.waiting import until


class Versioned:
    """Activities of one version of a worker."""

    def __init__(self, version: str) -> None:
        """Belong to a version."""
        self._version = version
        self.gate = asyncio.Event()
        self.seen = asyncio.Event()

    @activity.defn
    async def which(self) -> str:
        """Return the version that executes, once it is let go."""
        self.seen.set()
        await self.gate.wait()
        return self._version


@workflow.defn(versioning_behavior=VersioningBehavior.PINNED)
class Pinned:
    """Calls the activity, by its name."""

    @workflow.run
    async def run(self, key: str | None) -> str:
        """Call it, with a key or without."""
        if key is None:
            plain: str = await workflow.execute_activity(
                "which", result_type=str, start_to_close_timeout=timedelta(seconds=20)
            )
            return plain
        keyed: str = await dedupe.execute_activity(
            "which", result_type=str, deduplication_key=key, start_to_close_timeout=timedelta(seconds=20)
        )
        return keyed


class Deployment:
    """A deployment of two versions, neither of which is current."""

    def __init__(self, ground: Ground) -> None:
        """Have no worker yet."""
        self._ground = ground
        self._name = f"deployment-{uuid4()}"

    def version(self, build: str) -> WorkerDeploymentVersion:
        """Return one of its versions."""
        return WorkerDeploymentVersion(deployment_name=self._name, build_id=build)

    @asynccontextmanager
    async def worker(self, build: str, *activities: Versioned) -> AsyncGenerator[None]:
        """Run a worker of one version."""
        async with self._ground.worker(
            workflows=[Pinned],
            activities=[each.which for each in activities],
            deployment_config=WorkerDeploymentConfig(
                version=self.version(build),
                use_worker_versioning=True,
                default_versioning_behavior=VersioningBehavior.PINNED,
            ),
        ):
            yield

    async def start(self, build: str, key: str | None) -> WorkflowHandle[Pinned, str]:
        """Start a job that is pinned to a version, as soon as the service knows that."""

        async def started() -> WorkflowHandle[Pinned, str] | None:
            try:
                return await self._ground.start(
                    "Pinned", key, versioning_override=PinnedVersioningOverride(self.version(build))
                )
            except RPCError:
                return None

        handle: WorkflowHandle[Pinned, str] = await until(started, every=timedelta(milliseconds=100))
        return handle


async def test_an_activity_follows_a_job_that_is_pinned_by_an_override(real: Ground) -> None:
    """No version is current, and only one of them has the activity: a call with a key ends as a plain one."""
    deployment, old = Deployment(real), Versioned("old")
    old.gate.set()
    async with deployment.worker("old", old), deployment.worker("new"):
        for key in (None, "key", "key"):
            job = await deployment.start("old", key)
            assert await asyncio.wait_for(job.result(), 20) == "old"


async def test_a_call_that_waits_stays_with_its_version(real: Ground) -> None:
    """A job of another version joins the execution, by a claim on its own version's worker."""
    deployment, old, new = Deployment(real), Versioned("old"), Versioned("new")
    async with deployment.worker("old", old), deployment.worker("new", new):
        owner = await deployment.start("old", "key")
        await asyncio.wait_for(old.seen.wait(), 20)
        joined = await deployment.start("new", "key")
        await real.claiming(1, job=joined)
        old.gate.set()
        answers = await asyncio.wait_for(asyncio.gather(owner.result(), joined.result()), 20)
        assert list(answers) == ["old", "old"]
        assert await real.scheduled(joined) == [CLAIM]
        assert not new.seen.is_set()
