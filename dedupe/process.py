"""The process: run a worker until a signal stops it, and end a program without a crash.

It runs in a worker's or a client's own process, around everything else.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from datetime import timedelta
from typing import Any, TypeVar

from temporalio.client import Client
from temporalio.worker import Worker

from dedupe.plugin import DedupePlugin

T = TypeVar("T")

_log = logging.getLogger("dedupe")
_REST = timedelta(milliseconds=100)
"""After the last answer, until the SDK's threads have let go of it."""
_STOP_TIMEOUT = timedelta(seconds=10)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a program as `asyncio.run` does, and end without a crash.

    The SDK's threads let go of a call a moment after it was answered; where Python has ended by then, the
    process aborts ("PyGILState_Release ... finalizing"), now and then, with any program that uses the SDK.

    Args:
        main: The program.
    """
    return asyncio.run(_to_rest(main))


async def _to_rest(main: Coroutine[Any, Any, T]) -> T:
    try:
        return await main
    finally:
        await asyncio.sleep(_REST.total_seconds())


async def serve(
    *workers: Worker, stop_timeout: timedelta = _STOP_TIMEOUT, health_address: str | None = None
) -> None:
    """Run workers until SIGTERM or SIGINT, and then until what they have begun is done.

    What happens is logged, by the logger `dedupe`. A second signal ends the process at once, as does an
    activity that does not end: after the worker's `graceful_shutdown_timeout` it is cancelled, and
    `stop_timeout` later the process is left with exit status 1. Other workers go on with what it had begun.

    Args:
        workers: The workers. None of them may be running yet.
        stop_timeout: How long activities may take to end once they are cancelled.
        health_address: Where `/livez` and `/readyz` are answered, such as `0.0.0.0:8080`; None: nowhere.

    Raises:
        OSError: The address cannot be listened at.
        Exception: A worker failed.
    """
    stopping = _stop_signal()
    with ExitStack() as stack:
        if health_address is not None:
            clients = list({id(worker.client): worker.client for worker in workers}.values())
            polling = lambda: all(worker.is_running for worker in workers)  # noqa: E731
            stack.enter_context(_answering(health_address, clients, polling=polling, draining=stopping))
        await _serve(workers, stopping, stop_timeout)


async def _serve(workers: Sequence[Worker], stopping: asyncio.Event, stop_timeout: timedelta) -> None:
    grace = max(
        (
            worker.config(active_config=True).get("graceful_shutdown_timeout", timedelta())
            for worker in workers
        ),
        default=timedelta(),
    )
    running = [asyncio.create_task(worker.run()) for worker in workers]
    for worker in workers:
        client = worker.client
        _log.info(
            "up: task queue %r, namespace %r at %s",
            worker.task_queue,
            client.namespace,
            client.service_client.config.target_host,
        )
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait({*running, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    patience = grace + stop_timeout
    try:
        async with asyncio.timeout(patience.total_seconds()):
            await asyncio.gather(*(worker.shutdown() for worker in workers))
            await asyncio.gather(*map(asyncio.shield, running))
    except TimeoutError:
        _log.error("not drained within %s: leaving what was begun to other workers", patience)
        os._exit(1)
    _log.info("drained: everything that was begun is done or handed back")


async def serve_keys(client: Client, plugin: DedupePlugin, *, health_address: str | None = None) -> None:
    """Serve the workflows of keys, and no jobs, until SIGTERM or SIGINT: see `DedupePlugin.serve_keys`.

    Args:
        client: Of the namespace of the keys.
        plugin: As the processes of jobs have it, there with `serve=False`.
        health_address: See `serve`.

    Raises:
        Exception: The service could not be asked, or the worker failed.
        OSError: The address cannot be listened at.
    """
    stopping = _stop_signal()
    serving = asyncio.create_task(plugin.serve_keys(client))
    stopped = asyncio.create_task(stopping.wait())
    with ExitStack() as stack:
        if health_address is not None:
            polling = lambda: not serving.done()  # noqa: E731
            stack.enter_context(_answering(health_address, [client], polling=polling, draining=stopping))
        _log.info("up: keys on task queue %r, namespace %r", plugin.task_queue, client.namespace)
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving
    _log.info("drained: everything that was begun is done or handed back")


def _answering(
    address: str, clients: Sequence[Client], *, polling: Callable[[], bool], draining: asyncio.Event
) -> AbstractContextManager[None]:
    from dedupe.health import answering  # noqa: PLC0415 - workflows import this package, and no HTTP server

    return answering(address, clients, polling=polling, draining=draining)


def _stop_signal() -> asyncio.Event:
    """Return what SIGTERM or SIGINT sets. A second one ends the process at once."""
    stopping = asyncio.Event()

    def stop(signum: signal.Signals) -> None:
        if stopping.is_set():
            _log.warning("%s again: leaving at once", signum.name)
            os._exit(128 + signum)
        _log.info("%s: draining; once more to leave at once", signum.name)
        stopping.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop, signum)
    return stopping
