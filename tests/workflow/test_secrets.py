"""Payload codecs and key secrets: switched on while keys exist, wrong ones, and what outsiders see."""

import logging
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.common import HeaderCodecBehavior
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig

from dedupe.claims import claim
from tests.support.codecs import Bound, EncryptionCodec, with_codec
from tests.support.ends import end_of, stuck
from tests.support.ground import Ground, Grounds
from tests.support.histories import text_of
from tests.support.scripts import Call, Plain, returned
from tests.workflow.awkward import HIDDEN, HiddenJob, end, measure
from tests.workflow.interceptors import Tracing

_RIGHT = b"r" * 32
_WRONG = b"w" * 32


async def test_encryption_switched_on_while_keys_exist(real_grounds: Grounds) -> None:
    """Keys recorded in clear answer calls of encrypting workers; what comes after is recorded encrypted."""
    clear = real_grounds()
    async with clear.worker():
        assert await clear.call(Call(key="old", argument="in clear")) == returned("in clear")
        in_clear = await clear.key_workflow("old").fetch_history()

    ground = clear.beside(client_config=with_codec(EncryptionCodec(_RIGHT)))
    async with ground.worker():
        assert await ground.call(Call(key="old", argument="topsecret")) == returned("in clear")
        assert await ground.call(Call(key="new", argument="topsecret")) == returned("topsecret")
        encrypted = [await ground.history(), await ground.key_workflow("new").fetch_history()]
        assert await ground.call(Call(key="new")) == returned("topsecret")
        record = await ground.keys.get("new")

    assert (clear.effects.arguments, ground.effects.arguments) == (["in clear"], ["topsecret"])
    assert record is not None
    assert record.result_json == '"topsecret"'
    assert "in clear" in text_of(in_clear)
    assert not any("topsecret" in text_of(history) for history in encrypted)


