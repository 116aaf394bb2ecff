"""Workers with the plugin, from their start to their end: what keeps one from starting says so."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client
from temporalio.plugin import SimplePlugin
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

import dedupe.plugin
from dedupe import DedupePlugin, KeyState
from dedupe.key.server import serving
from tests.support.codecs import EncryptionCodec
from tests.support.ground import Ground, Grounds
from tests.support.scripts import Call, Script, returned
from tests.support.servers import with_plugins

_Run = Callable[[Worker], Awaitable[None]]


async def _within(worker: Worker) -> None:
    async with worker:
        await asyncio.Event().wait()


@pytest.fixture(params=[Worker.run, _within], ids=["run", "async with"])
def run(request: pytest.FixtureRequest) -> _Run:
    """Each of the two ways to run a worker."""
    way: _Run = request.param
    return way


async def _fails(worker: Worker, run: _Run) -> str:
    """Run a worker that cannot start; return why."""
    with pytest.raises((RPCError, ValueError, RuntimeError)) as caught:
        async with asyncio.timeout(30):
            await run(worker)
    return str(caught.value)


async def test_a_service_that_refuses_the_first_question_ends_the_worker(
    real: Ground, run: _Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is raised, where the worker is run and where its block is left."""

    async def refuse(client: Client) -> bool:
        del client
        raise RPCError("the token has expired", RPCStatusCode.UNAUTHENTICATED, b"")

    monkeypatch.setattr(dedupe.plugin, "is_time_skipping", refuse)
    worker = Worker(real.client, task_queue=real.task_queue, workflows=[Script])
    assert "the token has expired" in await _fails(worker, run)


async def test_activities_that_another_plugin_adds_late_end_the_worker(real: Ground, run: _Run) -> None:
    """The plugin cannot know of those that are added after it looked; nobody would poll for them."""
    late = SimplePlugin("late", activities=[real.effects.effect])
    worker = Worker(real.client, task_queue=real.task_queue, workflows=[Script], plugins=[late])
    assert "give them to the worker itself" in await _fails(worker, run)


async def test_activities_that_another_plugin_adds_in_time_are_run(real: Ground) -> None:
    """A plugin before this one may bring the activities."""
    early = SimplePlugin("early", activities=[real.effects.effect])
    plugins = [early, real.plugin]
    async with Worker(real.server, task_queue=real.task_queue, workflows=[Script], plugins=plugins):
        assert await real.call() == returned("argument")


