"""The plugin on clients and workers, and what travels with a call."""

import gc
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError
from temporalio.common import Priority
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    UnsandboxedWorkflowRunner,
    Worker,
)

import dedupe
from dedupe import DedupePlugin
from dedupe.errors import InvalidKeyspaceError
from tests.support.ground import Ground, Grounds
from tests.support.histories import scheduled, types
from tests.support.scripts import Call, Plain, Script, returned
from tests.support.servers import with_plugins
from tests.workflow.interceptors import ClientTracing, Tracing


@workflow.defn
class Patient:
    """Calls an activity whose task queue nobody serves."""

    @workflow.run
    async def run(self) -> Any:
        """See the class."""
        return await dedupe.execute_activity(
            "effect",
            deduplication_key="key",
            task_queue="nobody",
            start_to_close_timeout=timedelta(seconds=5),
        )


async def test_a_worker_stops_quietly_while_calls_wait(
    real: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that stops drops the jobs it has in memory, and nothing is logged of their waiting calls."""
    async with real.worker(workflows=[Patient]):
        job = await real.start(Patient.run)
        await real.claiming(1, job)
    gc.collect()
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []
    await job.terminate()


async def test_a_worker_without_the_plugin_fails_closed(ground: Ground) -> None:
    """On a worker without the plugin the call fails its job with a clear error; nothing is scheduled."""
    async with ground.worker(
        workflows=[Plain],
        client=ground.server,
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        with pytest.raises(WorkflowFailureError) as caught:
            await ground.run(Plain.run, "key")
    error = caught.value.cause
    assert isinstance(error, ApplicationError)
    assert (error.type, error.non_retryable) == ("PluginMissingError", True)
    assert "'effect'" in error.message
    assert "DedupePlugin" in error.message
    history = await ground.history()
    assert scheduled(history) == []
    assert EventType.EVENT_TYPE_MARKER_RECORDED not in types(history)
    assert ground.effects.attempts == []
    ground.jobs.clear()  # with the plugin it would not replay


async def test_a_worker_without_the_plugin_fails_closed_in_the_sandbox(real: Ground) -> None:
    """The same inside the sandbox, where nobody lets the package pass through."""
    async with real.worker(workflows=[Plain], client=real.server):
        with pytest.raises(WorkflowFailureError) as caught:
            await real.run(Plain.run, "key")
    error = caught.value.cause
    assert isinstance(error, ApplicationError)
    assert error.type == "PluginMissingError"
    assert scheduled(await real.history()) == []
    real.jobs.clear()


async def test_the_plugin_on_the_worker_alone_is_enough(ground: Ground) -> None:
    """The plugin can be given to the worker instead of the client."""
    async with ground.worker(client=ground.server, plugins=[ground.plugin]):
        assert await ground.call() == returned("argument")
        assert await ground.call() == returned("argument")
        await ground.assert_hit()


async def test_the_plugin_works_without_a_sandbox(real: Ground) -> None:
    """Jobs that run outside the sandbox are deduplicated too."""
    async with real.worker(workflow_runner=UnsandboxedWorkflowRunner()):
        assert await real.call() == returned("argument")
        assert await real.call() == returned("argument")
        await real.assert_hit()


@workflow.defn
class CallsElsewhere:
    """Has its activity run on another task queue."""

    @workflow.run
    async def run(self, queue: str) -> Any:
        """See the class."""
        return await dedupe.execute_activity(
            "effect",
            "there",
            deduplication_key="key",
            task_queue=queue,
            start_to_close_timeout=timedelta(seconds=5),
        )


@workflow.defn
class Fair:
    """Says a part of its activity's priority, of a plain call and of one with a key."""

    @workflow.run
    async def run(self) -> None:
        """See the class."""
        for execute in (workflow.execute_activity, partial(dedupe.execute_activity, deduplication_key="key")):
            await execute(
                "effect",
                priority=Priority(fairness_key="tenant"),
                start_to_close_timeout=timedelta(seconds=5),
            )


async def test_a_call_has_the_priority_that_a_plain_call_has(real: Ground) -> None:
    """What the call leaves open is the job's, and the service fills it in for both."""
    seen: list[Priority] = []
    real.workflows.append(Fair)

    @activity.defn(name="effect")
    def effect() -> None:
        seen.append(activity.info().priority)

    with ThreadPoolExecutor() as threads:
        async with Worker(
            real.client,
            task_queue=real.task_queue,
            workflows=[Fair],
            activities=[effect],
            activity_executor=threads,
        ):
            await real.run(Fair.run, priority=Priority(priority_key=1, fairness_weight=2.0))
    plain, keyed = seen
    assert keyed == plain
    assert plain.fairness_key == "tenant"


async def test_real_activities_need_no_plugin(real: Ground) -> None:
    """The worker that runs the real activity may lack the plugin, and knows the execution all the same."""
    queue = f"elsewhere-{uuid4()}"

    async with (
        Worker(real.server, task_queue=queue, activities=[real.effects.effect]),
        real.worker(workflows=[CallsElsewhere]),
    ):
        assert await real.run(CallsElsewhere.run, queue) == "there"
    assert real.effects.attempts[0].key == "key"
    assert real.effects.generations == [1]


async def test_a_worker_that_runs_workflows_only_can_call(real: Ground) -> None:
    """With no_remote_activities the claims go where the keys are served."""
    queue = f"elsewhere-{uuid4()}"
    real.workflows.append(CallsElsewhere)
    async with (
        Worker(real.server, task_queue=queue, activities=[real.effects.effect]),
        Worker(
            real.client, task_queue=real.task_queue, workflows=[CallsElsewhere], no_remote_activities=True
        ),
    ):
        assert await real.run(CallsElsewhere.run, queue) == "there"
        assert await real.run(CallsElsewhere.run, queue) == "there"
        await real.assert_hit()


async def test_a_worker_without_activities_takes_none_of_those_beside_it(real: Ground) -> None:
    """Workers of workflows and workers of activities may share a task queue, with the plugin as without."""
    async with (
        Worker(real.client, task_queue=real.task_queue, workflows=[Script]),
        Worker(real.server, task_queue=real.task_queue, activities=[real.effects.effect]),
    ):
        plain = await real.script([Call(key=None)] * 20)
        assert plain == [[returned("argument")] * 20]
        assert await real.call(Call()) == returned("argument")
    assert len(real.effects.attempts) == 21


@pytest.mark.parametrize("wait_slice", [timedelta(0), timedelta(seconds=-1), timedelta.max])
def test_a_wait_slice_that_nobody_can_wait_is_refused(wait_slice: timedelta) -> None:
    """The service would refuse every claim with it, and so fail every workflow task."""
    with pytest.raises(ValueError, match="wait_slice"):
        DedupePlugin(organization="acme", project="web", wait_slice=wait_slice)


@pytest.mark.parametrize("on_client", [True, False], ids=["client", "worker"])
async def test_headers_reach_the_real_activity(grounds: Grounds, *, on_client: bool) -> None:
    """What other interceptors send along, such as a trace, arrives at the activity that executes."""
    ground = grounds(client_config={"interceptors": [ClientTracing()]} if on_client else None)
    heard: list[Mapping[str, Payload]] = []

    @activity.defn(name="effect-with-headers")
    async def listen(argument: Any) -> Any:
        return argument

    class Listening(Interceptor):
        def intercept_activity(self, next: Any) -> Any:
            class Inbound(ActivityInboundInterceptor):
                async def execute_activity(self, input: ExecuteActivityInput) -> Any:
                    if activity.info().activity_type == "effect-with-headers":
                        heard.append(input.headers)
                    return await super().execute_activity(input)

            return Inbound(next)

    async with ground.worker(
        activities=[listen], interceptors=[*([] if on_client else [Tracing()]), Listening()]
    ):
        await ground.call(Call(activity="effect-with-headers"))
    traces = [headers["trace"].data.decode() if "trace" in headers else None for headers in heard]
    assert traces == [ground.jobs[0].id]


@dataclass
class Settings:
    """Settings of a plugin that tell no keys apart."""

    organization: str = "acme"
    project: str = "web"
    key_secret: bytes | str | None = None


@pytest.mark.parametrize(
    "settings",
    [Settings(organization=""), Settings(project=""), Settings(key_secret=""), Settings(key_secret=b"")],
    ids=repr,
)
def test_settings_that_tell_no_keys_apart_are_refused(settings: Settings) -> None:
    """An empty organization, project or secret is refused when the plugin is made."""
    with pytest.raises(InvalidKeyspaceError):
        DedupePlugin(**vars(settings))


async def test_the_plugin_on_client_and_worker_does_not_clash(real: Ground) -> None:
    """The plugin on the client and on the worker is one plugin too many, and does no harm."""
    with pytest.warns(UserWarning, match="plugin"):
        async with real.worker(plugins=[real.plugin]):
            assert await real.call() == returned("argument")


async def test_a_plain_client_can_start_jobs(real: Ground) -> None:
    """Whoever starts the job needs no plugin."""
    plain = with_plugins(real.server)
    async with real.worker():
        ends = await plain.execute_workflow(
            Script.run, [[Call()]], id=f"job-{uuid4()}", task_queue=real.task_queue
        )
    assert ends == [[returned("argument")]]
