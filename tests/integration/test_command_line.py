"""`python -m dedupe` against a real server."""

import asyncio
import json
import os
import signal
import sys
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

import dedupe
from dedupe import Scope
from tests.support.servers import new_namespace
from tests.support.waiting import until

with workflow.unsafe.imports_passed_through():
    from tests.support.codecs import EncryptionCodec

SECRET = "not to be told"  # noqa: S105 - a test's secret


@activity.defn
async def double(number: int) -> int:
    """Return twice the number; wait for ever before that of nothing."""
    if number < 0:
        raise ValueError("no negative numbers")
    if number == 0:
        await asyncio.Event().wait()
    return 2 * number


@workflow.defn
class DoubleJob:
    """Doubles a number once per key."""

    @workflow.run
    async def run(self, key: str, number: int, scope: Scope) -> int:
        """Return twice the number."""
        return await dedupe.execute_activity(
            double,
            number,
            deduplication_key=key,
            deduplication_scope=scope,
            start_to_close_timeout=timedelta(minutes=5),
        )


@asynccontextmanager
async def worker(client: Client, **settings: Any) -> AsyncGenerator[None]:
    """Serve the job, and the keys."""
    plugin = dedupe.DedupePlugin(organization="acme", project="cli", task_queue="cli-keys", **settings)
    async with Worker(client, task_queue="cli", workflows=[DoubleJob], activities=[double], plugins=[plugin]):
        yield


async def doubled(client: Client, key: str, *, number: int = 21, scope: Scope = Scope.PROJECT) -> None:
    """Have a job call with a key; wait for its end, or for the beginning of one that has none."""
    job = await client.start_workflow(
        DoubleJob.run, args=[key, number, scope], id=f"job-{key}", task_queue="cli"
    )
    if number:
        await job.result()
        return
    keys = dedupe.DedupeKeys(client, organization="acme", project="cli")
    await until(lambda: keys.get(key), what=f"the execution of {key!r}")


async def started(
    address: str | None,
    *arguments: str,
    variables: Mapping[str, str] = MappingProxyType({}),
    stdout: int = PIPE,
) -> Process:
    """Start the command line."""
    name, *rest = arguments
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TEMPORAL_")}
    where = {} if address is None else {"TEMPORAL_ADDRESS": address}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dedupe", name, "--organization", "acme", "--project", "cli", *rest),
        env={**inherited, **where, **variables},
        stdout=stdout,
        stderr=PIPE,
    )


async def command(address: str | None, *arguments: str, **variables: str) -> tuple[int | None, str, str]:
    """Run the command line. Return exit status, stdout and stderr."""
    process = await started(address, *arguments, variables=variables)
    stdout, stderr = await process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


async def test_a_key_is_shown_listed_and_forgotten(running_server: str) -> None:
    """What a job recorded is printed as JSON, listed by prefix, and gone once it is forgotten."""
    client = await Client.connect(running_server)
    key = f"shown-{uuid.uuid4()}"
    async with worker(client):
        await doubled(client, key)

        status, shown, _ = await command(running_server, "show", key)
        assert status == 0
        record = json.loads(shown)
        assert (record["key"], record["state"], record["result_json"]) == (key, "succeeded", "42")
        assert record["started_by"] == f"job-{key}"

        listed = ""
        while not listed:  # visibility lags behind
            _, listed, _ = await command(running_server, "list", "--prefix", key[:12])
        assert json.loads(listed) == record

        assert (await command(running_server, "forget", key))[0] == 0
        status, _, said = await command(running_server, "show", key)
        assert status == 1
        earlier = ""
        while not earlier:  # visibility lags behind
            _, earlier, _ = await command(running_server, "show", key, "--earlier")
        assert json.loads(earlier) == {**record, "ended": "forgotten"}
        _, table, _ = await command(running_server, "show", key, "--earlier", "--output", "table")
        assert "ended" in table.splitlines()[2]
        assert "forgotten" in table
        assert said == (
            f"nothing is recorded under {key!r}: "
            f"there is no workflow 'proj:acme/cli:{key}' in namespace 'default'\n"
        )