async def test_a_key_server_that_cannot_start_ends_the_worker(
    real: Ground, run: _Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without anybody to serve the keys, a worker of jobs does not pretend to work."""

    def broken(*_args: Any, **_settings: Any) -> None:
        raise RuntimeError("no more sockets")

    monkeypatch.setattr(dedupe.plugin, "serving", broken)
    worker = Worker(real.client, task_queue=real.task_queue, workflows=[Script])
    assert "no more sockets" in await _fails(worker, run)


def test_the_task_queue_of_the_keys_is_for_no_jobs(real: Ground) -> None:
    """A worker that took the tasks of keys for those of jobs would fail them all."""
    with pytest.raises(ValueError, match=f"'{real.key_queue}' is where the workflows of keys live"):
        Worker(real.client, task_queue=real.key_queue, workflows=[Script])


@pytest.mark.parametrize(
    "settings",
    [
        {"max_cached_keys": -1},
        {"task_queue": ""},
        {"task_queue": "\ud800"},
        {"task_queue": "q" * 1_001},
        {"task_queue": None},
    ],
    ids=["cache", "empty queue", "no text", "long queue", "no queue"],
)
def test_settings_that_no_worker_can_have_are_refused(settings: dict[str, Any]) -> None:
    """They are refused when the plugin is made, by their names, and not call by call."""
    [name] = settings
    with pytest.raises(ValueError, match=name):
        DedupePlugin(organization="acme", project="web", **settings)


async def test_a_key_server_that_has_ended_is_not_given_to_the_next_worker(real: Ground) -> None:
    """A worker that starts while the workers of a failed key server still drain gets a new key server."""
    settings: dict[str, Any] = {"task_queue": real.key_queue, "max_cached_keys": 10, "activities": []}
    async with serving(real.client, **settings) as failed:
        await failed.stop()
        async with serving(real.client, **settings) as next_one, real.worker():
            assert next_one is not failed
            assert await real.call() == returned("argument")


async def test_keys_can_be_served_by_a_process_of_their_own(real_grounds: Grounds) -> None:
    """With serve=False, what is delegated waits until somebody serves the keys: `serve_keys` is enough."""
    ground = real_grounds(serve=False, in_place=False)
    async with ground.worker():
        job = await ground.start_script(Call())
        await ground.claiming(1)
        serving = asyncio.create_task(ground.plugin.serve_keys(ground.server))
        assert await job.result() == [[returned("argument")]]
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving
    assert len(ground.effects.attempts) == 1


async def test_a_key_that_nobody_serves_waits_for_a_server(real_client: Client) -> None:
    """With serve=False and nobody else serving, calls wait; a server that comes later carries them out."""
    ground = Ground.on(real_client, skips_time=False, serve=False, in_place=False)
    async with ground.worker():
        job = await ground.start_script(Call())
        await ground.claiming(1)
        await ground.reached(KeyState.EXECUTING)
        assert ground.effects.attempts == []
        plugin = DedupePlugin(
            organization=ground.organization, project=ground.project, task_queue=ground.key_queue
        )
        async with Worker(
            with_plugins(real_client, plugin),
            task_queue=f"idle-{uuid4()}",
            activities=[ground.effects.effect],
        ):
            assert await job.result() == [[returned("argument")]]
    await ground.replay()


async def test_workers_of_one_client_share_one_key_server(real: Ground) -> None:
    """Several workers of one client run one embedded worker, which serves until the last has drained."""
    async with asyncio.timeout(60), real.worker():
        async with real.worker(task_queue=f"second-{uuid4()}"):
            assert await real.call(Call(argument="first")) == returned("first")
        assert await real.call(Call(argument="second", key="second")) == returned("second")


async def test_workers_with_a_plugin_each_share_one_key_server(real: Ground) -> None:
    """They do if their client is the same; one that starts when all others have stopped has a new one."""

    def worker(task_queue: str) -> Worker:
        return Worker(
            real.server,
            task_queue=task_queue,
            workflows=[Script],
            activities=[real.effects.effect],
            plugins=[DedupePlugin(organization=real.organization, project="web", task_queue=real.key_queue)],
        )

    async with worker("first"):
        async with worker(real.task_queue):
            assert await real.call(Call(key="a")) == returned("argument")
        first = worker(real.task_queue)
        async with first:
            assert await real.call(Call(key="b")) == returned("argument")
    async with worker(real.task_queue):
        assert await real.call(Call(key="c")) == returned("argument")


def test_a_worker_with_the_plugin_of_another_project_is_refused(real: Ground) -> None:
    """A worker whose client has one project's plugin does not silently go without its own."""
    other = DedupePlugin(organization=real.organization, project="other")
    with (
        pytest.warns(UserWarning, match="same plugin type"),
        pytest.raises(ValueError, match="different DedupePlugins"),
    ):
        Worker(real.client, task_queue="any", workflows=[Script], plugins=[other])


async def test_a_client_with_another_codec_is_not_served_by_the_first_ones_server(
    real: Ground, run: _Run
) -> None:
    """It could read none of its keys: its calls would have neither result nor error."""
    converter = replace(real.server.data_converter, payload_codec=EncryptionCodec(bytes(16)))
    other = with_plugins(real.server, real.plugin, data_converter=converter)
    async with real.worker():
        assert await real.call() == returned("argument")
        worker = Worker(other, task_queue=f"other-{uuid4()}", workflows=[Script])
        assert "another data converter" in await _fails(worker, run)
        assert await real.call() == returned("argument")
