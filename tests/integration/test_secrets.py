"""Encryption that is switched on while keys exist, a wrong key, and what an outsider gets to see."""

import dataclasses
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig
from temporalio.worker import Worker

from dedupe import DedupeKeys, DedupePlugin, claim
from tests.integration.effect_file import EffectFile, FileEffects, Gate, Moment, Task
from tests.integration.encryption import EncryptionCodec
from tests.integration.jobs import CallJob, FleetCall
from tests.support.ends import end_of, stuck
from tests.support.histories import text_of
from tests.workflow.awkward import HIDDEN, HiddenJob, end, measure

_RIGHT = b"r" * 32
_WRONG = b"w" * 32


class Office:
    """A project whose workers come and go, with one encryption key or another."""

    def __init__(self, address: str, folder: Path, *, key_secret: str | None = None) -> None:
        """Name it."""
        self.project = f"secrets-{uuid4()}"
        self.effects = EffectFile(folder / "effects.jsonl")
        self._address = address
        self._gate = Gate(folder / "gate")
        self._key_secret = key_secret

    @asynccontextmanager
    async def open(
        self, encryption_key: bytes | None, *, runtime: Runtime | None = None
    ) -> AsyncGenerator[Client]:
        """Run a worker, and return a client like its own."""
        codec = None if encryption_key is None else EncryptionCodec(encryption_key)
        client = await Client.connect(
            self._address,
            runtime=runtime,
            data_converter=dataclasses.replace(pydantic_data_converter, payload_codec=codec),
            plugins=[
                DedupePlugin(
                    organization="acme",
                    project=self.project,
                    task_queue=f"keys-{self.project}",
                    wait_slice=timedelta(seconds=5),
                    key_secret=self._key_secret,
                )
            ],
        )
        effects = FileEffects(self.effects, self._gate)
        async with Worker(
            client,
            task_queue=self.project,
            workflows=[CallJob, HiddenJob],
            activities=[effects.effect, measure, end],
        ):
            yield client

    async def ends(self, client: Client, call: FleetCall) -> tuple[str, str]:
        """Start a job, and return its id and how it ended."""
        handle = await client.start_workflow(CallJob.run, call, id=f"job-{uuid4()}", task_queue=self.project)
        return handle.id, await end_of(handle)

    def keys(self, client: Client) -> DedupeKeys:
        """Return the project's keys."""
        return DedupeKeys(client, organization="acme", project=self.project, key_secret=self._key_secret)


async def test_encryption_switched_on_while_keys_exist(running_server: str, tmp_path: Path) -> None:
    """Keys recorded in clear answer calls of encrypting workers; what comes after is recorded encrypted."""
    office = Office(running_server, tmp_path)
    call = FleetCall(key="old", task=Task(name="in clear"))
    async with office.open(None) as client:
        _, before = await office.ends(client, call)
        in_clear = await client.get_workflow_handle(f"proj:acme/{office.project}:old").fetch_history()

    async with office.open(_RIGHT) as client:
        _, after = await office.ends(client, call)
        job, new = await office.ends(client, FleetCall(key="new", task=Task(name="topsecret")))
        _, again = await office.ends(client, FleetCall(key="new", task=Task(name="topsecret")))
        key_id = f"proj:acme/{office.project}:new"
        encrypted = [await client.get_workflow_handle(id_).fetch_history() for id_ in (job, key_id)]
        record = await office.keys(client).get("new")

    assert after == before
    assert again == new
    assert [entry.name for entry in office.effects.entries(Moment.DONE)] == ["in clear", "topsecret"]
    assert record is not None
    assert "topsecret" in (record.result_json or "")
    assert "in clear" in text_of(in_clear)
    assert not any("topsecret" in text_of(history) for history in encrypted)


async def test_a_wrong_encryption_key_executes_nothing(
    running_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that cannot read a record fails its jobs with a clear error, and executes nothing again."""
    monkeypatch.setattr(claim, "_PATIENCE", 3)  # not a minute of attempts
    office = Office(running_server, tmp_path)
    call = FleetCall(key="k", task=Task(name="k"))
    async with office.open(_RIGHT) as client:
        _, before = await office.ends(client, call)
    async with office.open(_WRONG) as client:
        job, ended = await office.ends(client, call)
        assert await stuck(client, [job]) == []
    async with office.open(_RIGHT) as client:
        _, after = await office.ends(client, call)
        assert await stuck(client, [f"proj:acme/{office.project}:k"]) == []

    assert ended.startswith("UnreadableRecordError: the record of deduplication key 'k' cannot be read")
    assert "InvalidTag" in ended
    assert after == before
    assert len(office.effects.entries(Moment.STARTED)) == 1


async def test_a_hidden_key_is_seen_nowhere(
    running_server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """With a key_secret neither key nor secret is in any history, memo, error, metric or line of log."""
    secret = str(uuid4())
    office = Office(running_server, tmp_path, key_secret=secret)
    seen: list[str] = []
    metrics = MetricBuffer(100_000)
    runtime = Runtime(telemetry=TelemetryConfig(metrics=metrics))
    with caplog.at_level(logging.DEBUG):
        async with office.open(None, runtime=runtime) as client:
            for kind in ("works", "fails", "conflicts", "is too long"):
                handle = await client.start_workflow(
                    HiddenJob.run, kind, id=f"job-{uuid4()}", task_queue=office.project
                )
                seen += [await end_of(handle), await everything_about(client, handle.id)]
            records = [
                await office.keys(client).get(f"{HIDDEN} {kind}") for kind in ("works", "fails", "conflicts")
            ]
            for record in records:
                assert record is not None
                seen += [repr(record), await everything_about(client, record.workflow_id)]
    measured = [f"{each.metric.name} {each.attributes}" for each in metrics.retrieve_updates()]
    seen += [caplog.text, *capfd.readouterr(), *measured]

    assert seen[0] == "9"
    assert "CancelledError" in seen[2]
    assert seen[4].startswith("DeduplicationConflictError: ")
    assert seen[6].startswith("InvalidDeduplicationKeyError: ")
    assert not [text for text in seen if "lovelace" in text or secret in text]
    assert "dedupe.claim" in caplog.text
    assert any("dedupe.claim" in text for text in measured)


async def everything_about(client: Client, workflow_id: str) -> str:
    """Return all that the service holds of a workflow, payloads, memo and search attributes included."""
    handle = client.get_workflow_handle(workflow_id)
    description = await handle.describe()
    history = await handle.fetch_history()
    held = [description.raw_description, *history.events]
    return b"".join(part.SerializeToString() for part in held).decode(errors="replace")
