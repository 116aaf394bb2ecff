"""Powertools' idempotency on Redis. It has no durable step: its floor is one write to its own store."""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module, metadata
from shutil import which
from subprocess import DEVNULL, Popen
from typing import Any

from benchmarks.peers.laps import CONCURRENCY, Call, Options, Ways, options, run
from benchmarks.processes import free_port

_START = 10.0


async def measure(given: Options) -> None:
    """Start Redis, set the decorator up and run the rounds."""
    binary = which("redis-server")
    if binary is None:
        raise SystemExit("no redis-server: install it (Debian: apt-get install redis-server)")
    port = free_port()
    server = Popen(  # noqa: ASYNC220 - it returns at once
        [
            binary,
            "--port",
            str(port),
            "--dir",
            str(given.directory),
            "--appendonly",
            "yes",
            "--daemonize",
            "no",
        ],
        stdout=DEVNULL,
    )
    try:
        await asyncio.to_thread(_wait, port)
        await run(
            _ways(port),
            rounds=given.rounds,
            jobs=given.jobs,
            version=f"{metadata.version('aws-lambda-powertools')} on Redis",
        )
    finally:
        server.terminate()


def _ways(port: int) -> Ways:
    idempotency: Any = import_module("aws_lambda_powertools.utilities.idempotency")
    cache: Any = import_module("aws_lambda_powertools.utilities.idempotency.persistence.redis")
    store: Any = import_module("redis").Redis(host="127.0.0.1", port=port, decode_responses=True)
    layer: Any = cache.RedisCachePersistenceLayer(client=store)
    config: Any = idempotency.IdempotencyConfig()

    def effect(*, key: str) -> str:
        return key

    once: Any = idempotency.idempotent_function(
        effect, data_keyword_argument="key", persistence_store=layer, config=config
    )
    pool = ThreadPoolExecutor(CONCURRENCY)

    def way(one: Callable[[str], object], *, fresh: bool) -> Call:
        def job(key: str, calls: int) -> None:
            for call in range(calls):
                one(f"{key}-{call}" if fresh else key)

        async def call(key: str, calls: int) -> None:
            await asyncio.get_running_loop().run_in_executor(pool, job, key, calls)

        return call

    return Ways(
        plain=way(lambda key: store.set(key, effect(key=key)), fresh=True),
        miss=way(lambda key: once(key=key), fresh=True),
        hit=way(lambda key: once(key=key), fresh=False),
    )


def _wait(port: int) -> None:
    redis: Any = import_module("redis")
    ends = time.monotonic() + _START
    while time.monotonic() < ends:
        with suppress(redis.exceptions.ConnectionError):
            redis.Redis(host="127.0.0.1", port=port).ping()
            return
        time.sleep(0.1)
    message = "redis-server did not start"
    raise RuntimeError(message)


if __name__ == "__main__":
    os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "bench")
    os.environ.setdefault("AWS_LAMBDA_FUNCTION_NAME", "bench")
    asyncio.run(measure(options()))
