"""What is reported of calls: the hook, the log and the counts."""

import logging
import socket
import urllib.request
from datetime import timedelta

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from dedupe import AnsweredCall, CallAnswer
from dedupe.plugin import DedupePlugin
from tests.support.ground import Ground
from tests.support.scripts import Call, returned
from tests.support.servers import with_plugins


def hooked(ground: Ground, answers: list[AnsweredCall]) -> Client:
    """Return a client whose calls are reported to a list."""
    plugin = DedupePlugin(
        organization=ground.organization,
        project=ground.project,
        task_queue=ground.key_queue,
        on_answer=answers.append,
    )
    return with_plugins(ground.server, plugin)


async def test_each_answer_is_reported_once(cached_or_not: Ground) -> None:
    """Executed, reused, failed and in conflict: once each, even where the job is replayed for every task."""
    ground = cached_or_not
    answers: list[AnsweredCall] = []
    ground.effects.then("first", ApplicationError("no funds", type="Declined"))
    async with ground.worker(client=hooked(ground, answers)):
        await ground.script(
            Call(),
            Call(),
            Call(key="failing", skip_failure=True),
            Call(key="failing", skip_failure=True),
        )
        await ground.call(Call(activity="other"))
    assert [(each.answer, each.key, each.failure) for each in answers[:4]] == [
        (CallAnswer.EXECUTED, "key", None),
        (CallAnswer.REUSED, "key", None),
        (CallAnswer.FAILED, "failing", "Declined: no funds"),
        (CallAnswer.FAILED, "failing", "Declined: no funds"),
    ]
    [conflict] = answers[4:]
    assert conflict.answer is CallAnswer.CONFLICT
    assert conflict.failure is not None
    assert conflict.failure.startswith("DeduplicationConflictError: deduplication key 'key' belongs to")
    first = answers[0]
    assert (first.activity, first.key_workflow_id) == ("effect", ground.key_id())
    assert (first.job_id, first.job_type) == (ground.jobs[0].id, "Script")
    assert all(timedelta(0) <= each.took < timedelta(seconds=30) for each in answers)


async def test_a_call_that_waited_has_joined(real: Ground) -> None:
    """The call that executes and the one that waits for it are told apart."""
    answers: list[AnsweredCall] = []
    gate = real.effects.close()
    async with real.worker(client=hooked(real, answers)):
        owner = await real.start_script(Call())
        await real.effects.seen(1)
        joined = await real.start_script(Call())
        await real.claiming(1)
        gate.set()
        assert await owner.result() == await joined.result() == [[returned("argument")]]
    assert {(each.job_id, each.answer) for each in answers} == {
        (owner.id, CallAnswer.EXECUTED),
        (joined.id, CallAnswer.JOINED),
    }


async def test_a_hook_that_fails_is_no_harm(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    """What the hook raises is logged, with the key; the job goes on."""

    def fail(call: AnsweredCall) -> None:
        raise RuntimeError(call.key)

    plugin = DedupePlugin(
        organization=ground.organization, project=ground.project, task_queue=ground.key_queue, on_answer=fail
    )
    async with ground.worker(client=with_plugins(ground.server, plugin)):
        assert await ground.call() == returned("argument")
    assert "on_answer failed for deduplication key 'key'" in caplog.text


async def test_each_answer_is_a_line_of_the_log(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    """At INFO, with the key and the answer as fields."""
    caplog.set_level(logging.INFO, logger="temporalio.workflow")
    async with ground.worker():
        await ground.call()
        await ground.call()
    lines = [record for record in caplog.records if hasattr(record, "deduplication_key")]
    assert [record.getMessage().split(" ({")[0] for record in lines] == [
        "deduplication key 'key': effect executed",
        "deduplication key 'key': effect reused",
    ]
    assert [getattr(record, "answer", None) for record in lines] == ["executed", "reused"]


async def test_answers_are_counted_beside_the_metrics_of_the_sdk(real: Ground) -> None:
    """The process's own Prometheus endpoint shows calls by answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    runtime = Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=address)))
    client = await Client.connect(
        real.server.service_client.config.target_host,
        namespace=real.server.namespace,
        data_converter=pydantic_data_converter,
        runtime=runtime,
        plugins=[real.plugin],
    )
    async with real.worker(client=client):
        for key in ("key", "key", "key", "other"):
            await real.call(Call(key=key))
    with urllib.request.urlopen(f"http://{address}/metrics") as response:  # noqa: ASYNC210
        text = response.read().decode()
    counts = {
        line.split('answer="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith("dedupe_calls")
    }
    assert counts == {"executed": 2, "reused": 2}
    assert "dedupe_call_latency" in text
