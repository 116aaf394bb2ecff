"""DBOS on SQLite: a step is the floor; a key is the id of a child workflow, as its guide teaches it."""

import asyncio
from importlib import import_module, metadata
from typing import Any

from benchmarks.peers.laps import Options, Ways, options, run


async def effect(payload: str) -> str:
    """Do nothing."""
    return payload


async def measure(given: Options) -> None:
    """Set DBOS up and run the rounds."""
    dbos: Any = import_module("dbos")
    engine: Any = dbos.DBOS
    engine(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{given.directory / 'dbos.sqlite'}",
            "log_level": "ERROR",
            "run_admin_server": False,
        }
    )
    step: Any = engine.step()(effect)

    async def keyed() -> str:
        answer: str = await step("")
        return answer

    once: Any = engine.workflow(name="once")(keyed)

    async def plain_job(key: str, calls: int) -> None:
        del key
        for _ in range(calls):
            await step("")

    async def deduplicated_job(key: str, calls: int, fresh: int) -> None:
        for call in range(calls):
            with dbos.SetWorkflowID(f"{key}-{call}" if fresh else key):
                handle: Any = await engine.start_workflow_async(once)
            await handle.get_result()

    plain: Any = engine.workflow(name="plain")(plain_job)
    deduplicated: Any = engine.workflow(name="deduplicated")(deduplicated_job)
    engine.launch()

    async def miss(key: str, calls: int) -> None:
        await deduplicated(key, calls, 1)

    async def hit(key: str, calls: int) -> None:
        await deduplicated(key, calls, 0)

    await run(
        Ways(plain=plain, miss=miss, hit=hit),
        rounds=given.rounds,
        jobs=given.jobs,
        version=f"{metadata.version('dbos')} on SQLite",
    )
    engine.destroy()


if __name__ == "__main__":
    asyncio.run(measure(options()))