async def test_a_key_is_found_by_scope_and_job(running_server: str) -> None:
    """Scope and job are given as the call gave them."""
    client = await Client.connect(running_server)
    key = f"scoped-{uuid.uuid4()}"
    async with worker(client):
        await doubled(client, key, scope=Scope.JOB)
    assert (await command(running_server, "show", key))[0] == 1
    assert (await command(running_server, "show", key, "--scope", "job", "--job", "Other"))[0] == 1
    status, shown, _ = await command(running_server, "show", key, "--scope", "job", "--job", "DoubleJob")
    assert (status, json.loads(shown)["key"]) == (0, key)


async def test_a_key_that_is_executing_is_forgotten_by_force_only(running_server: str) -> None:
    """Without --force it is refused, and the line says how."""
    client = await Client.connect(running_server)
    key = f"executing-{uuid.uuid4()}"
    async with worker(client):
        await doubled(client, key, number=0)
        status, _, said = await command(running_server, "forget", key)
        assert (status, said.count("\n")) == (2, 1)
        assert "force" in said
        await client.get_workflow_handle(f"job-{key}").terminate()
        assert (await command(running_server, "forget", key, "--force"))[0] == 0
        assert (await command(running_server, "show", key))[0] == 1


@workflow.defn
class HoldJob:
    """Doubles a number once per key, and holds the key where nobody knows whether it did."""

    @workflow.run
    async def run(self, key: str) -> int:
        """Return what is said in the end."""
        return await dedupe.execute_activity(
            double,
            0,
            deduplication_key=key,
            on_unknown="hold",
            start_to_close_timeout=timedelta(milliseconds=500),
        )


async def test_a_held_key_is_shown_and_resolved(running_server: str) -> None:
    """It says why it is held; a person says what happened, and all who wait get that."""
    client = await Client.connect(running_server)
    key = f"held-{uuid.uuid4()}"
    plugin = dedupe.DedupePlugin(organization="acme", project="cli", task_queue="cli-keys")
    async with Worker(
        client, task_queue="cli-hold", workflows=[HoldJob], activities=[double], plugins=[plugin]
    ):
        job = await client.start_workflow(HoldJob.run, key, id=f"job-{key}", task_queue="cli-hold")

        async def shown() -> Any:
            status, printed, _ = await command(running_server, "show", key)
            return status == 0 and json.loads(printed)["state"] == "held" and json.loads(printed)

        record = await until(shown, what="the key that is held")
        assert "without an answer" in record["held"]
        _, table, _ = await command(running_server, "show", key, "--output", "table")
        assert "held because" in table
        assert (await command(running_server, "forget", key))[0] == 2
        status, _, said = await command(running_server, "resolve", key, "--happened")
        assert (status, "may be under way" in said) == (2, True)
        resolving = ("resolve", key, "--happened", "--result", "42", "--force", "--reason", "ticket 7")
        assert await command(running_server, *resolving) == (0, "", "resolved\n")
        assert await job.result() == 42
        assert "ticket 7" in (await command(running_server, "show", key))[1]
        status, _, said = await command(running_server, "resolve", key, "--did-not-happen")
        assert (status, "it has succeeded" in said) == (2, True)
        for wrong in ([], ["--happened", "--did-not-happen"], ["--did-not-happen", "--result", "1"]):
            assert (await command(running_server, "resolve", key, *wrong))[0] == 2


