"""Restate: `ctx.run` is the floor; a key is the idempotency key of a call, as its guide teaches it."""

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPConnection
from importlib import import_module, metadata
from pathlib import Path
from shutil import which
from typing import Any

from benchmarks.peers.laps import CONCURRENCY, Call, Options, Ways, options, run
from benchmarks.processes import free_port, started

_START = 30.0


async def effect() -> str:
    """Do nothing."""
    return "done"


def service() -> Any:
    """Return the service: a job with plain steps, a job with keys, and what it calls."""
    restate: Any = import_module("restate")
    effects: Any = restate.Service("effects")
    jobs: Any = restate.Service("jobs")

    async def once(ctx: Any) -> str:
        return str(await ctx.run_typed("effect", effect))

    keyed: Any = effects.handler()(once)

    async def plain(ctx: Any, calls: int) -> str:
        answer = ""
        for _ in range(calls):
            answer = str(await ctx.run_typed("effect", effect))
        return answer

    async def deduplicated(ctx: Any, keys: list[str]) -> str:
        answer = ""
        for one in keys:
            answer = str(await ctx.service_call(keyed, arg=None, idempotency_key=one))
        return answer

    jobs.handler()(plain)
    jobs.handler()(deduplicated)
    return restate.app([jobs, effects])


async def measure(given: Options) -> None:
    """Start the server and the service, and run the rounds."""
    binary = which("restate-server")
    if binary is None:
        raise SystemExit("no restate-server on the path: install it (npm: @restatedev/restate-server)")
    ingress, admin, port = free_port(), free_port(), free_port()
    os.environ.update(
        RESTATE_INGRESS__BIND_ADDRESS=f"127.0.0.1:{ingress}",
        RESTATE_ADMIN__BIND_ADDRESS=f"127.0.0.1:{admin}",
        RESTATE_BIND_ADDRESS=f"127.0.0.1:{free_port()}",
        RESTATE_LISTEN_MODE="tcp",
        RESTATE_LOG_FILTER="error",
        RESTATE_BASE_DIR=str(given.directory),
    )
    asgi: Any = import_module("hypercorn.asyncio")
    config: Any = import_module("hypercorn.config").Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "ERROR"
    async with started([binary], log=given.directory / "restate.log"):
        ended = asyncio.Event()
        served = asyncio.create_task(asgi.serve(service(), config, shutdown_trigger=ended.wait))
        pool = ThreadPoolExecutor(CONCURRENCY + 1)
        await _post(pool, admin, "/deployments", {"uri": f"http://127.0.0.1:{port}"}, patience=_START)
        await run(
            _ways(pool, ingress),
            rounds=given.rounds,
            jobs=given.jobs,
            version=f"{_version(Path(binary))}, SDK {metadata.version('restate-sdk')}",
        )
        ended.set()
        await served


def _ways(pool: ThreadPoolExecutor, ingress: int) -> Ways:
    async def plain(key: str, calls: int) -> None:
        del key
        await _post(pool, ingress, "/jobs/plain", calls)

    def deduplicated(*, fresh: bool) -> Call:
        async def call(key: str, calls: int) -> None:
            keys = [f"{key}-{number}" if fresh else key for number in range(calls)]
            await _post(pool, ingress, "/jobs/deduplicated", keys)

        return call

    return Ways(plain=plain, miss=deduplicated(fresh=True), hit=deduplicated(fresh=False))


async def _post(pool: ThreadPoolExecutor, port: int, path: str, body: object, *, patience: float = 0) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + patience
    while True:
        with suppress(ConnectionError):
            await loop.run_in_executor(pool, _send, port, path, json.dumps(body))
            return
        if loop.time() > ends:
            message = f"nobody answers POST {path}"
            raise RuntimeError(message)
        await asyncio.sleep(0.1)


def _send(port: int, path: str, body: str) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    if response.status >= HTTPStatus.BAD_REQUEST:
        message = f"POST {path}: {response.status} {answer[:200]!r}"
        raise RuntimeError(message)


def _version(binary: Path) -> str:
    package = binary.resolve().parents[1] / "package.json"
    return str(json.loads(package.read_text())["version"]) if package.is_file() else "server"


if __name__ == "__main__":
    asyncio.run(measure(options()))
