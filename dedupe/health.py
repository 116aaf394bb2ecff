"""Health: two HTTP addresses of a worker's process, for whatever watches it.

`/livez` says whether the process still does anything; `/readyz` whether its workers poll, and the service
answers. A process that drains is alive, and not ready.
"""

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from temporalio.client import Client
from temporalio.service import RPCError

_log = logging.getLogger("dedupe")
_PATIENCE = 5.0
"""Seconds for which the process gets to answer."""


@contextmanager
def answering(
    address: str, clients: Sequence[Client], *, polling: Callable[[], bool], draining: asyncio.Event
) -> Generator[None]:
    """Answer at an address for as long as the block runs.

    Args:
        address: Host and port: `0.0.0.0:8080`.
        clients: Of the workers of this process, and of this event loop.
        polling: Says whether all of them poll.
        draining: Set once they were told to stop.

    Raises:
        ValueError: It is no address.
        OSError: It cannot be listened at.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"{address!r} is no address: give host and port, such as 0.0.0.0:8080")
    health = _Health(clients, polling, draining, asyncio.get_running_loop())
    server = _Server((host.strip("[]"), int(port)), health)
    threading.Thread(target=server.serve_forever, name="dedupe-health", daemon=True).start()
    _log.info("health: http://%s:%s/livez and /readyz", *server.server_address[:2])
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class _Health:
    """What is asked, from another thread."""

    def __init__(
        self,
        clients: Sequence[Client],
        polling: Callable[[], bool],
        draining: asyncio.Event,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._clients = clients
        self._polling = polling
        self._draining = draining
        self._loop = loop

    def live(self) -> str | None:
        """Return what is wrong with the process; None: nothing."""
        return self._asked(_alive())

    def ready(self) -> str | None:
        """Return why no work is taken; None: it is."""
        return self._asked(self._why_not_ready())

    def _asked(self, question: Coroutine[Any, Any, str | None]) -> str | None:
        answer = asyncio.run_coroutine_threadsafe(question, self._loop)
        try:
            return answer.result(_PATIENCE)
        except TimeoutError:
            answer.cancel()
            return f"the event loop has not answered for {_PATIENCE:g} seconds: does an activity block it?"

    async def _why_not_ready(self) -> str | None:
        if self._draining.is_set():
            return "draining"
        if not self._polling():
            return "a worker does not run"
        try:
            async with asyncio.timeout(_PATIENCE / 2):
                for client in self._clients:
                    await client.service_client.check_health()
        except (RPCError, RuntimeError, TimeoutError) as error:
            return f"the service does not answer: {str(error) or type(error).__name__}"
        return None


async def _alive() -> None:
    """Be run at all."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], health: _Health) -> None:
        super().__init__(address, _Handler)
        self.health = health


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer."""
        health = cast("_Server", self.server).health
        match self.path.partition("?")[0]:
            case "/livez":
                self._answer(health.live())
            case "/readyz":
                self._answer(health.ready())
            case _:
                self.send_error(HTTPStatus.NOT_FOUND, "ask for /livez or /readyz")

    def _answer(self, wrong: str | None) -> None:
        content = json.dumps({"status": "ok" if wrong is None else "unavailable", "reason": wrong}).encode()
        self.send_response(HTTPStatus.OK if wrong is None else HTTPStatus.SERVICE_UNAVAILABLE)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: probes come every few seconds."""