async def test_what_failed_is_retried(running_server: str) -> None:
    """With the arguments that it had, in a job of the package's own; what has not failed is not."""
    client = await Client.connect(running_server)
    key = f"retried-{uuid.uuid4()}"
    failing = [True]

    @activity.defn(name="double")
    async def sometimes(number: int) -> int:
        if failing[0]:
            raise ApplicationError("down", type="Down", non_retryable=True)
        return 2 * number

    plugin = dedupe.DedupePlugin(organization="acme", project="cli", task_queue="cli-keys")
    async with Worker(
        client, task_queue="cli-retry", workflows=[DoubleJob], activities=[sometimes], plugins=[plugin]
    ):
        with pytest.raises(WorkflowFailureError):
            await client.execute_workflow(
                DoubleJob.run, args=[key, 21, Scope.PROJECT], id=f"job-{key}", task_queue="cli-retry"
            )
        assert await command(running_server, "retry", key, "--dry-run") == (
            0,
            f"{key}\n",
            "1 would be started again\n",
        )
        failing[0] = False
        status, job, said = await command(running_server, "retry", key, "--reason", "ticket 7")
        assert (status, said) == (0, "started again\n")
        await client.get_workflow_handle(job.strip()).result()
        record = json.loads((await command(running_server, "show", key))[1])
        assert (record["state"], record["result_json"], record["generation"]) == ("succeeded", "42", 2)
        status, _, said = await command(running_server, "retry", key)
        assert (status, "it has succeeded" in said) == (2, True)
        status, _, said = await command(running_server, "retry", f"never-{key}")
        assert (status, "nothing is recorded" in said) == (2, True)
        assert (await command(running_server, "retry"))[0] == 2


async def test_many_keys_are_resolved_and_retried_at_once(running_server: str, tmp_path: Path) -> None:
    """Those of a file, or those that options say: each is tried, whatever became of the others."""
    client = await Client.connect(running_server)
    prefix = f"many-{uuid.uuid4()}"
    held = [f"{prefix}-{number}" for number in range(3)]
    plugin = dedupe.DedupePlugin(organization="acme", project="cli", task_queue="cli-keys")
    async with Worker(
        client, task_queue="cli-many", workflows=[HoldJob], activities=[double], plugins=[plugin]
    ):
        jobs = [
            await client.start_workflow(HoldJob.run, key, id=f"job-{key}", task_queue="cli-many")
            for key in held
        ]

        async def are_held() -> bool:
            _, listed, _ = await command(
                running_server, "list", "--state", "held", "--prefix", prefix, "--output", "jsonl"
            )
            return len(listed.splitlines()) == len(held)

        await until(are_held, what="three keys that are held")
        file = tmp_path / "keys.txt"
        file.write_text(f"{held[0]}\n\nnever-{prefix}\n")
        resolving = ("resolve", "--happened", "--result", "42", "--force")
        status, _, said = await command(running_server, *resolving, "--file", str(file))
        assert status == 2
        assert "nothing is recorded" in said
        assert said.endswith("1 resolved, 1 failed\n")
        rest = (*resolving, "--prefix", prefix)
        status, names, said = await command(running_server, *rest, "--dry-run")
        assert (status, sorted(names.split()), said) == (0, held[1:], "2 would be resolved\n")
        assert await command(running_server, *rest) == (0, "", "2 resolved, 0 failed\n")
        assert [await job.result() for job in jobs] == [42, 42, 42]
        status, _, said = await command(running_server, "retry", "--yes", *held)
        assert (status, said.splitlines()[-1]) == (2, "0 started again, 3 failed")


async def test_an_execution_that_is_under_way_is_shown(running_server: str) -> None:
    """Who executes, and which attempt it is; with links where the Web UI is known."""
    client = await Client.connect(running_server)
    key = f"under-way-{uuid.uuid4()}"
    async with worker(client):
        await doubled(client, key, number=0)
        shown: dict[str, Any] = {}
        while not (shown.get("attempts") or {}).get("worker"):
            _, printed, _ = await command(running_server, "show", key, DEDUPE_UI="http://ui/")
            shown = json.loads(printed)
        assert (shown["state"], shown["attempts"]["number"], shown["attempts"]["is_running"]) == (
            "executing",
            1,
            True,
        )
        assert shown["attempts"]["worker"] == client.identity
        assert shown["key's page"] == f"http://ui/namespaces/default/workflows/proj%3Aacme%2Fcli%3A{key}"
        status, table, _ = await command(running_server, "show", key, "--output", "table")
        assert status == 0
        assert "attempt 1 runs on worker" in table
        await client.get_workflow_handle(f"job-{key}").terminate()