async def test_a_wrong_encryption_key_executes_nothing(
    real_grounds: Grounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that cannot read a record fails its jobs with a clear error, and executes nothing again."""
    monkeypatch.setattr(claim, "_PATIENCE", 3)  # not a minute of attempts
    right = real_grounds(client_config=with_codec(EncryptionCodec(_RIGHT)))
    wrong = right.beside(client_config=with_codec(EncryptionCodec(_WRONG)), wait_slice=timedelta(seconds=5))
    async with right.worker(workflows=[Plain]):
        before = await right.run(Plain.run, "k")
    async with wrong.worker(workflows=[Plain]):
        job = await wrong.start(Plain.run, "k")
        ended = await end_of(job)
        assert await stuck(wrong.client, [job.id]) == []
    async with right.worker(workflows=[Plain]):
        after = await right.run(Plain.run, "k")
        assert await stuck(right.client, [right.key_id("k")]) == []

    assert ended.startswith("UnreadableRecordError: the record of deduplication key 'k' cannot be read")
    assert "InvalidTag" in ended
    assert after == before
    assert (len(right.effects.attempts), len(wrong.effects.attempts)) == (1, 0)
    wrong.jobs.clear()  # the key's history, which it cannot read, would not replay


async def test_a_payload_codec_covers_all_that_travels(real_grounds: Grounds) -> None:
    """With a codec nothing in activities, signals and records can be read without it."""
    ground = real_grounds(
        client_config={
            **with_codec(EncryptionCodec(_RIGHT)),
            "header_codec_behavior": HeaderCodecBehavior.CODEC,
        }
    )
    gate = ground.effects.close()
    ground.effects.then(ApplicationError("hush-message", "hush-detail"))
    async with ground.worker(interceptors=[Tracing()]):
        job = await ground.start_script([Call(argument="hush-argument", skip_failure=True)] * 2)
        await ground.effects.seen(1)
        await ground.claiming(2, owner=True)
        gate.set()
        [[first, second]] = await job.result()
        assert (first.failed, second.failed) == ("ApplicationError",) * 2
        assert (await ground.call(Call(skip_failure=True))).reused
        assert (await ground.call(Call(argument="hush-again"))).value == "hush-again"
        assert (await ground.call(Call())).value == "hush-again"
        history = await ground.key_workflow().fetch_history()
        jobs = [await ground.history(number) for number in range(len(ground.jobs))]
    for word in ("hush-argument", "hush-again", "hush-detail", "hush-message"):
        assert word not in text_of(history)
    for word in ("hush-argument", "hush-again", "hush-detail"):
        assert not any(word in text_of(each) for each in jobs)
    # Which is the failure's own, as the service has it of every activity.
    assert "hush-message" in text_of(jobs[0])


async def test_a_codec_that_binds_payloads_to_their_workflow_works(real_grounds: Grounds) -> None:
    """What is told to a waiting call is encoded for its job, and what is read from a key for the key."""
    ground = real_grounds(client_config=with_codec(Bound()))
    async with ground.worker():
        assert await ground.call(Call()) == returned("argument")
        assert await ground.call(Call()) == returned("argument")
    assert len(ground.effects.attempts) == 1
    await ground.assert_hit()


async def test_a_key_secret_hides_the_key(real_grounds: Grounds, caplog: pytest.LogCaptureFixture) -> None:
    """With key_secret no text of the key stands in any history, id, error, log or in the execution."""
    ground = real_grounds(key_secret="secret")  # noqa: S106 - a test's secret
    key = "ada.lovelace@example.com"
    async with ground.worker():
        await ground.call(Call(key=key))
        assert await ground.call(Call(key=key, argument="other")) == returned("argument")
        await ground.assert_hit()
        conflict = await ground.call(Call(key=key, activity="other"))
        assert conflict.type == "DeduplicationConflictError"
        gate = ground.effects.close()
        job = await ground.start_script([Call(key=f"{key}/2"), Call(key=f"{key}/2")])
        await ground.effects.seen(2)
        gate.set()
        await job.result()
        history = await ground.server.get_workflow_handle(ground.key_id(key)).fetch_history()
    assert "lovelace" not in str(conflict)
    assert "lovelace" not in ground.key_id(key)
    assert "lovelace" not in str(ground.effects.attempts)
    assert "lovelace" not in caplog.text
    assert b"lovelace" not in b"".join(event.SerializeToString() for event in history.events)
    job_history = await ground.history(1)
    claims = b"".join(
        event.SerializeToString()
        for event in job_history.events
        # The job's own input is the test's script, which holds the key.
        if event.event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
    )
    assert b"lovelace" not in claims


async def test_another_secret_makes_other_keys(real_grounds: Grounds) -> None:
    """Under another secret the same key is another key."""
    one = real_grounds(key_secret="one")  # noqa: S106
    two = one.beside(key_secret="two", serve=False)  # noqa: S106
    async with one.worker(), two.worker():
        assert await one.call(Call(argument="one")) == returned("one")
        assert await two.call(Call(argument="two")) == returned("two")


async def test_a_hidden_key_is_seen_nowhere(
    real_client: Client, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """With a key_secret neither key nor secret is in any history, memo, error, metric or line of log."""
    secret = str(uuid4())
    seen: list[str] = []
    metrics = MetricBuffer(100_000)
    client = await Client.connect(
        real_client.service_client.config.target_host,
        data_converter=pydantic_data_converter,
        runtime=Runtime(telemetry=TelemetryConfig(metrics=metrics)),
    )
    ground = Ground.on(client, skips_time=False, key_secret=secret)
    with caplog.at_level(logging.DEBUG):
        async with ground.worker(workflows=[HiddenJob], activities=[measure, end]):
            for kind in ("works", "fails", "conflicts", "is too long"):
                job = await ground.start(HiddenJob.run, kind)
                seen += [await end_of(job), await everything_about(client, job.id)]
            for kind in ("works", "fails", "conflicts"):
                record = await ground.keys.get(f"{HIDDEN} {kind}")
                assert record is not None
                seen += [repr(record), await everything_about(client, record.workflow_id)]
    measured = [f"{each.metric.name} {each.attributes}" for each in metrics.retrieve_updates()]
    seen += [caplog.text, *capfd.readouterr(), *measured]

    assert seen[0] == "9"
    assert "CancelledError" in seen[2]
    assert seen[4].startswith("DeduplicationConflictError: ")
    assert seen[6].startswith("InvalidDeduplicationKeyError: ")
    assert not [text for text in seen if "lovelace" in text or secret in text]
    assert "dedupe:" in caplog.text
    assert any("dedupe.peek" in text for text in measured)
    await ground.replay()


async def everything_about(client: Client, workflow_id: str) -> str:
    """Return all that the service holds of a workflow, payloads, memo and search attributes included."""
    handle = client.get_workflow_handle(workflow_id)
    description = await handle.describe()
    history = await handle.fetch_history()
    held = [description.raw_description, *history.events]
    return b"".join(part.SerializeToString() for part in held).decode(errors="replace")
