"""Random worker processes are killed, again and again, while jobs call keys."""

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from tests.integration.effect_file import Moment, Task
from tests.integration.fault_table import Stopwatch, Table, expect_sound, tally
from tests.integration.fleet import Fleet, answers_of, fleet
from tests.integration.jobs import FleetCall
from tests.integration.lasting_server import lasting_server
from tests.integration.processes import Process
from tests.support.ends import stuck

pytestmark = pytest.mark.faults

_BETWEEN_KILLS = 2


async def test_twenty_seconds_of_kill_9(tmp_path: Path, table: Table) -> None:
    """Whatever workers are killed, every job completes, and each key has exactly one recorded success."""
    await _storm(tmp_path, table, lasting=20, jobs=100, keys=20)


@pytest.mark.torture
@pytest.mark.timeout(600)
async def test_two_minutes_of_kill_9(tmp_path: Path, table: Table) -> None:
    """The same for two minutes, 500 jobs and 100 keys."""
    await _storm(tmp_path, table, lasting=120, jobs=500, keys=100)


async def _storm(folder: Path, table: Table, *, lasting: int, jobs: int, keys: int) -> None:
    chance = random.Random(20_240_607)
    order = [f"key-{index % keys}" for index in range(jobs)]
    chance.shuffle(order)
    async with lasting_server(folder) as server, fleet(server.address, folder) as workers:
        await workers.start_many(3)
        killing = asyncio.create_task(_kill(workers, chance, lasting=lasting))
        handles: list[WorkflowHandle[Any, Any]] = []
        for key in order:
            work = chance.uniform(0, 1.5)
            handles += await workers.begin(FleetCall(key=key, task=Task(name=key, work=work)))
            await asyncio.sleep(lasting / jobs)
        kills = await killing
        watch = Stopwatch()
        answers = await answers_of(handles, within=timedelta(minutes=2))

        by_key: dict[str, list[object]] = {key: [] for key in order}
        for key, answer in zip(order, answers, strict=True):
            by_key[key].append(answer)
        row = await tally(
            workers,
            by_key,
            fault=f"kill -9 of one worker of three, every 2 s for {lasting} s",
            faults=kills,
            recoveries=[watch.elapsed],
        )
        table.add(row)
        expect_sound(row, keys=keys)
        # Otherwise no kill has hit an attempt, and nothing was shown.
        assert row.attempts > keys
        assert await stuck(workers.client, map(workers.key_id, by_key)) == []


def _inside_an_effect(workers: Fleet, alive: Sequence[Process]) -> list[Process]:
    entries = workers.effects.entries()
    over = {(entry.pid, entry.name) for entry in entries if entry.moment is Moment.DONE}
    executing = {entry.pid for entry in entries if (entry.pid, entry.name) not in over}
    return [worker for worker in alive if worker.pid in executing]


async def _kill(workers: Fleet, chance: random.Random, *, lasting: int) -> int:
    """Kill a worker every two seconds, inside an effect where one is, and start another for it.

    Returns:
        How many were killed.
    """
    alive = list(workers.workers)
    for _ in range(lasting // _BETWEEN_KILLS):
        await asyncio.sleep(_BETWEEN_KILLS)
        victim = chance.choice(_inside_an_effect(workers, alive) or alive)
        assert victim.is_running, victim.printed
        victim.kill()
        alive.remove(victim)
        alive.append(workers.spawn())
    return lasting // _BETWEEN_KILLS