async def test_a_job_that_fails_again_and_again_is_shown(running_server: str) -> None:
    """A key whose attempts fail says so, and when the next one is due."""
    client = await Client.connect(running_server)
    key = f"failing-{uuid.uuid4()}"
    async with worker(client):
        job = await client.start_workflow(
            DoubleJob.run, args=[key, -1, Scope.PROJECT], id=f"job-{key}", task_queue="cli"
        )
        shown: dict[str, Any] = {}
        while (shown.get("attempts") or {}).get("number", 0) < 2:
            _, printed, _ = await command(running_server, "show", key)
            shown = json.loads(printed or "{}")
        assert shown["attempts"]["last_failure"] == "no negative numbers"
        await job.terminate()


async def test_records_are_listed_and_counted_by_what_they_are(running_server: str) -> None:
    """By state, activity and time; and no more than asked for."""
    client = await Client.connect(running_server)
    name = f"many-{uuid.uuid4().hex[:6]}"
    keys = [f"{name}-{number}" for number in range(12)]
    async with worker(client):
        for key in keys:
            await doubled(client, key)
    for filters, found in (
        (["--state", "succeeded", "--activity", "double", "--since", "10m"], 12),
        (["--limit", "5"], 5),
        (["--state", "failed"], 0),
        (["--activity", "other"], 0),
        (["--older-than", "1h"], 0),
        (["--until", "2020-01-01T00:00"], 0),
    ):

        async def listed(filters: list[str] = filters) -> list[Any]:
            status, printed, _ = await command(
                running_server, "list", "--prefix", name, "--output", "json", *filters
            )
            assert status == 0
            records: list[Any] = json.loads(printed)
            return records

        await until(_has(listed, found), what=f"{found} records of {filters}")
    _, counted, _ = await command(running_server, "stats", "--prefix", name)
    assert [json.loads(line) for line in counted.splitlines()] == [
        {"state": "succeeded", "activity": "double", "keys": 12}
    ]
    _, table, _ = await command(running_server, "list", "--prefix", name, "--output", "table")
    assert all(key in table for key in keys)
    assert (await command(running_server, "list", "--since", "yesterday"))[0] == 2


def _has(listed: Any, number: int) -> Any:
    async def has() -> bool:
        return len(await listed()) == number

    return has


async def test_many_keys_are_forgotten_at_once(running_server: str, tmp_path: Path) -> None:
    """From a file, or by what they are; a dry run only says so, and doing it twice does no harm."""
    client = await Client.connect(running_server)
    name = f"bulk-{uuid.uuid4().hex[:6]}"
    keys = [f"{name}-{number}" for number in range(60)]
    async with worker(client):
        for begin in range(0, len(keys), 10):
            await asyncio.gather(*(doubled(client, key) for key in keys[begin : begin + 10]))
        file = tmp_path / "keys"
        file.write_text("\n".join([*keys[:50], f"{name}-no-such-key", ""]))

        status, _, said = await command(running_server, "forget", "--file", str(file), "--dry-run")
        assert (status, said) == (0, "51 would be forgotten\n")
        assert (await command(running_server, "show", keys[0]))[0] == 0

        arguments = ("forget", "--file", str(file), "--reason", "ticket 7")
        assert await command(running_server, *arguments) == (
            0,
            "",
            "50 forgotten, 1 without a record, 0 failed\n",
        )
        assert (await command(running_server, *arguments))[0] == 1
        ended = client.get_workflow_handle(f"proj:acme/cli:{keys[0]}")
        last = [event async for event in ended.fetch_history_events()][-1]
        assert last.workflow_execution_terminated_event_attributes.reason == "forgotten: ticket 7"

        async def are_listed() -> bool:
            return len((await command(running_server, "list", "--prefix", name))[1].splitlines()) == 10

        await until(are_listed, what="the listing of ten keys")
        status, _, said = await command(running_server, "forget", "--prefix", name, "--yes")
        assert (status, said) == (0, "10 forgotten, 0 failed\n")
    for which in ([], ["a-key", "--state", "failed"]):
        status, _, said = await command(running_server, "forget", *which)
        assert status == 2
        assert "give either keys" in said


