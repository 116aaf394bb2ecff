"""Health: what is asked while the process does nothing, or cannot reach its service."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from dedupe import health
from tests.support.servers import free_port


def ask(url: str) -> tuple[int, dict[str, Any]]:
    """Return the status and the JSON of an answer. It blocks, as it is asked from another thread."""
    try:
        with urllib.request.urlopen(url) as response:  # noqa: S310 - on loopback
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


async def test_a_loop_that_is_blocked_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """An activity that blocks the event loop is found, and the process is alive once it lets go."""
    monkeypatch.setattr(health, "_PATIENCE", 0.2)
    where = f"127.0.0.1:{free_port()}"
    with health.answering(where, [], polling=lambda: True, draining=asyncio.Event()):
        assert (await asyncio.to_thread(ask, f"http://{where}/livez"))[0] == 200
        asked = asyncio.get_running_loop().run_in_executor(None, ask, f"http://{where}/livez")
        time.sleep(0.6)  # noqa: ASYNC251 - this is what is to be found
        status, said = await asked
        assert status == 503
        assert "event loop" in said["reason"]
        assert (await asyncio.to_thread(ask, f"http://{where}/livez"))[0] == 200


async def test_a_worker_that_does_not_run_is_not_ready() -> None:
    """It is alive all the same."""
    where = f"127.0.0.1:{free_port()}"
    with health.answering(where, [], polling=lambda: False, draining=asyncio.Event()):
        assert await asyncio.to_thread(ask, f"http://{where}/readyz") == (
            503,
            {"status": "unavailable", "reason": "a worker does not run"},
        )
        assert (await asyncio.to_thread(ask, f"http://{where}/livez"))[0] == 200


async def test_what_is_no_address() -> None:
    """Is said at once."""
    with (
        pytest.raises(ValueError, match="give host and port"),
        health.answering("8080", [], polling=lambda: True, draining=asyncio.Event()),
    ):
        pass
