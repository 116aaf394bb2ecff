"""A server that is killed, paused or cut off while keys execute and duplicates wait."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tests.integration.effect_file import Task
from tests.integration.fault_table import Stopwatch, Table, expect_sound, tally
from tests.integration.fleet import answers_of, fleet
from tests.integration.jobs import FleetCall
from tests.integration.lasting_server import lasting_server
from tests.integration.temporal_container import TemporalContainer
from tests.support.ends import stuck

pytestmark = pytest.mark.faults

_KEYS = [f"key-{index}" for index in range(10)]
_CALLERS = 4

Fault = Callable[[], Awaitable[None]]


@pytest.mark.docker
async def test_a_server_killed_and_restarted(server: TemporalContainer, tmp_path: Path, table: Table) -> None:
    """After kill -9 and a restart on the same volume every waiting call is answered, each key once."""
    await _break(
        server.address, tmp_path, table, server.kill, server.restart, fault="server killed, restarted"
    )


@pytest.mark.docker
async def test_a_server_cut_off_for_five_seconds(
    server: TemporalContainer, tmp_path: Path, table: Table
) -> None:
    """After a cut of the network is healed every waiting call is answered, each key once."""

    async def cut() -> None:
        await server.disconnect()
        await asyncio.sleep(5)  # the length of the fault

    await _break(server.address, tmp_path, table, cut, server.reconnect, fault="network cut for 5 s")


@pytest.mark.docker
@pytest.mark.torture
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seconds", [15, 60])
async def test_a_server_paused(server: TemporalContainer, tmp_path: Path, table: Table, seconds: int) -> None:
    """After a pause longer than a workflow task may take, every waiting call is answered, each key once."""

    async def pause() -> None:
        await server.pause()
        await asyncio.sleep(seconds)  # the length of the fault

    await _break(
        server.address, tmp_path, table, pause, server.unpause, fault=f"server paused for {seconds} s"
    )


@pytest.mark.docker
@pytest.mark.torture
@pytest.mark.timeout(300)
async def test_a_server_cut_off_for_a_minute(server: TemporalContainer, tmp_path: Path, table: Table) -> None:
    """After a long cut of the network every waiting call is answered, each key once."""

    async def cut() -> None:
        await server.disconnect()
        await asyncio.sleep(60)  # the length of the fault

    await _break(server.address, tmp_path, table, cut, server.reconnect, fault="network cut for 60 s")


async def test_a_dev_server_killed_and_restarted(tmp_path: Path, table: Table) -> None:
    """The same for a server without a container, whose state is a file."""
    async with lasting_server(tmp_path) as server:

        async def kill() -> None:
            server.kill()

        await _break(
            server.address, tmp_path, table, kill, server.start, fault="dev server killed, restarted"
        )


async def _break(
    address: str, folder: Path, table: Table, break_it: Fault, heal: Fault, *, fault: str
) -> None:
    """Break the server while one key is inside its effect, nine more are on their way, and callers wait."""
    async with fleet(address, folder) as workers:
        await workers.start_many(2)
        held = FleetCall(key="held", task=Task(name="held", pause="before the effect"))
        calls = [FleetCall(key=key, task=Task(name=key, work=index / 5)) for index, key in enumerate(_KEYS)]
        handles = {"held": await workers.begin(held, _CALLERS)}
        await workers.inside(held, handles["held"])
        handles |= {call.key: await workers.begin(call, _CALLERS) for call in calls}

        await break_it()
        workers.gate.open()
        await heal()
        watch = Stopwatch()
        answers = {
            key: await answers_of(called, within=timedelta(seconds=100)) for key, called in handles.items()
        }

        row = await tally(workers, answers, fault=fault, faults=1, recoveries=[watch.elapsed])
        table.add(row)
        expect_sound(row, keys=1 + len(_KEYS))
        assert await stuck(workers.client, map(workers.key_id, answers)) == []