async def test_a_project_without_keys_says_so(running_server: str) -> None:
    """A record that is not there is told from a project, or a secret, that does not fit."""
    status, _, said = await command(running_server, "show", "any", "--project", "empty")
    assert status == 1
    assert "No key of scope 'project' exists in project acme/empty" in said


async def test_what_encrypts_can_be_named(running_server: str, tmp_path: Path) -> None:
    """With the project's data converter, records under a payload codec are read."""
    secret = os.urandom(32)
    (tmp_path / "house.py").write_text(
        "from dataclasses import replace\n"
        "from temporalio.converter import DataConverter\n"
        "from tests.support.codecs import EncryptionCodec\n"
        f"converter = replace(DataConverter.default, payload_codec=EncryptionCodec({secret!r}))\n"
    )
    converter = replace(DataConverter.default, payload_codec=EncryptionCodec(secret))
    client = await Client.connect(running_server, data_converter=converter)
    key = f"encrypted-{uuid.uuid4()}"
    async with worker(client):
        await doubled(client, key)
    path = os.pathsep.join([str(tmp_path), str(Path.cwd())])
    status, shown, _ = await command(
        running_server, "show", key, PYTHONPATH=path, DEDUPE_DATA_CONVERTER="house:converter"
    )
    assert (status, json.loads(shown)["result_json"]) == (0, "42")
    status, _, said = await command(
        running_server, "show", key, "--converter", "house:nothing", PYTHONPATH=path
    )
    assert (status, said) == (
        2,
        "dedupe: house:nothing is not a data converter: name one as module:attribute\n",
    )


async def test_a_query_leaves_keys_out(running_server: str) -> None:
    """What `exclude` prints, in the query of a batch, finds jobs and no keys."""
    client = await Client.connect(running_server)
    key = f"excluded-{uuid.uuid4()}"
    async with worker(client):
        await doubled(client, key)
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "dedupe", "exclude", stdout=PIPE)
    printed, _ = await process.communicate()
    query = printed.decode().strip()
    key_id = f"proj:acme/cli:{key}"

    async def found(where: str) -> set[str]:
        return {found.id async for found in client.list_workflows(where)}

    either = f"(WorkflowId = '{key_id}' OR WorkflowId = 'job-{key}')"

    async def both() -> bool:
        return await found(either) == {key_id, f"job-{key}"}

    await until(both, what="the listing of job and key")
    assert await found(f"{either} AND {query}") == {f"job-{key}"}


async def test_hidden_keys_are_found_with_the_secret_in_the_environment(running_server: str) -> None:
    """The secret is no argument, which other users of the machine could read."""
    client = await Client.connect(running_server)
    key = f"hidden-{uuid.uuid4()}"
    async with worker(client, key_secret=SECRET):
        await doubled(client, key)
    assert (await command(running_server, "show", key))[0] == 1
    status, shown, _ = await command(running_server, "show", key, DEDUPE_KEY_SECRET=SECRET)
    record = json.loads(shown)
    assert (status, record["result_json"]) == (0, "42")
    assert key not in record["key"] + record["workflow_id"]


async def test_what_is_wrong_is_said_in_a_line(running_server: str) -> None:
    """A key that is none, and a service or namespace that is not there, end in one line and status 2."""
    status, _, said = await command(running_server, "show", "")
    assert (status, said.count("\n")) == (2, 1)
    assert said.startswith("dedupe: invalid deduplication key: it is empty")
    for address, variables in (
        ("127.0.0.1:1", {}),
        (":", {}),
        (None, {"TEMPORAL_NAMESPACE": "no-such-namespace"}),
        (running_server, {"TEMPORAL_NAMESPACE": "no-such-namespace"}),
        (running_server, {"TEMPORAL_TLS_CLIENT_CERT_PATH": "/no/such/file"}),
    ):
        for name in ("show", "forget"):
            status, _, said = await command(address, name, "any", **variables)
            assert (status, said.count("\n"), said[:8]) == (2, 1, "dedupe: ")


async def test_a_record_that_cannot_be_decoded_is_said_in_a_line(running_server: str) -> None:
    """Records under a payload codec, which the command line has not, are named, and nothing of them shown."""
    codec = EncryptionCodec(os.urandom(32))
    encrypted = await Client.connect(
        running_server, data_converter=replace(DataConverter.default, payload_codec=codec)
    )
    key = f"encrypted-{uuid.uuid4()}"
    async with worker(encrypted):
        await doubled(encrypted, key)
    status, _, said = await command(running_server, "show", key)
    assert (status, said.count("\n")) == (2, 1)
    assert f"record of deduplication key 'proj:acme/cli:{key}' cannot be read" in said


async def test_nobody_has_to_read_to_the_end(running_server: str) -> None:
    """Output into a pipe that is closed, as `head` leaves it, ends the command without a word."""
    client = await Client.connect(running_server)
    key = f"piped-{uuid.uuid4()}"
    async with worker(client):
        await doubled(client, key)
    read, write = os.pipe()
    os.close(read)
    process = await started(running_server, "show", key, stdout=write)
    os.close(write)
    _, said = await process.communicate()
    assert (process.returncode, said) == (128 + signal.SIGPIPE, b"")


async def test_an_interrupted_command_says_so() -> None:
    """Ctrl-C at a service that does not answer ends in one line, and with the shell's status for it."""
    called = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        process = await started(f"127.0.0.1:{port}", "show", "any")
        await called.wait()
        process.send_signal(signal.SIGINT)
        _, said = await process.communicate()
    assert (process.returncode, said) == (128 + signal.SIGINT, b"dedupe: interrupted\n")


async def test_search_attributes_are_registered(running_server: str) -> None:
    """They are missing in a new namespace, and then there; a list has the service find what failed."""
    client = await new_namespace(await Client.connect(running_server))
    namespace = {"TEMPORAL_NAMESPACE": client.namespace}
    names = ("DedupeKey", "DedupeActivity", "DedupeState")

    async def said(*options: str) -> tuple[int | None, list[str]]:
        status, printed, _ = await command(running_server, "search-attributes", *options, **namespace)
        return status, printed.splitlines()

    assert await said() == (1, [f"{name}: missing" for name in names])
    assert await said("--add") == (0, [f"{name}: registered" for name in names])
    assert await said("--add") == (0, [f"{name}: there" for name in names])

    @activity.defn(name="double")
    async def declined(number: int) -> int:
        raise ApplicationError(f"{number} is not doubled", non_retryable=True)

    plugin = dedupe.DedupePlugin(
        organization="acme", project="cli", task_queue="cli-keys", search_attributes=True
    )
    async with Worker(
        client, task_queue="cli", workflows=[DoubleJob], activities=[declined], plugins=[plugin]
    ):
        with pytest.raises(WorkflowFailureError):
            await client.execute_workflow(
                DoubleJob.run, args=["searched", 21, Scope.PROJECT], id="job-searched", task_queue="cli"
            )
        listed = ""
        while not listed:  # visibility lags behind
            _, listed, _ = await command(
                running_server, "list", "--state", "failed", "--search-attributes", **namespace
            )
    assert json.loads(listed)["key"] == "searched"
